"""What each paper does to a network's neurons, as changes to any configuration.

A recipe sets the axes a paper chooses: threshold rule, surrogate and its centre,
reset, the path of θ's gradient. Network, data, loss, optimizer and β stay those
of the configuration, and so does θ0, which every rule starts from.

The papers' numbers belong to the threshold they start from: Rouser's surrogate
has τ = 3.75 beside a threshold of 1.25. Binary weights make currents, and so
thresholds, ten times as large. A recipe therefore reads widths in units of the
threshold: potentials c times as large get a surrogate c times as wide and 1/c as
high, and steps of θ c times as long. Everything is then the paper's, measured in
thresholds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.per_layer import PerLayer, each_layer, values_of
from bsnn_tha.suggest import did_you_mean

Changes = dict[str, Any]

# What the papers start from.
_ROUSER_THETA, _LTMD_THETA, _LT_SNN_THETA = 1.25, math.tanh(0.5), 1.0

# No threshold rule of the configuration's own survives a recipe.
_PLAIN: Changes = {
    "threshold.rule": "fixed",
    "threshold.theta_inf": None,
    "threshold.alpha": None,
    "threshold.per": "layer",
    "threshold.penalty_window": "none",
    "threshold.fired_only": False,
    "optimizer.threshold_lr": None,
}


@dataclass(frozen=True)
class Recipe:
    """One choice on the axes that the papers differ on.

    Attributes:
        name: as ``--rules`` takes it.
        about: one line for tables and ``--help``.
        changes: from a configuration to what is changed in it.
    """

    name: str
    about: str
    changes: Callable[[RunConfig], Changes]

    def __call__(self, config: RunConfig, only_thresholds: bool = False) -> RunConfig:
        """The configuration with this recipe's neurons.

        Args:
            config: to change.
            only_thresholds: leave surrogate and reset as they are in the configuration, and
                change thresholds, their gradient and learning rate alone. The surrogate
                follows a learned threshold all the same, as in all papers on them.
        """
        changes = self.changes(config)
        if only_thresholds:
            kept = ("threshold.", "optimizer.", "neuron.surrogate_centre")
            changes = {key: value for key, value in changes.items() if key.startswith(kept)}
        return config.with_changes({**_PLAIN, **changes})


def _scaled(value: float, config: RunConfig, paper: float) -> PerLayer[float]:
    """A slope, per unit of potential, for thresholds other than the paper's."""
    return each_layer(lambda theta: value * paper / theta, config.threshold.theta_0)


def _threshold_lr(config: RunConfig, paper: float) -> float:
    # The papers learn thresholds at the rate of the weights. One rate serves all layers,
    # for their mean threshold, or that of the kinds in a table.
    thetas: list[float] = values_of(config.threshold.theta_0)
    return config.optimizer.lr * statistics.fmean(thetas) / paper


def _fixed(config: RunConfig) -> Changes:
    return {}


def _annealed(config: RunConfig) -> Changes:
    threshold = config.threshold
    if threshold.theta_inf is None or threshold.alpha is None:
        raise InvalidValueError(
            "the rule 'annealed' needs a schedule, but the configuration has none; set "
            "threshold.theta_inf and threshold.alpha, or leave the rule out"
        )
    return {
        "threshold.rule": "annealed",
        "threshold.theta_inf": threshold.theta_inf,
        "threshold.alpha": threshold.alpha,
    }


def _rouser_neurons(config: RunConfig) -> Changes:
    return {
        "neuron.surrogate": "exponential",
        "neuron.slope": _scaled(1 / 3.75, config, _ROUSER_THETA),
        "neuron.surrogate_scale": 1.5,
        "neuron.surrogate_centre": "moving",
        "neuron.reset_mechanism": "zero",
    }


def _rouser(config: RunConfig) -> Changes:
    return _rouser_neurons(config) | {
        "threshold.rule": "learned",
        "threshold.per": "neuron",
        "optimizer.threshold_lr": _threshold_lr(config, _ROUSER_THETA),
    }


def _ltmd_neurons(config: RunConfig) -> Changes:
    return {
        "neuron.surrogate": "rectangle",
        "neuron.slope": _scaled(1.0, config, _LTMD_THETA),
        "neuron.surrogate_scale": _scaled(1.0, config, _LTMD_THETA),
        "neuron.surrogate_centre": "moving",
        "neuron.reset_mechanism": "zero",
    }


def _ltmd(config: RunConfig) -> Changes:
    # k has no unit: the weights' learning rate, unscaled.
    return _ltmd_neurons(config) | {"threshold.rule": "tanh"}


def _lt_snn_neurons(config: RunConfig) -> Changes:
    return {
        "neuron.surrogate": "triangle",
        "neuron.slope": _scaled(1.0, config, _LT_SNN_THETA),
        "neuron.surrogate_scale": _scaled(1.0, config, _LT_SNN_THETA),
        "neuron.surrogate_centre": "moving",
        "neuron.reset_mechanism": "zero",
    }


def _lt_snn_shared(config: RunConfig) -> Changes:
    return _lt_snn_neurons(config) | {
        "threshold.rule": "learned",
        "optimizer.threshold_lr": _threshold_lr(config, _LT_SNN_THETA),
    }


def _lt_snn(config: RunConfig) -> Changes:
    return _lt_snn_shared(config) | {
        "threshold.penalty_window": "sigmoid",
        "threshold.fired_only": True,
    }


def _annealed_learned(config: RunConfig) -> Changes:
    return _annealed(config) | {
        "threshold.rule": "annealed-learned",
        "threshold.per": "neuron",
        "optimizer.threshold_lr": _threshold_lr(config, _ROUSER_THETA),
    }


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fixed", "thresholds stay at θ0", _fixed),
        Recipe("annealed", "THA: one per layer, θ0 relaxes to θ∞", _annealed),
        Recipe("rouser", "Rouser: one per neuron, learned", _rouser),
        Recipe("ltmd", "LTMD: one per layer, c·tanh(k), k learned", _ltmd),
        Recipe("lt-snn", "LT-SNN: one per layer, separate gradient path", _lt_snn),
        Recipe("rouser-fixed", "Rouser's neurons, lr of thresholds 0", _rouser_neurons),
        Recipe("ltmd-fixed", "LTMD's neurons, thresholds stay at θ0", _ltmd_neurons),
        Recipe("lt-snn-fixed", "LT-SNN's neurons, thresholds stay at θ0", _lt_snn_neurons),
        Recipe("lt-snn-shared", "LT-SNN with one gradient path for u and θ", _lt_snn_shared),
        Recipe("annealed-learned", "annealed, plus a learned offset per neuron", _annealed_learned),
    )
}
"""By name: five rules, what each paper compares with, and a mixture of two."""


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        InvalidValueError: there is none.

    Example:
        >>> find_recipe("ltmd").about
        'LTMD: one per layer, c·tanh(k), k learned'
    """
    if name not in RECIPES:
        raise InvalidValueError(f"unknown rule {name!r}{did_you_mean(name, RECIPES)}")
    return RECIPES[name]
