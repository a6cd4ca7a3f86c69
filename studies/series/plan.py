"""Which studies a series is of.

A plan is a TOML file, one of ``plans/`` in this folder or the user's own::

    title = "Sixteen searches"
    source = "who"                     # of the printed values
    about = "A paragraph that the page opens with."
    trials = 500                       # of each study
    sampler = "tpe"                    # as of bsnn-tha study; so are pruner and seeds_per_trial
    set = {"training.epochs" = 10}     # of all, dotted keys: the budget, and what is not searched

    [[studies]]
    name = "mnist-tha"
    preset = "mnist/tha"
    printed = {best = 99.12, mean = 99.07, std = 0.04}
    trials = 300                       # of this one
    set = {}
    begin = {}                         # values of the first trial, of what is searched
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bsnn_tha.campaigns import plan_files
from bsnn_tha.campaigns.plan_files import Printed, Table
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import did_you_mean
from studies.options import Options

_ROOM = "studies.series"


class Search(Table):
    """One study of a series."""

    name: str
    preset: str
    printed: Printed = Printed()
    trials: int | None = Field(None, ge=1)
    set: dict[str, Any] = Field(default_factory=dict)
    begin: dict[str, Any] = Field(default_factory=dict)


class Series(Table):
    """Studies with one budget.

    Example:
        >>> series = load_series("appendix-d")
        >>> len(series.studies), series.trials, series.sampler
        (16, 500, 'tpe')
    """

    name: str
    title: str
    source: str
    about: str = ""
    trials: int = Field(500, ge=1)
    sampler: str = "tpe"
    sampler_seed: int | None = None
    pruner: str = "halving"
    seeds_per_trial: str = "1"
    set: dict[str, Any] = Field(default_factory=dict)
    studies: list[Search] = Field(min_length=1)

    def only(self, names: list[str]) -> list[Search]:
        """The studies of these names, in the plan's order; all if there are none.

        Raises:
            InvalidValueError: a name that the series does not have.
        """
        known = [search.name for search in self.studies]
        for name in names:
            if name not in known:
                raise InvalidValueError(
                    f"{self.name} has no study {name!r}{did_you_mean(name, known)}"
                )
        return [search for search in self.studies if not names or search.name in names]

    def trials_of(self, search: Search) -> int:
        """What the study is planned with: its own number, else that of all."""
        return self.trials if search.trials is None else search.trials

    def options(self, search: Search, **given: Any) -> Options:
        """What one of its studies is asked for.

        Args:
            search: the study.
            **given: what the plan does not say (storage, machine), or says otherwise
                (``trials``, ``pruner``).
        """
        dataset, _, variant = search.preset.partition("/")
        planned: dict[str, Any] = {
            "trials": self.trials_of(search),
            "sampler": self.sampler,
            "seed": self.sampler_seed,
            "pruner": self.pruner,
            "seeds": self.seeds_per_trial,
        }
        asked = {key: value for key, value in given.items() if value is not None}
        return Options(
            dataset,
            variant,
            name=f"{self.name}-{search.name}",
            changes=plan_files.changes(self.set | search.set),
            begin=plan_files.changes(search.begin),
            **planned | asked,
        )


def series_names() -> list[str]:
    """Series that come with the package.

    Example:
        >>> series_names()
        ['annealing', 'appendix-d', 'appendix-d-small']
    """
    return plan_files.plan_names(_ROOM)


def load_series(name: str, *, allow_code: bool = False) -> Series:
    """A series by its name, or from the user's file if the name ends in ``.toml``.

    Args:
        name: of the series, or a path.
        allow_code: whether it may name code outside this package, which building its
            configurations runs.

    Raises:
        InvalidValueError: there is none, or it breaks a rule; every configuration is built.
    """
    series = plan_files.read_plan(Series, _ROOM, name, "series")
    plan_files.check_names(series.name, [search.name for search in series.studies])
    for search in series.studies:
        where = f"plan {series.name}, study {search.name!r}"
        plan_files.check_code(series.set | search.set | search.begin, allow_code, where)
        _ = series.options(search).config  # refuses what no run can be
    return series
