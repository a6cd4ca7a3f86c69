"""Networks of this project, trained: packed files in the package, 10 to 69 kB each.

>>> from bsnn_tha import zoo
>>> zoo.names()[0]
'digits'

Each file is a packed network (:mod:`bsnn_tha.deploy.packed`): its facts say with which preset,
seed and commit it was trained, what was measured on the test set, and its licence. ``bsnn-tha
evaluate`` and ``export`` take ``zoo:NAME`` where they take a run's folder.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from bsnn_tha.deploy.packed import Packed, parsed
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import did_you_mean

if TYPE_CHECKING:
    from bsnn_tha.nn.network import SpikingNetwork
    from bsnn_tha.training.machine import Machine
    from bsnn_tha.training.trained import Trained

PREFIX = "zoo:"
SUFFIX = ".safetensors"


def names() -> list[str]:
    """Of the networks there are."""
    files = (file.name for file in resources.files(__package__).iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX))


def named(run: str) -> bool:
    """Whether what stands for a run names a network of the zoo.

    Example:
        >>> named("zoo:mnist"), named("runs/mnist-tha-1")
        (True, False)
    """
    return run.startswith(PREFIX)


def name_of(run: str, checkpoint: str = "best") -> str:
    """``mnist`` of ``zoo:mnist``.

    Raises:
        InvalidValueError: another checkpoint than the best was asked for, and there is none.
    """
    if checkpoint != "best":
        raise InvalidValueError(
            f"{run} has its best parameters only, but the checkpoint asked for is {checkpoint!r}; "
            "leave it out"
        )
    return run.removeprefix(PREFIX)


def packed(name: str) -> Packed:
    """The packed network, which needs no torch.

    Raises:
        InvalidValueError: there is none of that name.

    Example:
        >>> packed("digits").facts["licence"]
        'MIT'
    """
    if name not in names():
        raise InvalidValueError(f"the zoo has no network {name!r}{did_you_mean(name, names())}")
    content = (resources.files(__package__) / f"{name}{SUFFIX}").read_bytes()
    return parsed(content, f"{PREFIX}{name}")


def load(name: str) -> Trained:
    """The trained network, as :func:`bsnn_tha.load` gives one of a run.

    Its weights are signs; what else was learned is as it was.

    Example:
        >>> trained = load("digits")
        >>> trained
        <Trained zoo:digits: digits, variant best, 32C3-64C3-AP2-10, binary weights>
        >>> trained.network.notation, round(100 * trained.accuracy) > 95
        ('32C3-64C3-AP2-10', True)
    """
    from bsnn_tha.deploy.restore import configuration, spiking_network
    from bsnn_tha.training.task import Task
    from bsnn_tha.training.trained import Trained

    found, where = packed(name), f"{PREFIX}{name}"
    config, network = configuration(found, where), spiking_network(found, where)
    task = Task(
        network.input_shape, found.network.input.kind == "image", tuple(found.facts["labels"])
    )
    summary: dict[str, Any] = {"test": {"accuracy": found.facts["trained_accuracy"]}}
    return Trained(network, config.build_loss(network), config, task, summary, where)


def evaluate(name: str, split: str, machine: Machine) -> dict[str, Any]:
    """Measure a network on its data set, as :func:`bsnn_tha.training.evaluation.evaluate` a run."""
    from bsnn_tha.training.evaluation import evaluate_split

    trained = load(name)
    state = trained.network.state_dict()
    return evaluate_split(
        trained.config, split, lambda module: _fill(module.network, state), machine
    )


def _fill(network: SpikingNetwork, state: dict[str, Any]) -> None:
    network.load_state_dict(state)
