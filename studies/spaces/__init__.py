"""Search spaces, one small file per family of data sets.

Each file has the tables ``ANNEALED`` (θ0 → θ∞ layer by layer), ``FIXED`` (one θ) and ``UNIT`` (θ
stays at 1), as the paper searched them. Where a configuration names another threshold rule, or its
output does not fire, :mod:`studies.spaces.rules` searches what all of these have.
"""

from __future__ import annotations

from bsnn_tha.choices import load, names_code
from bsnn_tha.config import RunConfig
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.errors import InvalidValueError
from studies.errors import StudyError
from studies.space import Space
from studies.spaces import events, images, rules, temporal_coding


def space_for(config: RunConfig, dataset: Dataset) -> Space:
    """The table for a data set and a variant, told by what they are, not by name.

    Example:
        >>> from pathlib import Path
        >>> from bsnn_tha.data.images import load_digits
        >>> from bsnn_tha.presets import load_preset
        >>> dataset = load_digits(Path(), validation=0.1, seed=0)
        >>> space_for(load_preset("digits", "tha"), dataset) is images.ANNEALED
        True
    """
    readout, annealed = config.network.output == "membrane", config.threshold.theta_inf is not None
    if readout or config.threshold.rule not in (None, "annealed"):
        own_rate = config.optimizer.threshold_lr is not None
        return rules.space(annealed=annealed, readout=readout, own_rate=own_rate)
    family = images if dataset.static else events
    if dataset.num_classes is None:
        family = temporal_coding
    if annealed:
        space = family.ANNEALED
    elif config.network.weights != "binary" or config.threshold.theta_0 != 1.0:
        space = family.FIXED
    else:
        space = family.UNIT
    return space


def load_space(where: str) -> Space:
    """A user's own table, from ``module:NAME`` or ``path/to/file.py:NAME``; else of name SPACE.

    Raises:
        StudyError: it cannot be imported, is no space or an empty one.
    """
    try:
        space = load(where if names_code(where) else f"{where}:SPACE", "space")
    except InvalidValueError as error:
        raise StudyError(f"{error}; --space takes module:NAME or file.py:NAME") from None
    if not isinstance(space, Space):
        raise StudyError(f"{where} must be a studies.space.Space, but is {type(space).__name__}")
    if not space.rows:
        raise StudyError(f"{where} must have at least one row")
    return space
