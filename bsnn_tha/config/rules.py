"""What goes with what: arguments that a choice does not use are refused, not ignored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import is_dataclass
from inspect import Parameter
from typing import Any, NamedTuple, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bsnn_tha.choices import names_code, parameters
from bsnn_tha.config.sections import LossSection, Options, Tables
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import LOSSES
from bsnn_tha.suggest import broken_rule, quoted


class Use(NamedTuple):
    """A key that only some choices use."""

    table: str
    leaf: str
    purpose: str
    """The choices, as errors name them."""
    by: Callable[[Tables], bool]
    """Whether these tables make such a choice."""

    @property
    def key(self) -> str:
        """As a dotted key."""
        return f"{self.table}.{self.leaf}"


# Arguments that no table of choices checks.
USES = (
    Use("optimizer", "momentum", "optimizer.name = 'sgd'", lambda t: t.optimizer.name == "sgd"),
    Use("optimizer", "betas", "optimizer.name = 'adam' or 'adamw'",
        lambda t: t.optimizer.name in ("adam", "adamw")),
    Use("optimizer", "period", "optimizer.schedule = 'cosine'",
        lambda t: t.optimizer.schedule == "cosine"),
    Use("optimizer", "warmup", "optimizer.schedule = 'cosine-to-zero' or 'one-cycle'",
        lambda t: t.optimizer.schedule in ("cosine-to-zero", "one-cycle")),
    Use("optimizer", "steps", "optimizer.schedule = 'steps'",
        lambda t: t.optimizer.schedule == "steps"),
    Use("snapshots", "samples", "snapshots.count above 0", lambda t: t.snapshots.count > 0),
    Use("snapshots", "neurons", "snapshots.count above 0", lambda t: t.snapshots.count > 0),
)  # fmt: skip

LOSS_GETS = ("mean_threshold", "outputs")
"""What a loss is given rather than configured with."""


def check_uses(tables: Tables) -> None:
    """Refuse settings that nothing uses, but for their defaults, and steps that are missing."""
    for use in USES:
        section = getattr(tables, use.table)
        value, default = getattr(section, use.leaf), type(section).model_fields[use.leaf].default
        if value != default and not use.by(tables):
            raise InvalidValueError(
                f"{use.key} is for {use.purpose}, but got {use.key} = {value!r} without it; "
                "leave it out"
            )
    if tables.optimizer.schedule == "steps" and not tables.optimizer.steps:
        raise InvalidValueError(
            "optimizer.schedule = 'steps' needs optimizer.steps, after how many epochs which rate, "
            f"but got {quoted(tables.optimizer.steps)}; set it to a table like {{20 = 0.001}}"
        )
    loss = tables.loss
    if not names_code(loss.name):
        LOSSES.check(loss.name, loss.options, given=LOSS_GETS)
        _check_types(LOSSES.find(loss.name), loss.options, "loss")


def drop_unused(values: dict[str, Any], tables: Tables) -> None:
    """Take out of ``values`` what these tables do not use."""
    for use in USES:
        if not use.by(tables):
            values[use.table].pop(use.leaf, None)


def drop_orphaned(
    values: dict[str, Any], before: Tables, after: Tables, set_now: Collection[str]
) -> None:
    """Take out of ``values`` what only a choice used that a change has undone."""
    for use in USES:
        if use.by(before) and use.key not in set_now and not use.by(after):
            values[use.table].pop(use.leaf, None)


def _loss_defaults(name: str) -> dict[str, Any]:
    """The arguments of a loss in the table and their defaults; none of one's own."""
    if name not in LOSSES:
        return {}
    known = parameters(LOSSES.find(name)).items()
    return {key: parameter.default for key, parameter in known if key not in LOSS_GETS}


def with_loss_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The tables with all arguments of their loss, and of no other.

    Configurations used to be written with the arguments of every loss. One that the named
    loss does not have says nothing where it is the default of another: it is left out.
    """
    loss = values.get("loss", {})
    if not isinstance(loss, dict):
        return values
    named = loss.get("name", LossSection().name)
    if not isinstance(named, str) or named not in LOSSES:
        return values
    own = _loss_defaults(named)
    of_others = [pair for name in LOSSES for pair in _loss_defaults(name).items()]
    given = {k: v for k, v in loss.items() if k in own or (k, v) not in of_others}
    filled = {k: v for k, v in own.items() if v is not Parameter.empty}
    return {**values, "loss": filled | given}


def _check_types(maker: Any, settings: Options, table: str) -> None:
    """Refuse values of another type than the argument's annotation."""
    # Annotations of a class are its fields; one that is no dataclass has arguments instead.
    fields = isinstance(maker, type) and not is_dataclass(maker)
    hints = get_type_hints(maker.__init__ if fields else maker)
    for key, value in settings.items():
        rule = TypeAdapter(hints[key], config=ConfigDict(strict=True, allow_inf_nan=False))
        try:
            rule.validate_python(value)
        except ValidationError as error:
            raise InvalidValueError(broken_rule(f"{table}.{key}", error.errors()[0])) from None
