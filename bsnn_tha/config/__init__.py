"""The full description of a run: validated, frozen, and TOML in both directions.

A preset, a ``--config`` file and the ``config.toml`` in a run folder are the same thing.
Types and unknown keys are checked here; the rules of the values (θ∞ > θ0, β in [0, 1], …)
have their home in the classes that use them, which :meth:`RunConfig.build_network` and
friends construct before a run starts.

:mod:`~bsnn_tha.config.sections` has the tables and their keys, :mod:`~bsnn_tha.config.axes`
the keys that name a choice, :mod:`~bsnn_tha.config.rules` what goes with what,
:mod:`~bsnn_tha.config.history` what keys were once called,
:mod:`~bsnn_tha.config.dotted` how their tables are walked,
:mod:`~bsnn_tha.config.leaving_out` how a change leaves one out, and
:mod:`~bsnn_tha.config.run_config` what reads, changes, writes and builds.
"""

from bsnn_tha.config.axes import AXES
from bsnn_tha.config.run_config import RunConfig
from bsnn_tha.config.sections import OptimizerSection, SnapshotsSection

__all__ = ["AXES", "OptimizerSection", "RunConfig", "SnapshotsSection"]
