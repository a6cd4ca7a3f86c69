"""From what a study is asked for to its plan: preset, space and data, checked before it begins."""

from __future__ import annotations

from typing import Any, NamedTuple

from bsnn_tha.config import RunConfig
from bsnn_tha.data import check_options
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.notation import write_out
from bsnn_tha.suggest import did_you_mean
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.session import Session
from studies.errors import StudyError
from studies.objective import check_objectives
from studies.options import Options
from studies.space import Depth, Space
from studies.spaces import load_space, space_for
from studies.study import Plan


class Prepared(NamedTuple):
    """What options describe, with the data that were loaded to find out."""

    plan: Plan
    space: Space
    dataset: Dataset
    depth: Depth
    """Of the plan's network."""

    def published(self) -> dict[str, Any]:
        """The parameters of the first trial: where the paper ended, or the values to begin with.

        Raises:
            StudyError: the space does not reach so far.
        """
        try:
            return self.space.parameters(self.plan.base, self.depth)
        except InvalidValueError as error:
            raise StudyError(
                f"the first trial cannot have the settings to begin with: {error}; give another "
                "value with --begin, widen the space, or leave them out with --no-published"
            ) from None


def prepare(options: Options) -> Prepared:
    """The plan that the options describe. Loads the data and builds the network, once.

    Raises:
        InvalidValueError: no such preset, or a change breaks a rule.
        StudyError: the space cannot be loaded, or an objective does not fit.
    """
    config = options.config
    if config.training.protocol != "validation":
        raise InvalidValueError(
            "a study never sees the test set: training.protocol must be validation"
        )
    # Trials are compared at the epochs they are given; pruning stops them early.
    config = config.with_changes({"training.patience": None})
    dataset = load_data(config, options.machine)
    check_objectives(options.objectives, dataset)
    session = Session.prepare(config, options.machine, dataset)  # what training would refuse
    if len(options.objectives) > 1 and options.sampler == "cma-es":
        raise StudyError("sampler 'cma-es' takes one objective; use nsga2 or tpe for two")
    if options.space:
        space = load_space(options.space)
    else:
        space = _fitting(space_for(config, dataset), config)
    # What the command line sets is not searched.
    fixed = options.changes or {}
    space = space.without(*fixed).bound(config)
    prefix = "data.options."
    check_options(
        config.data.name,
        [row.key.removeprefix(prefix) for row in space.rows if row.key.startswith(prefix)],
    )
    if not space.rows:
        raise StudyError("there is nothing to search: --set fixes every row of the space")
    searched = [row.key for row in space.rows]
    for key in options.begin or {}:
        if key not in searched:
            raise StudyError(
                f"{key} is not searched{did_you_mean(key, searched)}; give its value with --set"
            )
    if "threshold.theta_inf" in fixed and any(r.key == "threshold.theta_0" for r in space.rows):
        raise StudyError(
            "threshold.theta_inf is fixed but threshold.theta_0 is searched, which may come to "
            "lie above it; --set both"
        )
    plan = Plan(config.to_toml(), tuple(space.table()), options.objectives, options.seeds)
    return Prepared(plan, space, dataset, Depth.of(session.module.network))


def _fitting(space: Space, config: RunConfig) -> Space:
    """Without rows for what a network does not have."""
    convolutional = "C" in write_out(config.network.notation)
    return space if convolutional else space.without("network.norm")
