"""All figures that a study's trials allow, each worked out once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from matplotlib.figure import Figure

from animations.drawing import on_page
from studies.figures import contour, front, history, settings
from studies.figures.parts import Drawn, complete_trials
from studies.importances import Importance, importances
from studies.landscape import landscape
from studies.measured import Measured, measured
from studies.ranking import best_trials
from studies.study import OpenStudy


class Figures:
    """Figures of a study, by what they show.

    Args:
        opened: the study, with at least one trial.
    """

    def __init__(self, opened: OpenStudy) -> None:
        self.opened = opened
        self.objectives = opened.plan.objectives
        with on_page():
            self.history = self._of_each(self._history)
            self.curves = history.learning_curves(opened)
            self.importances = self._of_each(self._importances)
            self.contours = self._of_each(self._contour)
            self.fronts = front.pareto_fronts(opened) if complete_trials(opened) else {}
            self.slices = settings.slices(opened, self.measured[0])
            complete = complete_trials(opened)
            self.parallel = settings.parallel_coordinates(opened) if complete else None

    @cached_property
    def measured(self) -> list[Measured]:
        """What trials are compared by, for each objective."""
        return [measured(self.opened, place) for place in range(len(self.objectives))]

    @cached_property
    def shares(self) -> list[dict[str, Importance]]:
        """Importances of settings, for each objective."""
        return [importances(own) for own in self.measured]

    def files(self) -> dict[str, Figure]:
        """Those that are files of their own, by name."""
        found: dict[str, Figure] = {}
        several = (("history", self.history), ("importances", self.importances),
                   ("contour", self.contours))  # fmt: skip
        for name, drawn in several:
            for objective, own in drawn.items():
                first = objective == self.objectives[0]
                found[name if first else f"{name}_{objective}"] = own.figure
        if self.curves is not None:
            found["learning_curves"] = self.curves.figure
        found |= {name: own.figure for name, own in self.fronts.items()}
        if self.slices:
            with on_page():
                found["slices"] = settings.all_slices(self.opened, self.measured[0])
        if self.parallel is not None:
            found["parallel_coordinates"] = self.parallel.figure
        return found

    def _of_each(self, draw: Callable[[int], Drawn | None]) -> dict[str, Drawn]:
        """A figure for each objective that has one."""
        drawn = ((name, draw(place)) for place, name in enumerate(self.objectives))
        return {name: own for name, own in drawn if own is not None}

    def _history(self, objective: int) -> Drawn | None:
        if not any(own.trials for own in self.measured):
            return None
        return history.history(self.opened, objective)

    def _importances(self, objective: int) -> Drawn | None:
        what = self.measured[objective].what
        return settings.importances(self.opened, self.shares[objective], what)

    def _contour(self, objective: int) -> Drawn | None:
        known = landscape(self.measured[objective], list(self.shares[objective])[:2])
        if known is None:
            return None
        best = next((trial.number for trial in best_trials(self.opened)), None)
        return contour.contour(self.opened, self.measured[objective], known, best)
