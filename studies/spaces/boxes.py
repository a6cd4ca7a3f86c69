"""Detectors: thresholds of the layers that fire, decays of all, and the rate."""

from studies.space import Number, Rise, Space
from studies.spaces import rules

FIXED = rules.READOUT
ANNEALED = Space(
    #      key                         range           scale
    Number("threshold.theta_0",        0.05, 30.0,     log=True, per="layer"),
    Rise("threshold.theta_inf",        0.1, 30.0,      log=True, per="layer"),
    Number("threshold.alpha",          1e-4, 0.5,      log=True, per="layer"),
) + FIXED.without("threshold.theta_0")  # fmt: skip
