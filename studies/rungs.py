"""Successive halving and Hyperband over trials that pause and go on.

Settings come in brackets. All of a bracket train for a few epochs and pause; the best of them
(one in η) go on to the next rung, from where they stopped; and so on, until one is left that
trains to the end (Jamieson and Talwalkar 2016; Hyperband, Li et al. 2018, takes turns between
brackets that begin lower and higher). Optuna's pruners of these names decide while a trial
runs, by what others had reached by then, and never take a decision back.

Everything here is a function of a study's trials, so that workers need not agree on anything:

* **members** of a bracket are settings whose numbers lie in its range; one that is tried again
  after its worker died keeps its place;
* a setting goes on as soon as nothing that is still to come can push it out of the best, and
  is beaten as soon as nothing can lift it among them. What happens does therefore not depend
  on which worker was faster, and no worker waits while there is other work;
* with so many settings trained to each rung, n·r0 + ⌊n/η⌋·(r1 − r0) + … epochs are trained,
  where training every setting to the end takes n·R.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from studies.errors import StudyError

EPOCHS = "paused at"
"""User attribute of a trial that waits: epochs that it has been trained for."""
UNTIL = "until"
"""User attribute of a trial: after how many epochs it pauses next."""
ROOT = "root"
"""User attribute of a trial that is tried again: the number of its first try."""
SEEDS = "seeds"
"""User attribute of a final (:mod:`studies.finals`), which is in no bracket: which seeds it is
trained from, 0 for the configuration's own."""
AGAIN = "again"
"""User attribute of a trial that failed: it is, or is about to be, tried again."""


@dataclass(frozen=True)
class Bracket:
    """So many settings, and the epochs after which they are compared; the last are all."""

    size: int
    levels: tuple[int, ...]


@dataclass(frozen=True)
class Decision:
    """What is to become of trials that have paused."""

    go_on: list[tuple[FrozenTrial, int]]
    """Trials, and the epochs after which they pause next, those that are furthest first."""
    beaten: list[FrozenTrial]


@dataclass(frozen=True)
class Rungs:
    """Brackets that take turns.

    Args:
        brackets: in their order; after the last comes the first again.
        reduction: η, of how many settings one goes on.
    """

    brackets: tuple[Bracket, ...]
    reduction: int = 3

    @classmethod
    def halving(cls, epochs: int, reduction: int = 3, smallest: int = 1) -> Rungs:
        """Brackets that all begin at the lowest rung, and end with one setting each.

        Args:
            epochs: of a whole training.
            reduction: η ≥ 2.
            smallest: epochs of the lowest rung.

        Example:
            >>> Rungs.halving(epochs=10).brackets
            (Bracket(size=9, levels=(1, 3, 10)),)
        """
        levels = _levels(epochs, reduction, smallest)
        return cls((Bracket(reduction ** (len(levels) - 1), levels),), reduction)

    @classmethod
    def hyperband(cls, epochs: int, reduction: int = 3, smallest: int = 1) -> Rungs:
        """Brackets that begin ever higher, with ever fewer settings.

        Example:
            >>> [(b.size, b.levels) for b in Rungs.hyperband(epochs=9).brackets]
            [(9, (1, 3, 9)), (5, (3, 9)), (3, (9,))]
        """
        levels = _levels(epochs, reduction, smallest)
        highest = len(levels) - 1
        brackets = tuple(
            Bracket(math.ceil((highest + 1) / (s + 1) * reduction**s), levels[highest - s :])
            for s in range(highest, -1, -1)
        )
        return cls(brackets, reduction)

    def place(self, number: int) -> tuple[int, Bracket]:
        """The bracket of a setting: its first number, which tells brackets apart, and itself."""
        turn = sum(bracket.size for bracket in self.brackets)
        first = number // turn * turn
        for bracket in self.brackets:
            if number < first + bracket.size:
                break
            first += bracket.size
        return first, bracket

    def first(self, number: int) -> int:
        """After how many epochs a new setting pauses."""
        return self.place(number)[1].levels[0]

    @property
    def largest(self) -> int:
        """Settings of the largest bracket."""
        return max(bracket.size for bracket in self.brackets)

    def epochs(self, settings: int) -> int:
        """Epochs that so many settings take, none of which fails.

        Example:
            >>> Rungs.halving(epochs=10).epochs(9), 9 * 10
            (22, 90)
        """
        total = number = 0
        while number < settings:
            first, bracket = self.place(number)
            there = min(bracket.size, settings - first)
            number = first + bracket.size
            before = 0
            for level in bracket.levels:
                total += there * (level - before)
                there, before = self._quota(there), level
        return total

    def decide(self, trials: Sequence[FrozenTrial], to_come: int) -> Decision:
        """Who goes on and who is beaten.

        Args:
            trials: all of the study, by number.
            to_come: how many settings are still to be begun.
        """
        go_on, beaten = [], []
        following = len(trials)  # numbers of those to come
        for first, bracket, members in self._brackets(trials):
            end = first + bracket.size
            coming = max(0, min(end, following + to_come) - max(first, following))
            for level, after in zip(bracket.levels, bracket.levels[1:], strict=False):
                scored = [(_score(trial, level), -root_of(trial), trial) for trial in members]
                known = sorted((s, root) for s, root, _ in scored if s is not None)
                unknown = len(members) - len(known) + coming
                quota = self._quota(len(members) + coming)
                for score, root, trial in scored:
                    if score is None or not _pauses_at(trial, level, after):
                        continue
                    better = len(known) - 1 - known.index((score, root))
                    if better + unknown < quota:
                        go_on.append((trial, after))
                    elif better >= quota:
                        beaten.append(trial)
                # Only those of the best can come to the next rung.
                members = [trial for _, _, trial in sorted(scored, key=_by_score)[-quota:]]
                if unknown:
                    break  # who comes to the next rung is not settled yet
                coming = 0
        # Whoever is furthest has the most to tell.
        go_on.sort(key=lambda pair: (-pair[1], root_of(pair[0])))
        return Decision(go_on, beaten)

    def _brackets(
        self, trials: Sequence[FrozenTrial]
    ) -> Iterable[tuple[int, Bracket, list[FrozenTrial]]]:
        latest: dict[int, FrozenTrial] = {}
        for trial in trials:
            if not is_final(trial):
                latest[root_of(trial)] = trial
        grouped: dict[int, list[FrozenTrial]] = {}
        brackets = {}
        for root, trial in sorted(latest.items()):
            if trial.state == TrialState.FAIL:
                continue  # another number takes its place in the study
            first, bracket = self.place(root)
            brackets[first] = bracket
            grouped.setdefault(first, []).append(trial)
        for first, members in grouped.items():
            yield first, brackets[first], members

    def _quota(self, settings: int) -> int:
        """How many of so many go on; of any at least one."""
        return max(1, settings // self.reduction) if settings else 0


def root_of(trial: FrozenTrial | optuna.Trial) -> int:
    """The number of a trial's first try."""
    return int(trial.user_attrs.get(ROOT, trial.number))


def is_final(trial: FrozenTrial) -> bool:
    """Whether a trial runs to its end whatever others have reached (:mod:`studies.finals`)."""
    return SEEDS in trial.user_attrs


def owed(trials: Sequence[FrozenTrial]) -> set[int]:
    """Numbers of failed trials whose next try is about to be queued."""
    latest = {root_of(trial): trial for trial in trials}
    failed = (t for t in latest.values() if t.state == TrialState.FAIL)
    return {trial.number for trial in failed if trial.user_attrs.get(AGAIN)}


def is_paused(trial: FrozenTrial) -> bool:
    """Whether a trial waits to go on; others that wait have not begun."""
    return trial.state == TrialState.WAITING and trial.user_attrs.get(EPOCHS) is not None


def trained(trial: FrozenTrial) -> int:
    """Epochs that a trial has reported."""
    return max(trial.intermediate_values, default=-1) + 1


def _levels(epochs: int, reduction: int, smallest: int) -> tuple[int, ...]:
    if reduction < 2:
        raise StudyError(f"of how many settings one goes on must be at least 2, got {reduction}")
    if smallest < 1:
        raise StudyError(f"the lowest rung must be at least 1 epoch, but got {smallest}")
    levels, share = [epochs], 1.0
    while (level := round(epochs / (share := share * reduction))) >= smallest:
        if level < levels[-1]:
            levels.append(level)
    return tuple(reversed(levels))


def _score(trial: FrozenTrial, level: int) -> float | None:
    """The best accuracy up to a rung; None if that is not known yet."""
    if trained(trial) >= level:
        values = (value for step, value in trial.intermediate_values.items() if step < level)
        return max(values, default=-math.inf)
    return -math.inf if trial.state.is_finished() else None


def _by_score(scored: tuple[float | None, int, FrozenTrial]) -> tuple[float, int]:
    score, root, _ = scored
    return -math.inf if score is None else score, root


def _pauses_at(trial: FrozenTrial, level: int, after: int) -> bool:
    return (
        is_paused(trial)
        and level <= trained(trial) < after
        and trial.user_attrs.get(UNTIL, 0) <= trained(trial)
    )


RUNGS: dict[str, Callable[[int, int], Rungs]] = {
    "halving": Rungs.halving,
    "hyperband": Rungs.hyperband,
}
"""By a pruner's name, what makes rungs of epochs and of how many settings one goes on."""
