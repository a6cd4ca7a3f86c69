"""One worker: takes trials until a study has as many as were asked for.

Any number of workers, on any number of computers, share a study through its
storage alone. Three rules make them exact:

**Numbers.** The storage numbers trials atomically. A trial runs only if fewer
than N living trials (finished, pruned or running) have smaller numbers; one
that comes too late is marked as failed, "not needed", and never counted.

**Signs of life.** A trial whose worker shows none (:mod:`studies.heartbeat`) is
marked as failed by whoever notices first.

**Second chances.** A trial that died with its worker is put back in the queue
with the same parameters, up to :data:`RETRIES` times; it goes on from its checkpoint.

**Pauses.** A trial that stops at a rung (:mod:`studies.rungs`), or because time is up, waits
with all that it has, and whoever is free goes on with it. It counts among the N.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from bsnn_tha.words import counted
from studies import heartbeat
from studies.checkpoints import Checkpoints
from studies.errors import StudyError, TrialFailedError, TrialPausedError
from studies.finals import Finals, tries
from studies.optuna_internals import begin, claim, put_back, storage_of, trial_id
from studies.race import INSTANCES
from studies.rungs import (
    AGAIN,
    EPOCHS,
    ROOT,
    SEEDS,
    UNTIL,
    Rungs,
    is_paused,
    owed,
    root_of,
)

RETRIES = 3
"""How often a trial is tried again after its worker died."""
FAILURES_IN_A_ROW = 10
"""So many failed trials of one worker in a row end it: something is wrong for all."""
POLL = 1.0
"""Seconds between looks at trials that others run."""

Objective = Callable[[optuna.Trial], float | Sequence[float]]

_ALIVE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
_HANDED_ON = ("published", "warm start", UNTIL, INSTANCES, SEEDS)
"""What a trial that is tried again keeps of its user attributes."""
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count: complete or pruned."""
    return study.get_trials(deepcopy=False, states=_FINISHED)


@dataclass
class Worker:
    """Runs trials of a study.

    Args:
        study: opened.
        objective: scores a trial; may raise ``optuna.TrialPruned``,
            :class:`~studies.errors.TrialFailedError` or
            :class:`~studies.errors.TrialPausedError`.
        trials: N, how many trials the study shall have.
        deadline: ``time.monotonic()`` after which no trial is begun; None for
            no limit.
        told: called after each trial with its final state, or as it is when it pauses.
        rungs: where trials pause and who goes on; None if they run to their end.
        checkpoints: of trials, removed when they have ended.
        finals: which of the trials are finals; None if none are.
        lingers: wait while others run the last trials, which may yet fail; else leave.
        stopping: set it to end the worker after its trial.
    """

    study: optuna.Study
    objective: Objective
    trials: int
    deadline: float | None = None
    told: Callable[[FrozenTrial], None] = lambda trial: None
    rungs: Rungs | None = None
    checkpoints: Checkpoints | None = None
    finals: Finals | None = None
    lingers: bool = True
    stopping: threading.Event = field(default_factory=threading.Event)
    _watch: heartbeat.Watch = field(default_factory=heartbeat.Watch)
    _owed: dict[int, float] = field(default_factory=dict)

    def work(self) -> None:
        """Take trials until there are N, time is up or :attr:`stopping` is set.

        One that does not linger also ends when there is none to be had for now.

        Raises:
            StudyError: :data:`FAILURES_IN_A_ROW` trials failed.
        """
        failures = 0
        self._sweep()
        while not self.stopping.is_set() and not self._late():
            self._bury_the_dead()
            if len(finished(self.study)) >= self.trials:
                break
            trial = self._next()
            if trial is None:
                if not self.lingers:
                    break
                self.stopping.wait(POLL)  # others run the last ones; they may yet fail
                continue
            result = self._run(trial)
            self.told(result)
            failures = failures + 1 if result.state == TrialState.FAIL else 0
            if failures == FAILURES_IN_A_ROW:
                raise StudyError(
                    f"{failures} trials failed in a row, the last with: "
                    f"{result.user_attrs.get('reason')}; mend that and give the command again"
                )
        self._sweep()

    def _next(self) -> optuna.Trial | None:
        """What to run now: one that paused, one from the queue, or a new one."""
        trials = self.study.get_trials(deepcopy=False)
        if (paused := self._going_on(trials)) is not None:
            return paused
        if self._alive(trials) >= self.trials:
            return None
        queued = [t for t in trials if t.state == TrialState.WAITING and not is_paused(t)]
        trial = next(filter(None, (claim(self.study, t) for t in queued)), None)
        if trial is None and queued:
            return self._next()  # others took them meanwhile, perhaps the last ones
        if trial is None and (final := self._final(trials)) is not None:
            self.study.add_trial(final)
            return self._next()  # it is in the queue now, whoever takes it
        trial = trial or begin(self.study)
        if self._rank(trial) >= self.trials:
            trial.set_user_attr("reason", "not needed: others were faster")
            self.study.tell(trial, state=TrialState.FAIL)
            return self._next()
        if self.rungs is not None and UNTIL not in trial.user_attrs:
            trial.set_user_attr(UNTIL, self.rungs.first(trial.user_attrs.get(ROOT, trial.number)))
        return trial

    def _final(self, trials: list[FrozenTrial]) -> FrozenTrial | None:
        """The next final, if enough settings have been begun."""
        finals = self.finals
        if finals is None or tries(trials) < finals.to_try(self.trials):
            return None
        return finals.next(trials)

    def _going_on(self, trials: list[FrozenTrial]) -> optuna.Trial | None:
        """A paused trial whose turn it is; those that are beaten are ended on the way."""
        paused = [trial for trial in trials if is_paused(trial)]
        if not paused:
            return None
        if self.rungs is None:
            candidates: list[tuple[FrozenTrial, int | None]] = [(trial, None) for trial in paused]
        else:
            candidates = [
                (trial, trial.user_attrs.get(UNTIL))
                for trial in paused
                if trial.user_attrs[EPOCHS] < trial.user_attrs.get(UNTIL, math.inf)  # time was up
            ]
            if not self._some_are_owed(trials):
                to_come = max(0, self._to_try() - tries(trials))
                decision = self.rungs.decide(trials, to_come)
                for beaten in decision.beaten:
                    self._end(beaten)
                candidates += decision.go_on
        for waiting, until in self._those_at_hand_first(candidates):
            trial = claim(self.study, waiting)
            if trial is not None:
                if until != waiting.user_attrs.get(UNTIL):
                    trial.set_user_attr(UNTIL, until)
                return trial
        return None

    def _those_at_hand_first(
        self, candidates: list[tuple[FrozenTrial, int | None]]
    ) -> list[tuple[FrozenTrial, int | None]]:
        """Trials whose checkpoint is here before those that would be trained again."""
        kept = self.checkpoints
        if kept is None:
            return candidates
        return sorted(candidates, key=lambda pair: not kept.has(root_of(pair[0])))

    def _end(self, beaten: FrozenTrial) -> None:
        trial = claim(self.study, beaten)
        if trial is not None:
            self.told(self._ended(self._tell(trial, state=TrialState.PRUNED)))

    def _some_are_owed(self, trials: list[FrozenTrial]) -> bool:
        """Whether others are about to queue a failed trial again, which is one step after."""
        now = time.monotonic()
        self._owed = {number: self._owed.get(number, now) for number in owed(trials)}
        # Unless they died between the two.
        return any(now - since < heartbeat.GRACE for since in self._owed.values())

    def _run(self, trial: optuna.Trial) -> FrozenTrial:
        with heartbeat.shown(trial):
            try:
                values = self.objective(trial)
            except TrialPausedError as pause:
                return self._pause(trial, pause)
            except optuna.TrialPruned as pruned:
                if pruned.args:
                    trial.set_user_attr("reason", str(pruned))
                return self._ended(self._tell(trial, state=TrialState.PRUNED))
            except TrialFailedError as failure:
                trial.set_user_attr("reason", str(failure))
                return self._ended(self._tell(trial, state=TrialState.FAIL))
            except UpdateFinishedTrialError:
                return self._frozen(trial)  # as in _tell
            except BaseException as error:
                # Ctrl-C or a bug: the trial is tried again by whoever goes on.
                stopped = not isinstance(error, Exception)
                reason = "the worker was stopped" if stopped else f"{type(error).__name__}: {error}"
                self._fail_and_retry(trial_id(trial), reason)
                raise
        if any(value is None or math.isnan(value) for value in _sequence(values)):
            trial.set_user_attr("reason", "a score is not a number")
            return self._ended(self._tell(trial, state=TrialState.FAIL))
        return self._ended(self._tell(trial, values))

    def _pause(self, trial: optuna.Trial, pause: TrialPausedError) -> FrozenTrial:
        if pause.time_is_up:
            self.stopping.set()
        try:
            trial.set_user_attr(EPOCHS, pause.epochs)
            trial.set_user_attr(heartbeat.WORKER, None)  # whoever goes on must not seem dead
            put_back(self.study, trial)
        except UpdateFinishedTrialError:
            pass  # as in _tell
        return self._frozen(trial)

    def _ended(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial, without its checkpoint, unless others are trying it again."""
        if self.checkpoints is not None and not trial.user_attrs.get(AGAIN):
            self.checkpoints.discard(root_of(trial))
        return trial

    def _sweep(self) -> None:
        if self.checkpoints is not None:
            latest = {root_of(t): t for t in self.study.get_trials(deepcopy=False)}
            self.checkpoints.sweep(
                {
                    root
                    for root, trial in latest.items()
                    if trial.state.is_finished() and not trial.user_attrs.get(AGAIN)
                }
            )

    def _tell(self, trial: optuna.Trial, values: Any = None, **options: Any) -> FrozenTrial:
        try:
            return self.study.tell(trial, values, **options)
        except (UpdateFinishedTrialError, ValueError):
            # Others took this worker for dead and the trial is being repeated.
            result = self._frozen(trial)
            if not result.state.is_finished():
                raise
            return result

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return storage_of(self.study).get_trial(trial_id(trial))

    def _to_try(self) -> int:
        """Trials that try what the sampler suggests."""
        return self.trials if self.finals is None else self.finals.to_try(self.trials)

    def _alive(self, trials: list[FrozenTrial]) -> int:
        """Trials that count, now or when they have ended."""
        return sum(trial.state in _ALIVE or is_paused(trial) for trial in trials)

    def _rank(self, trial: optuna.Trial) -> int:
        """How many living trials come before this one.

        Those that wait in the queue count: one of them may have been put there
        while this one began, and will run.
        """
        states = (*_ALIVE, TrialState.WAITING)
        others = self.study.get_trials(deepcopy=False, states=states)
        return sum(other.number < trial.number for other in others)

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _bury_the_dead(self) -> None:
        """Fail running trials whose worker is gone, and queue them again."""
        for trial in self._watch.dead(self.study):
            self._fail_and_retry(trial_id(trial))

    def _fail_and_retry(self, dead: int, reason: str = "its worker died") -> None:
        storage = storage_of(self.study)
        trial = storage.get_trial(dead)
        tries = trial.user_attrs.get("tries", 1)
        again = tries <= RETRIES
        try:
            storage.set_trial_user_attr(dead, "reason", reason)
            storage.set_trial_user_attr(dead, AGAIN, again)
            if not storage.set_trial_state_values(dead, TrialState.FAIL):
                return
        except UpdateFinishedTrialError:
            return  # it was alive after all, or another worker was faster
        if again:
            self.study.add_trial(
                optuna.create_trial(
                    state=TrialState.WAITING,
                    # It may have died before all of its parameters were drawn.
                    system_attrs={
                        "fixed_params": trial.system_attrs.get("fixed_params", {}) | trial.params
                    },
                    user_attrs={
                        **{k: v for k, v in trial.user_attrs.items() if k in _HANDED_ON},
                        ROOT: root_of(trial),
                        "retry_of": trial.number,
                        "tries": tries + 1,
                    },
                    intermediate_values=trial.intermediate_values,
                )
            )


def outcome(trial: FrozenTrial) -> str:
    """How a trial ended, in a few words."""
    reason = trial.user_attrs.get("reason", "")
    if trial.state == TrialState.COMPLETE:
        return ", ".join(f"{value:.4f}" for value in trial.values or [])
    if trial.state == TrialState.PRUNED:
        return (
            f"pruned ({reason})"
            if reason
            else f"pruned after {counted(len(trial.intermediate_values), 'epoch')}"
        )
    return f"{trial.state.name.lower()} ({reason})" if reason else trial.state.name.lower()


def _sequence(values: float | Sequence[float]) -> Sequence[float]:
    return values if isinstance(values, Sequence) else (values,)
