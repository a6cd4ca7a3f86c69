"""Networks with a threshold rule named: fixed, learned, or a user's own; weights of any size."""

from studies.space import Number, Space

FIXED = Space(
    #      key                         range           scale
    Number("threshold.theta_0",        0.05, 30.0,     log=True),
    Number("neuron.beta",              0.05, 0.999),
    Number("neuron.slope",             0.05, 30.0,     log=True),
    Number("optimizer.lr",             1e-5, 0.3,      log=True),
)  # fmt: skip
OWN_RATE = FIXED + Space(
    Number("optimizer.threshold_lr",   1e-6, 0.3,      log=True),
)  # fmt: skip
# The output does not fire: it has a decay, but neither threshold nor slope.
READOUT = Space(
    #      key                         range           scale
    Number("threshold.theta_0",        0.05, 30.0,     log=True),
    Number("neuron.beta",              0.05, 0.999,              per="layer"),
    Number("neuron.slope",             0.05, 30.0,     log=True),
    Number("optimizer.lr",             1e-5, 0.3,      log=True),
)  # fmt: skip
