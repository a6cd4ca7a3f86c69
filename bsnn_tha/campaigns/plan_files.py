"""Plans as TOML files: those that come with a room of this package, and the user's own."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from bsnn_tha.config.axes import check_allowed
from bsnn_tha.config.dotted import nested
from bsnn_tha.config.leaving_out import none_read
from bsnn_tha.config.validation import validated
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.run_folder import folder_name
from bsnn_tha.suggest import did_you_mean


class Table(BaseModel):
    """A table of a plan; a key that it does not have is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


P = TypeVar("P", bound=Table)


class Printed(Table):
    """Test accuracy in per cent, or mAP, as a paper prints it; what it does not say is None."""

    best: float | None = None
    mean: float | None = None
    std: float | None = None


def plan_names(room: str) -> list[str]:
    """Plans that come with a room, in its folder ``plans``.

    Example:
        >>> "best" in plan_names("bsnn_tha.campaigns.reproduction")
        True
    """
    files = (resources.files(room) / "plans").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def read_plan(kind: type[P], room: str, name: str, what: str) -> P:
    """A plan by its name, or from the user's file if the name ends in ``.toml``.

    Args:
        kind: of plan, whose ``name`` is not in the file but the file's own.
        room: that it belongs to.
        name: of a plan, or a path.
        what: the plan is of, for errors.

    Raises:
        InvalidValueError: there is none, or it breaks a rule of its own tables.
    """
    path = Path(name)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InvalidValueError(f"cannot read plan {path}: {error.strerror}") from None
        name = folder_name(path.stem)
    elif name in plan_names(room):
        text = (resources.files(room) / "plans" / f"{name}.toml").read_text("utf-8")
    else:
        near = did_you_mean(name, plan_names(room))
        raise InvalidValueError(
            f"unknown {what} {name!r}{near}{'' if near.endswith('?') else '.'} "
            "Your own plan is a .toml file"
        )
    try:
        return validated(kind, {"name": name, **tomllib.loads(text)}, "the plan")
    except tomllib.TOMLDecodeError as error:
        raise InvalidValueError(f"plan {name} is not valid TOML: {error}") from None
    except InvalidValueError as error:
        raise InvalidValueError(f"plan {name}: {error}") from None


def check_names(plan: str, names: list[str]) -> None:
    """Raise unless each row of a plan has a name of its own that a folder can have."""
    for name in names:
        if names.count(name) > 1 or folder_name(name) != name:
            raise InvalidValueError(
                f"plan {plan}: rows need a name each, fit for a folder, but got {name!r}"
            )


def changes(table: dict[str, Any]) -> dict[str, Any]:
    """Changes to a preset as a plan writes them; TOML has no null, so ``"none"`` removes a key."""
    return {key: none_read(key, value) for key, value in table.items()}


def check_code(table: dict[str, Any], allow_code: bool, where: str) -> None:
    """Refuse changes that name code outside this package, unless it may run.

    A plan may be anyone's, and building a configuration runs what it names: ask before.
    """
    check_allowed(nested(changes(table)), allow_code, where)
