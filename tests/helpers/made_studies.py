"""Studies that were never trained: trials of any end and number, with a plan."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from bsnn_tha.presets import load_preset
from studies.space import Choice, Depth, Number, Space
from studies.study import OpenStudy, Plan

BASE = load_preset("digits").with_changes({"training.epochs": 3})
DEPTH = Depth(3, 1)
BETA = Number("neuron.beta", 0.1, 0.99)
SLOPE = Number("neuron.slope", 0.1, 30.0, log=True)
CLIP = Choice("training.grad_clip", None, 1.0)
NORM = Choice("network.norm", "per-step", "none")


def made(score, trials, rows=(BETA, SLOPE, CLIP), objectives=("accuracy",), **options):
    """A study of so many trials.

    Args:
        score: of a trial and its settings: its values; None leaves it as it is.
        trials: how many.
        rows: of the space.
        objectives: as many as there are values.
        options: of ``optuna.create_study``.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = Space(*rows)
    plan = Plan(BASE.to_toml(), tuple(space.table()), objectives)
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(
        **{"study_name": "made", "directions": plan.directions, "sampler": sampler} | options
    )
    for _ in range(trials):
        trial = study.ask()
        settings = space.suggest(trial, DEPTH)
        trial.set_user_attr("config", BASE.with_changes(settings).to_toml())
        result = score(trial, settings)
        if isinstance(result, TrialState):
            study.tell(trial, state=result)
        elif result is not None:
            study.tell(trial, result)
    return OpenStudy(study, plan)
