"""How a study chooses what to try next: Optuna's samplers by name, or one of one's own.

Each is imported when it is used, by a function of the seed: ``module:Class`` of one's own is an
``optuna.samplers.BaseSampler`` that gets ``seed`` if it takes one, and ``source_trials``, those of
studies that this one starts from.
"""

from __future__ import annotations

from typing import Any

from bsnn_tha.choices import Axis

SAMPLERS: Axis[Any] = Axis(
    "sampler",
    {
        "tpe": "studies.samplers:tpe",
        "multivariate-tpe": "studies.samplers:multivariate_tpe",
        "gp": "optuna.samplers:GPSampler",
        "cma-es": "studies.samplers:cma_es",
        "nsga2": "optuna.samplers:NSGAIISampler",
        "random": "optuna.samplers:RandomSampler",
    },
)


def tpe(seed: int | None) -> Any:
    """Optuna's defaults: for one objective all parameters are drawn together.

    The paper's studies had the defaults of their day, which drew each parameter by itself; for
    several objectives that is still so. Running trials are taken for bad ones (a constant liar), so
    that workers do not all try the same; alone it changes nothing.
    """
    from studies.optuna_internals.tpe import RememberingTPESampler

    return RememberingTPESampler(seed=seed, constant_liar=True)


def multivariate_tpe(seed: int | None) -> Any:
    """As :func:`tpe`, but together for several objectives as well, and in spaces with conditions
    in groups of parameters that occur together.
    """
    from studies.optuna_internals.tpe import RememberingTPESampler

    return RememberingTPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def cma_es(seed: int | None, source_trials: Any = None) -> Any:
    """CMA-ES; choices are drawn at random beside it, which is no news.

    With trials of other studies it begins with their distribution.
    """
    from optuna.samplers import CmaEsSampler

    return CmaEsSampler(
        seed=seed, warn_independent_sampling=False, source_trials=source_trials or None
    )
