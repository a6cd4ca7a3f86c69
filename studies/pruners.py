"""How a study saves epochs on bad settings: Optuna's pruners by name, or one of one's own.

``halving`` and ``hyperband`` are rungs at which trials pause (:mod:`studies.rungs`). The others
look at a running trial after each epoch and may end it. ``module:factory`` of one's own gives an
``optuna.pruners.BasePruner``.
"""

from __future__ import annotations

from typing import Any

from bsnn_tha.choices import Axis

PRUNERS: Axis[Any] = Axis(
    "pruner",
    {
        "halving": "optuna.pruners:NopPruner",
        "hyperband": "optuna.pruners:NopPruner",
        "median": "studies.pruners:median",
        "patient": "studies.pruners:patient",
        "none": "optuna.pruners:NopPruner",
    },
)


def median() -> Any:
    """Ends what is worse than the median of the trials before it; five of them run freely."""
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=5, n_warmup_steps=1)


def patient() -> Any:
    """As Optuna's median, but two epochs later."""
    from optuna.pruners import MedianPruner, PatientPruner

    return PatientPruner(MedianPruner(), patience=2)
