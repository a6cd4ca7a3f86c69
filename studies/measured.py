"""What trials are compared by: their values, or what they had reached when most were there.

Where trials pause and most are beaten at a rung, few have a value, and those are the best ones:
what told them from the others cannot be seen among them. What a setting is worth after the
first epochs is known of nearly all.
"""

from __future__ import annotations

from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from studies.rungs import trained
from studies.study import COMPARED, OpenStudy

IN_WORDS = {
    "map": "mean average precision",
    "spikes": "spikes per sample",
    "dead": "share of dead neurons",
    "operations": "operations per sample",
}
"""Objectives whose names do not say what they are."""


@dataclass(frozen=True)
class Measured:
    """Trials with a number each that says the same of all.

    Args:
        trials: of a study.
        values: in their order.
        what: the numbers are.
    """

    trials: list[FrozenTrial]
    values: list[float]
    what: str


def in_words(objective: str) -> str:
    """What an objective measures."""
    return IN_WORDS.get(objective, objective)


def measured(opened: OpenStudy, objective: int = 0) -> Measured:
    """Values of complete trials, if they are half of those that reported anything.

    Otherwise the best value up to the last epoch that half of them have come to.

    Args:
        opened: the study.
        objective: its place among the plan's.
    """
    name = in_words(opened.plan.objectives[objective])
    trials = opened.study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    reported = [trial for trial in trials if trial.intermediate_values]
    if opened.plan.objectives not in COMPARED or 2 * len(complete) >= len(reported):
        return Measured(complete, [trial.values[objective] for trial in complete], name)
    longest_first = sorted((trained(trial) for trial in reported), reverse=True)
    epochs = longest_first[(len(reported) - 1) // 2]
    there = [trial for trial in reported if trained(trial) >= epochs]
    values = [
        max(value for epoch, value in trial.intermediate_values.items() if epoch < epochs)
        for trial in there
    ]
    return Measured(there, values, f"{name} after {epochs} epoch{'s' if epochs > 1 else ''}")
