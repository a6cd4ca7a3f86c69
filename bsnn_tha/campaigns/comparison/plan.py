"""Which runs a comparison is made of."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict

from bsnn_tha.campaigns.comparison.recipes import find_recipe
from bsnn_tha.campaigns.merit import Merit, one_merit
from bsnn_tha.config import RunConfig
from bsnn_tha.config.validation import validated
from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.nn.per_layer import PerLayer, each_layer, values_of
from bsnn_tha.presets import load_preset
from bsnn_tha.run_folder import replace_atomically
from bsnn_tha.suggest import quoted
from bsnn_tha.training.allowed import names_allowed, remember

WEIGHTS = {"binary": "tha", "float": "flt32"}
"""The variants whose presets are tuned for these weights."""

_PLAN = "comparison.toml"


class _Written(BaseModel):
    """A comparison as its file has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rules: list[str]
    seeds: int
    factors: list[float]
    only_thresholds: bool
    bases: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One row of the table: a rule, weights and an initial threshold, for all seeds."""

    rule: str
    weights: str
    factor: float
    """Of the initial thresholds, over the configuration's."""

    @property
    def name(self) -> str:
        """For folders: ``rouser-binary``, or ``rouser-binary-x0.25``."""
        return f"{self.rule}-{self.weights}" + ("" if self.factor == 1 else f"-x{self.factor:g}")


@dataclass(frozen=True)
class Comparison:
    """Everything that shapes a comparison's results.

    Args:
        bases: a configuration for each kind of weights.
        rules: names of :data:`~bsnn_tha.campaigns.comparison.recipes.RECIPES`.
        seeds: from ``training.seed`` of the configurations upwards.
        factors: of the initial thresholds.
        only_thresholds: rules leave surrogates and resets of the configurations as they are.

    Raises:
        InvalidValueError: nothing to compare, an unknown rule, or a
            configuration that a rule does not fit.
    """

    bases: dict[str, RunConfig]
    rules: tuple[str, ...]
    seeds: int
    factors: tuple[float, ...] = (1.0,)
    only_thresholds: bool = False

    def __post_init__(self) -> None:
        for weights in self.bases:  # which name folders
            _check_weights(weights)
        if self.seeds < 1:
            raise InvalidValueError(f"seeds must be at least 1, but got {self.seeds}")
        for name in ("bases", "rules", "factors"):
            values = list(getattr(self, name))
            if not values or len(set(values)) < len(values):
                raise InvalidValueError(
                    f"{name} must be one or more, each once, but got {quoted(values)}"
                )
        for factor in self.factors:
            if not 0 < factor < math.inf:
                raise InvalidValueError(
                    f"factors of theta_0 must be finite and above 0, but got {factor:g}"
                )
        for base in self.bases.values():
            if base.training.protocol == "validation" and not base.data.validation:
                raise InvalidValueError(
                    "a comparison follows the accuracy on validation samples, but data.validation "
                    "is 0; set it above 0"
                )
        _ = self.merit

    @property
    def merit(self) -> Merit:
        """What its runs are judged by."""
        return one_merit(
            (self.config(cell, 0) for cell in self.cells()),
            lambda number: f"a comparison, row {self.cells()[number].name},",
        )

    def cells(self) -> list[Cell]:
        """Rows of the table, in its order."""
        return [
            Cell(rule, weights, factor)
            for weights in self.bases
            for rule in self.rules
            for factor in self.factors
        ]

    def config(self, cell: Cell, trial: int) -> RunConfig:
        """The configuration of one run.

        The recipe comes first, so that a surrogate's width belongs to the
        threshold of the configuration, whatever factor is tried.
        """
        config = find_recipe(cell.rule)(self.bases[cell.weights], self.only_thresholds)
        threshold = config.threshold
        return config.with_changes(
            {
                "variant": cell.name,
                "source": f"comparison, rule {cell.rule}",
                "training.seed": config.training.seed + trial,
                "threshold.theta_0": _times(threshold.theta_0, cell.factor),
                "threshold.theta_inf": _times(threshold.theta_inf, cell.factor),
            }
        )

    def save(self, folder: Path) -> None:
        """Write the comparison into its folder, for a later call to go on with."""
        values: dict[str, Any] = {
            "rules": list(self.rules),
            "seeds": self.seeds,
            "factors": list(self.factors),
            "only_thresholds": self.only_thresholds,
            "bases": {name: tomllib.loads(base.to_toml()) for name, base in self.bases.items()},
        }
        with replace_atomically(folder / _PLAN) as temporary:
            temporary.write_text(tomli_w.dumps(values), encoding="utf-8")
        remember(folder, *self.bases.values())

    @classmethod
    def load(cls, folder: Path, *, allow_code: bool = False) -> Comparison:
        """The comparison of a folder.

        Args:
            folder: that it was saved in.
            allow_code: whether one that was not made here may name code outside this package
                (:mod:`bsnn_tha.training.allowed`).

        Raises:
            RunError: the folder has none, or a damaged one.
        """
        allowed = allow_code or names_allowed(folder)
        try:
            text = (folder / _PLAN).read_text(encoding="utf-8-sig")
            plan = validated(_Written, tomllib.loads(text), _PLAN)
            return cls(
                {
                    name: RunConfig.from_dict(base, allow_code=allowed)
                    for name, base in plan.bases.items()
                },
                tuple(plan.rules),
                plan.seeds,
                tuple(plan.factors),
                plan.only_thresholds,
            )
        except (OSError, ValueError) as error:
            raise RunError(f"{folder} is not a folder of a comparison: {error}") from None


def bases_of(dataset: str, weights: Sequence[str], changes: dict[str, Any]) -> dict[str, RunConfig]:
    """Configurations of a data set for each kind of weights, from its presets.

    All have the data, the number of epochs and the protocol of the annealed preset. What
    belongs to the weights (β, θ0, learning rate, clipping, dropout) is that of the preset
    tuned for them; a schedule, which only binary weights have, is taken over in
    proportion to θ0.

    Args:
        dataset: with presets ``tha`` and ``flt32``.
        weights: of :data:`WEIGHTS`.
        changes: settings of the user's, for all.

    Raises:
        InvalidValueError: unknown weights or data set, or weights not each once.
    """
    if not weights or len(set(weights)) < len(weights):
        raise InvalidValueError(
            f"weights must be {' or '.join(WEIGHTS)} or both, each once, but got {quoted(weights)}"
        )
    annealed = load_preset(dataset, "tha")
    bases = {}
    for kind in weights:
        _check_weights(kind)
        base = load_preset(dataset, WEIGHTS[kind])
        shared = {
            "data": annealed.data.model_dump(exclude_none=True),
            "training.epochs": annealed.training.epochs,
            "training.protocol": annealed.training.protocol,
            "training.patience": None,
            "threshold.theta_inf": _in_proportion(base, annealed),
            "threshold.alpha": annealed.threshold.alpha,
        }
        bases[kind] = base.with_changes(shared).with_changes(changes)
    return bases


def _check_weights(kind: str) -> None:
    if kind not in WEIGHTS:
        raise InvalidValueError(f"weights must be {' or '.join(WEIGHTS)}, but got {kind!r}")


def _in_proportion(base: RunConfig, annealed: RunConfig) -> PerLayer[float] | None:
    """θ∞ that rises from the base's θ0 as the annealed one does from its own."""
    theta_0, theta_inf = annealed.threshold.theta_0, annealed.threshold.theta_inf
    if theta_inf is None:
        return None
    # Presets of these variants have numbers or lists, of one network.
    columns = [values_of(value) for value in (base.threshold.theta_0, theta_inf, theta_0)]
    layers = max(map(len, columns))
    rows = zip(*(c * layers if len(c) == 1 else c for c in columns), strict=True)
    finals = [own * final / zero for own, final, zero in rows]
    return finals if layers > 1 else finals[0]


def _times(value: Any, factor: float) -> Any:
    return None if value is None else each_layer(lambda each: each * factor, value)
