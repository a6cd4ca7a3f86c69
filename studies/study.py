"""A named study: what is searched, how it is scored, and its place in a storage.

A study is described by a :class:`Plan` that is kept with it. Opening it again
with another plan is refused: trials that were scored differently do not
compare.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from bsnn_tha.config import RunConfig
from studies import hub
from studies.errors import StudyError
from studies.pruners import PRUNERS
from studies.race import Race
from studies.rungs import RUNGS, Rungs
from studies.samplers import SAMPLERS
from studies.sampling import SeesPaused
from studies.storage import shown

OBJECTIVES = {
    "accuracy": "maximize",
    "map": "maximize",
    "timing": "maximize",
    "spikes": "minimize",
    "dead": "minimize",
    "operations": "minimize",
}
"""What a trial can be scored by, and in which direction."""
COMPARED = (("accuracy",), ("map",))
"""Objectives that each epoch has a value of, by which trials are compared before they end."""

_PLAN = "plan"
BEGUN = "begun"
"""User attribute of a study: when, which tells it from others of its name."""


@dataclass(frozen=True)
class Plan:
    """Everything that makes two trials of a study comparable.

    Args:
        config: TOML of the configuration that trials change, with the budget
            (epochs, subset, time steps) in it.
        space: the table of what is searched: key, range, per what.
        objectives: names in :data:`OBJECTIVES`.
        seeds: between how many and how many seeds a setting gets, as of :class:`Race`.
    """

    config: str
    space: tuple[tuple[str, str, str], ...]
    objectives: tuple[str, ...] = ("accuracy",)
    seeds: str = "1"

    @property
    def race(self) -> Race:
        """How many seeds a setting gets."""
        return Race.parse(self.seeds)

    @property
    def base(self) -> RunConfig:
        """The configuration that trials change."""
        # Read only: what is trained is the plan of whoever asks for it.
        return RunConfig.from_toml(self.config, "the study's configuration", allow_code=True)

    @property
    def directions(self) -> list[Any]:
        """Of the objectives, for Optuna."""
        return [OBJECTIVES[name] for name in self.objectives]

    def differences(self, other: Plan) -> list[str]:
        """What another plan would change, one phrase each."""
        differences = []
        if self.objectives != other.objectives:
            differences.append(
                f"objectives {', '.join(self.objectives)} (asked for {', '.join(other.objectives)})"
            )
        # With defaults, so that a study may be older than a setting. No trial takes snapshots.
        mine, theirs = (plan.base.flat() for plan in (self, other))
        for key in sorted(mine.keys() | theirs.keys()):
            if mine.get(key) != theirs.get(key) and not key.startswith("snapshots."):
                differences.append(f"{key} = {mine.get(key)} (asked for {theirs.get(key)})")
        if self.seeds != other.seeds:
            differences.append(f"{self.seeds} seeds per trial (asked for {other.seeds})")
        if self.space != other.space:
            differences.append("another search space")
        return differences

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        values = json.loads(text)
        return cls(
            values["config"],
            tuple((key, text, per) for key, text, per in values["space"]),
            tuple(values["objectives"]),
            values.get("seeds", "1"),
        )


@dataclass(frozen=True)
class Method:
    """How a study is searched; may change from one call to the next.

    Args:
        sampler: of :data:`~studies.samplers.SAMPLERS`, ``module:Class``, or one of OptunaHub's
            (:mod:`studies.hub`).
        pruner: of :data:`~studies.pruners.PRUNERS`, ``module:factory``, or one of OptunaHub's; by
            validation accuracy after each epoch.
        reduction: of how many settings one goes on, at the rungs of halving and hyperband.
        seed: of the sampler; None draws one.
        worker: which worker this is. Each draws its own numbers, and others
            than an earlier call did.
    """

    sampler: str = "tpe"
    pruner: str = "halving"
    reduction: int = 3
    seed: int | None = None
    worker: int = 0

    def __post_init__(self) -> None:
        for axis, choice in ((SAMPLERS, self.sampler), (PRUNERS, self.pruner)):
            if hub.named(choice):
                hub.check(choice)
            else:
                axis.check_name(choice)
        if self.reduction < 2:
            raise StudyError(
                f"of how many settings one goes on must be at least 2, but got {self.reduction}"
            )
        if self.seed is not None and self.seed < 0:
            raise StudyError(f"a sampler's seed must be at least 0, but got {self.seed}")

    def build_sampler(self, begun: int = 0, source: Sequence[Any] = ()) -> BaseSampler:
        """Optuna's sampler.

        Args:
            begun: trials that the study has already.
            source: trials of other studies, for a sampler that starts from some.

        Raises:
            StudyError: the sampler's library is not installed.
        """
        entropy, seed = self.entropy(begun), None
        if entropy is not None:
            seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        given = {"seed": seed} | ({"source_trials": list(source)} if source else {})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                sampler: BaseSampler = SAMPLERS.make(_chosen(self.sampler), given=given)
        except ImportError as error:
            raise StudyError(f"sampler {self.sampler!r} needs a package: {error}") from None
        if not isinstance(sampler, BaseSampler):
            raise StudyError(
                f"sampler {self.sampler!r} must give an optuna.samplers.BaseSampler, but got "
                f"{type(sampler).__name__}"
            )
        return sampler

    def entropy(self, begun: int = 0) -> tuple[int, ...] | None:
        """What random numbers of this worker come from; None if no seed was given."""
        return None if self.seed is None else (self.seed, self.worker, begun)

    def rungs(self, plan: Plan) -> Rungs | None:
        """Where trials of a plan pause and are compared; None if they never do."""
        make = RUNGS.get(self.pruner)
        compared = plan.objectives in COMPARED and plan.base.data.validation > 0
        return make(plan.base.training.epochs, self.reduction) if make and compared else None

    def build_pruner(self) -> BasePruner:
        """Optuna's pruner, which never prunes where there are rungs.

        Raises:
            StudyError: one's own is none of Optuna's.
        """
        pruner = PRUNERS.make(_chosen(self.pruner))
        if not isinstance(pruner, BasePruner):
            raise StudyError(
                f"pruner {self.pruner!r} must give an optuna.pruners.BasePruner, but got "
                f"{type(pruner).__name__}"
            )
        return pruner


def _chosen(choice: str) -> Any:
    return hub.load(choice) if hub.named(choice) else choice


@dataclass(frozen=True)
class OpenStudy:
    """A study with its plan, opened for a worker or a report."""

    study: optuna.Study
    plan: Plan


def open_study(
    storage: BaseStorage,
    where: str,
    name: str,
    plan: Plan,
    method: Method,
    *,
    force: bool = False,
    source: Sequence[Any] = (),
) -> OpenStudy:
    """Create a study, or go on with it.

    Args:
        storage: opened, and ``where``, its address for messages.
        name: of the study.
        plan: what it searches.
        method: how.
        force: go on although the plan differs; the new plan replaces the old.
        source: trials of other studies that the sampler may start from.

    Raises:
        StudyError: the study exists with another plan.
    """
    options: dict[str, Any] = {
        "sampler": method.build_sampler(),
        "pruner": method.build_pruner(),
    }
    try:  # Creating it first would be a record in the journal each time.
        study = optuna.load_study(storage=storage, study_name=name, **options)
    except KeyError:
        try:
            study = optuna.create_study(
                storage=storage, study_name=name, directions=plan.directions, **options
            )
        except DuplicatedStudyError:  # another worker was faster
            study = optuna.load_study(storage=storage, study_name=name, **options)
    trials = len(study.get_trials(deepcopy=False))
    study.sampler = method.build_sampler(trials, source)
    if method.rungs(plan) is not None:
        study.sampler = SeesPaused(study.sampler)
    kept = stored_plan(study)
    if kept is None:
        if trials:
            raise StudyError(f"study {name!r} in {shown(where)} was not made by bsnn-tha study")
        # New, or whoever created it was killed, or is about to do the same.
        study.set_user_attr(BEGUN, datetime.now(UTC).isoformat())
        study.set_user_attr(_PLAN, plan.to_json())
        return OpenStudy(study, plan)
    if differences := kept.differences(plan):
        if not force or kept.objectives != plan.objectives:
            if len(differences) > 6:
                differences[5:] = [f"{len(differences) - 5} other differences"]
            raise StudyError(
                f"study {name!r} in {shown(where)} exists with {'; '.join(differences)}; "
                "choose another --name"
                + ("" if kept.objectives != plan.objectives else ", or go on with --force")
            )
        study.set_user_attr(_PLAN, plan.to_json())
    return OpenStudy(study, plan)


def stored_plan(study: optuna.Study) -> Plan | None:
    """The plan that is kept with a study; None for one that is not ours."""
    text = study.user_attrs.get(_PLAN)
    return None if text is None else Plan.from_json(text)


def load_existing(storage: BaseStorage, where: str, name: str) -> OpenStudy:
    """Open a study for reading.

    Raises:
        StudyError: there is none of this name, or it was not made by this tool.
    """
    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        raise StudyError(f"there is no study {name!r} in {shown(where)}") from None
    plan = stored_plan(study)
    if plan is None:
        raise StudyError(f"study {name!r} in {shown(where)} was not made by bsnn-tha study")
    return OpenStudy(study, plan)
