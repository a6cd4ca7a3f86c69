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
    series = "MNIST, time steps"       # a line of the figure of accuracy over cost
    label = "T = 6"                    # of it in figures; the name if left out
    band = "six steps"                 # of the figure of curves; the data set's if left out
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bsnn_tha.campaigns import plan_files
from bsnn_tha.campaigns.merit import Merit, merit_of, one_merit
from bsnn_tha.campaigns.plan_files import Printed, Table
from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset
from bsnn_tha.suggest import did_you_mean

_ROOM = "bsnn_tha.campaigns.reproduction"


class Row(Table):
    """Runs that differ in their seed only."""

    name: str
    preset: str
    seeds: int = Field(5, ge=1)
    seconds: float | None = Field(None, gt=0)
    printed: Printed = Printed()
    set: dict[str, Any] = Field(default_factory=dict)
    series: str | None = None
    label: str | None = None
    band: str | None = None

    @property
    def merit(self) -> Merit:
        """What its runs are judged by."""
        return merit_of(self.config(0), f"row {self.name!r}")

    def config(self, seed: int) -> RunConfig:
        """What one of its runs is made from; snapshots, which shape no result, are off."""
        dataset, _, variant = self.preset.partition("/")
        own = plan_files.changes(self.set)
        changes = {"snapshots.count": 0, **own, "training.seed": seed}
        return load_preset(dataset, variant).with_changes(changes)


class Plan(Table):
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

    @property
    def merit(self) -> Merit:
        """What its runs are judged by."""
        return one_merit(
            (row.config(0) for row in self.rows),
            lambda number: f"plan {self.name}, row {self.rows[number].name!r}",
        )

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
    return plan_files.plan_names(_ROOM)


def load_plan(name: str, *, allow_code: bool = False) -> Plan:
    """A plan by its name, or from the user's file if the name ends in ``.toml``.

    Args:
        name: of the plan, or a path.
        allow_code: whether it may name code outside this package, which building its
            configurations runs.

    Raises:
        InvalidValueError: there is none, or it breaks a rule; every configuration is built.
    """
    plan = plan_files.read_plan(Plan, _ROOM, name, "table")
    plan_files.check_names(plan.name, [row.name for row in plan.rows])
    for row in plan.rows:
        plan_files.check_code(row.set, allow_code, f"plan {plan.name}, row {row.name!r}")
    _ = plan.merit
    return plan
