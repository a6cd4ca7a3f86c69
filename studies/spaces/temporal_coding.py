"""Temporal coding: two dense layers whose thresholds have scales of their own."""

from studies.space import Choice, Follows, Number, Rise, Space

UNIT = Space(
    #      key                         range           scale
    Number("neuron.beta",              0.0, 0.95),
    Number("neuron.slope",             0.01, 30.0,     log=True),
    Number("optimizer.lr",             1e-6, 1e-1,     log=True),
    Choice("training.grad_clip",       None, 1.0),
)  # fmt: skip
FIXED = Space(
    Number("threshold.theta_0",        0.5, 600.0,     log=True),
    Follows("data.options.peak",       "threshold.theta_0"),
) + UNIT  # fmt: skip
ANNEALED = Space(
    Number("threshold.theta_0",        0.5, 600.0,     log=True, per="layer"),
    Rise("threshold.theta_inf",        0.01, 600.0,    log=True, per="layer"),
    Number("threshold.alpha",          1e-4, 0.3,      log=True, per="layer"),
    Follows("data.options.peak",       "threshold.theta_inf"),
    Choice("neuron.surrogate_centre",  "clamped", "moving"),
) + UNIT  # fmt: skip
