"""Which runs a table is made of.

A plan is a TOML file, one of ``plans/`` in this folder or the user's own::

    title = "What the presets best give"
    source = "this project"            # of the printed values
    about = "A paragraph that the table's page opens with."

    [[rows]]
    name = "mnist"                     # of the row's folder
    preset = "mnist/best"
    seeds = 5                          # 0 to 4
    seconds = 600                      # of one run, as far as is known
    printed = {best = 99.12, mean = 99.07, std = 0.04}
    set = {"training.epochs" = 14}     # changes to the preset, dotted keys; "none" removes one
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset
from bsnn_tha.run_folder import folder_name
from bsnn_tha.suggest import broken_rule, did_you_mean
from studies.pool import check_classifies


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Printed(_Table):
    """Test accuracy as a paper prints it, in per cent; what it does not say is None."""

    best: float | None = None
    mean: float | None = None
    std: float | None = None


class Row(_Table):
    """Runs that differ in their seed only."""

    name: str
    preset: str
    seeds: int = Field(5, ge=1)
    seconds: float | None = Field(None, gt=0)
    printed: Printed = Printed()
    set: dict[str, Any] = {}

    def config(self, seed: int) -> RunConfig:
        """What one of its runs is made from; snapshots, which shape no result, are off."""
        dataset, _, variant = self.preset.partition("/")
        own = {key: None if value == "none" else value for key, value in self.set.items()}
        changes = {"snapshots.count": 0, **own, "training.seed": seed}
        return load_preset(dataset, variant).with_changes(changes)


class Plan(_Table):
    """A table: its rows, and what its page says of them.

    Example:
        >>> load_plan("best").row("digits").config(3).training.seed
        3
    """

    name: str
    title: str
    source: str
    about: str = ""
    rows: list[Row] = Field(min_length=1)

    def row(self, name: str) -> Row:
        """The row of that name.

        Raises:
            InvalidValueError: there is none.
        """
        names = [row.name for row in self.rows]
        if name not in names:
            raise InvalidValueError(f"{self.name} has no row {name!r}{did_you_mean(name, names)}")
        return self.rows[names.index(name)]


def plan_names() -> list[str]:
    """Plans that come with the package.

    Example:
        >>> "best" in plan_names()
        True
    """
    files = (resources.files(__package__) / "plans").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_plan(name: str) -> Plan:
    """A plan by its name, or from the user's file if the name ends in ``.toml``.

    Raises:
        InvalidValueError: there is none, or it breaks a rule; every configuration is built.
    """
    path = Path(name)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InvalidValueError(f"cannot read plan {path}: {error.strerror}") from None
        name = folder_name(path.stem)
    elif name in plan_names():
        text = (resources.files(__package__) / "plans" / f"{name}.toml").read_text("utf-8")
    else:
        near = did_you_mean(name, plan_names())
        raise InvalidValueError(f"unknown table {name!r}{near}; your own plan is a .toml file")
    try:
        plan = Plan.model_validate({"name": name, **tomllib.loads(text)})
    except tomllib.TOMLDecodeError as error:
        raise InvalidValueError(f"plan {name} is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidValueError(f"plan {name}: " + broken_rule(where, first)) from None
    names = [row.name for row in plan.rows]
    for row in plan.rows:
        if names.count(row.name) > 1 or folder_name(row.name) != row.name:
            raise InvalidValueError(
                f"plan {name}: rows need a name each, fit for a folder, but got {row.name!r}"
            )
        check_classifies(row.config(0), f"plan {name}, row {row.name!r}")
    return plan
