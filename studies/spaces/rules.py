"""Networks with a named rule of thresholds, or whose output does not fire; weights of any size."""

from studies.space import Choice, Number, Rise, Space

FIXED = Space(
    #      key                         range           scale
    Number("threshold.theta_0",        0.05, 30.0,     log=True),
    Number("neuron.beta",              0.05, 0.999),
    Number("neuron.slope",             0.05, 30.0,     log=True),
    Number("optimizer.lr",             1e-5, 0.3,      log=True),
)  # fmt: skip
# Where learned thresholds have a rate of their own.
OWN_RATE = Space(
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
# Thresholds that rise, each layer's at its own pace.
RISING = Space(
    #      key                         range           scale
    Number("threshold.theta_0",        0.05, 30.0,     log=True, per="layer"),
    Rise("threshold.theta_inf",        0.1, 30.0,      log=True, per="layer"),
    Number("threshold.alpha",          1e-4, 0.5,      log=True, per="layer"),
    Choice("neuron.surrogate_centre",  "clamped", "moving"),
)  # fmt: skip


def space(*, annealed: bool, readout: bool, own_rate: bool) -> Space:
    """What is searched.

    Args:
        annealed: whether thresholds rise to θ∞.
        readout: whether the output does not fire.
        own_rate: whether thresholds are learned at a rate of their own.
    """
    table = READOUT if readout else FIXED
    if annealed:
        table = RISING + table.without("threshold.theta_0")
    return table + OWN_RATE if own_rate else table
