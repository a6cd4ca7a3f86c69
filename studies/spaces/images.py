"""Still images: thresholds of up to tens of inputs, annealed over thousands of iterations."""

from studies.space import Choice, Number, Rise, Space

UNIT = Space(
    #      key                         range           scale
    Number("neuron.beta",              0.05, 0.999),
    Number("neuron.slope",             0.1, 30.0,      log=True),
    Number("optimizer.lr",             1e-4, 3e-2,     log=True),
    Number("network.dropout",          0.0, 0.9,       per="dense layer"),
    Choice("training.grad_clip",       None, 1.0),
    Choice("training.weight_clip",     None, 1.0),
    Choice("network.norm",             "per-step", "none"),
)  # fmt: skip
FIXED = Space(
    Number("threshold.theta_0",        0.5, 30.0,      log=True),
) + UNIT  # fmt: skip
ANNEALED = Space(
    Number("threshold.theta_0",        0.5, 30.0,      log=True, per="layer"),
    Rise("threshold.theta_inf",        0.1, 30.0,      log=True, per="layer"),
    Number("threshold.alpha",          1e-4, 0.5,      log=True, per="layer"),
    Choice("neuron.surrogate_centre",  "clamped", "moving"),
) + UNIT  # fmt: skip
