"""Event recordings: as images, but annealing may be orders of magnitude slower.

Sparse input reaches a rising threshold late (Eshraghian and Lu 2022, Section 3
and Appendix D.3), so α goes down to 1e-6 and θ∞ up to 80.
"""

from studies.space import Choice, Number, Rise, Space
from studies.spaces import images

UNIT = images.UNIT
FIXED = images.FIXED
ANNEALED = Space(
    #      key                         range           scale
    Number("threshold.theta_0",        0.5, 30.0,      log=True, per="layer"),
    Rise("threshold.theta_inf",        0.1, 80.0,      log=True, per="layer"),
    Number("threshold.alpha",          1e-6, 0.5,      log=True, per="layer"),
    Choice("neuron.surrogate_centre",  "clamped", "moving"),
) + UNIT  # fmt: skip
