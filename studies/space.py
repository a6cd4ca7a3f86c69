"""Search spaces as tables: which settings are searched, over what range.

A space is a list of rows; each names a key of the configuration. A row that
is searched layer by layer becomes one parameter per layer, ``threshold.theta_0.1``,
``.2`` and so on, however deep the network is.

    SPACE = Space(
        #      key                     range           scale
        Number("neuron.beta",          0.1, 0.99),
        Number("neuron.slope",         0.1, 30.0,      log=True),
        Number("threshold.theta_0",    0.5, 20.0,      log=True, per="layer"),
        Rise(  "threshold.theta_inf",  0.1, 30.0,      log=True, per="layer"),
        Choice("network.norm",         "per-step", "none"),
    )

A row works both ways: it turns a trial's parameters into settings, and the
settings of a preset into parameters, so that a study can start where the
paper ended.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from pydantic import BaseModel

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.nn.neurons.by_layer import OF_FIRING
from bsnn_tha.nn.per_layer import of_output
from bsnn_tha.suggest import did_you_mean, quoted
from studies.optuna_internals import contains, suggest

Per = Literal["network", "layer", "dense layer"]


class Row(ABC):
    """One line of the table.

    ``key`` is what it sets, dotted as in ``--set``.
    """

    key: str
    per: Per

    def names(self, depth: Depth) -> list[str]:
        """The parameters it stands for in a network."""
        if self.per == "network":
            return [self.key]
        count = depth.dense if self.per == "dense layer" else depth.of_key(self.key)
        return [f"{self.key}.{index}" for index in range(1, count + 1)]

    @property
    @abstractmethod
    def distribution(self) -> BaseDistribution:
        """What each of its parameters is drawn from."""

    @property
    @abstractmethod
    def text(self) -> str:
        """Range and scale, for tables."""

    def bound(self, config: RunConfig) -> Row:
        """The row for a study that starts from a configuration."""
        return self

    def to_settings(self, values: list[Any], settings: dict[str, Any]) -> Any:
        """The configured value, from parameters and from rows above."""
        return values if self.per != "network" else values[0]

    def from_config(self, config: RunConfig, count: int) -> list[Any]:
        """The parameters that stand for a configured value."""
        return _spread(config_value(config, self.key), count)


@dataclass(frozen=True)
class Number(Row):
    """A number from a range.

    Args:
        key: of the configuration.
        low, high: bounds, both included.
        log: search on a log scale.
        per: one for the network, or one for each layer.
    """

    key: str
    low: float
    high: float
    log: bool = False
    per: Per = "network"

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.log and self.low <= 0):
            raise InvalidValueError(
                f"{self.key} must have a range from low to high"
                f"{', above 0 on a log scale' if self.log else ''}, but got {self.text}"
            )

    @property
    def distribution(self) -> BaseDistribution:
        return FloatDistribution(self.low, self.high, log=self.log)

    @property
    def text(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


@dataclass(frozen=True)
class Rise(Number):
    """A number searched as its increment over another, so that it is always larger.

    θ∞ must exceed θ0: ``Rise("threshold.theta_inf", ...)`` searches θ∞ − θ0.

    Args:
        over: key of the other. If it has a row, that comes before this one.
        base: the other's value where it is not searched.
    """

    over: str = "threshold.theta_0"
    base: Any = None

    @property
    def text(self) -> str:
        return f"{self.over} + {super().text}"

    def bound(self, config: RunConfig) -> Row:
        return replace(self, base=config_value(config, self.over))

    def to_settings(self, values: list[Any], settings: dict[str, Any]) -> Any:
        below = _spread(settings.get(self.over, self.base), len(values))
        above = [base + rise for base, rise in zip(below, values, strict=True)]
        return super().to_settings(above, settings)

    def from_config(self, config: RunConfig, count: int) -> list[Any]:
        below = _spread(config_value(config, self.over), count)
        above = super().from_config(config, count)
        if len(above) != len(below) or None in above or None in below:
            return above  # refused as outside of the range
        # Rounded: differences of decimal fractions are not what one would write.
        return [round(high - low, 10) for high, low in zip(above, below, strict=True)]


@dataclass(frozen=True)
class Choice(Row):
    """One of a few values. The value ``None`` leaves the setting out.

    Args:
        key: of the configuration.
        *options: strings, numbers, booleans or None.
    """

    key: str
    options: tuple[Any, ...]
    per: Per = field(default="network", init=False)

    def __init__(self, key: str, *options: Any) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "per", "network")

    @property
    def distribution(self) -> BaseDistribution:
        return CategoricalDistribution(self.options)

    @property
    def text(self) -> str:
        return " or ".join("off" if option is None else str(option) for option in self.options)


@dataclass(frozen=True)
class Follows(Row):
    """Not searched: keeps its ratio to another setting of the output layer.

    The temporal coding task's target peaks at so many times the output's θ∞;
    where θ∞ is searched, the target must follow.

    Args:
        key: of the configuration.
        of: key of the other. If it has a row, that comes before this one.
        ratio: by default that of the configuration a study starts from.
        base: the other's value where it is not searched.
    """

    key: str
    of: str
    ratio: float | None = None
    base: Any = None
    per: Per = field(default="network", init=False)

    def names(self, depth: Depth) -> list[str]:
        return []

    @property
    def distribution(self) -> BaseDistribution:
        raise TypeError(f"{self.key} follows {self.of} and is not drawn")

    @property
    def text(self) -> str:
        return f"{self.ratio:g} × {self.of}" if self.ratio else f"follows {self.of}"

    def bound(self, config: RunConfig) -> Row:
        value, other = (config_value(config, key) for key in (self.key, self.of))
        if self.ratio is not None:
            return replace(self, base=other)
        if value is None or other is None:
            raise InvalidValueError(f"{self.key} cannot follow {self.of}: one of them is not set")
        return replace(self, ratio=value / of_output(other), base=other)

    def to_settings(self, values: list[Any], settings: dict[str, Any]) -> Any:
        assert self.ratio is not None
        return self.ratio * of_output(settings.get(self.of, self.base))

    def from_config(self, config: RunConfig, count: int) -> list[Any]:
        return []


@dataclass(frozen=True)
class Depth:
    """How many parameters a row that is searched per layer stands for."""

    layers: int
    dense: int
    silent: int = 0
    """Layers that do not fire: an output whose membrane is read."""

    @classmethod
    def of(cls, network: SpikingNetwork) -> Depth:
        """Of a network."""
        from torch import nn

        dense = sum(isinstance(layer.synapse, nn.Linear) for layer in network.layers)
        silent = int(network.output == "membrane")
        return cls(len(network.layers), dense, silent)

    def of_key(self, key: str) -> int:
        """Layers that a setting has a value for: thresholds are those of layers that fire.

        Example:
            >>> depth = Depth(layers=3, dense=1, silent=1)
            >>> depth.of_key("threshold.theta_0"), depth.of_key("neuron.beta")
            (2, 3)
        """
        return self.layers - (self.silent if key.rpartition(".")[2] in OF_FIRING else 0)


class Space:
    """Rows, in the order in which they are suggested.

    Args:
        *rows: the table.

    Example:
        >>> space = Space(Number("neuron.beta", 0.1, 0.9), Choice("data.batch_size", 8, 16))
        >>> study = optuna.create_study()
        >>> study.enqueue_trial({"neuron.beta": 0.5, "data.batch_size": 16})
        >>> space.suggest(study.ask(), Depth(layers=2, dense=1))
        {'neuron.beta': 0.5, 'data.batch_size': 16}
    """

    def __init__(self, *rows: Row) -> None:
        keys = [row.key for row in rows]
        for place, row in enumerate(rows):
            if row.key in keys[:place]:
                raise InvalidValueError(f"a space must name a key once, but got {row.key} twice")
            other = getattr(row, "over", None) or getattr(row, "of", None)
            if other in keys[place:]:
                raise InvalidValueError(f"{row.key} must come after the row of {other}")
        self.rows = rows

    def __add__(self, other: Space) -> Space:
        return Space(*self.rows, *other.rows)

    def without(self, *keys: str) -> Space:
        """The same table but for some rows."""
        return Space(*(row for row in self.rows if row.key not in keys))

    def bound(self, config: RunConfig) -> Space:
        """The same table for a study that starts from a configuration.

        Raises:
            InvalidValueError: the configuration has no such key.
        """
        for row in self.rows:
            config_value(config, row.key)
        return Space(*(row.bound(config) for row in self.rows))

    def suggest(self, trial: optuna.Trial, depth: Depth) -> dict[str, Any]:
        """A trial's settings, as changes to a configuration."""
        settings: dict[str, Any] = {}
        for row in self.rows:
            values = [suggest(trial, name, row.distribution) for name in row.names(depth)]
            settings[row.key] = row.to_settings(values, settings)
        return settings

    def parameters(self, config: RunConfig, depth: Depth) -> dict[str, Any]:
        """The parameters that stand for a configuration's own settings.

        Raises:
            InvalidValueError: a setting is outside the range of its row.
        """
        parameters: dict[str, Any] = {}
        for row in self.rows:
            names = row.names(depth)
            values = row.from_config(config, len(names))
            if len(values) != len(names):
                raise InvalidValueError(
                    f"{row.key} is searched per {row.per}, but there are {len(values)} values"
                )
            for name, value in zip(names, values, strict=True):
                if not contains(row.distribution, value):
                    raise InvalidValueError(
                        f"{name} must be {row.text} in this space, but is {value}"
                    )
                parameters[name] = value
        return parameters

    def table(self) -> list[tuple[str, str, str]]:
        """Key, range and what it is searched for, row by row."""
        return [(row.key, row.text, row.per) for row in self.rows]


def config_value(config: RunConfig, key: str) -> Any:
    """A configured value by its dotted key; None for one that is not set.

    Raises:
        InvalidValueError: there is no such key.
    """
    value: Any = config
    for name in key.split("."):
        if isinstance(value, dict):
            value = value.get(name)
            continue
        known = _keys(value)
        if name not in known:
            raise InvalidValueError(
                f"the space has {key}, but the configuration does not{did_you_mean(name, known)}"
            )
        value = getattr(value, name)
    return value


def _keys(section: Any) -> list[str]:
    """Of a table of the configuration, with the arguments of the loss or rule that it names."""
    if not isinstance(section, BaseModel):
        return []
    return [*type(section).model_fields, *(section.model_extra or ())]


def _spread(value: Any, count: int) -> list[Any]:
    """One value per parameter, from a list of them or one for all."""
    if isinstance(value, dict):
        raise InvalidValueError(
            "a study that searches layer by layer starts from one value or a list with one for "
            f"each layer, but got the table {quoted(value)}; write it out as a list"
        )
    return list(value) if isinstance(value, list) else [value] * count
