"""Networks to measure, from the zoo or from runs."""

from __future__ import annotations

from pathlib import Path

from bsnn_tha import zoo
from bsnn_tha.deploy.deployment import Deployment
from bsnn_tha.deploy.export import deploy
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.trained import load


def deployed(run: str, samples: int) -> Deployment:
    """A network of the zoo, or of a run, with test samples."""
    named = zoo.named(run)
    name = zoo.name_of(run) if named else Path(run).resolve().name
    trained = zoo.load(name) if named else load(run)
    return deploy(
        trained, load_data(trained.config, Machine()), name=name, samples=samples
    ).deployment
