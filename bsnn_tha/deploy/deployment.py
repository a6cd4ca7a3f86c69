"""What is handed to a target, and which targets there are.

A target writes a folder for one kind of place where the network is to run. It is a function
of a :class:`Deployment` and an empty folder, named in :data:`TARGETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bsnn_tha.deploy.network import Array, DeployedNetwork
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import did_you_mean

if TYPE_CHECKING:
    from bsnn_tha.config import RunConfig
    from bsnn_tha.nn.network import SpikingNetwork


@dataclass(frozen=True)
class Samples:
    """Test samples, as the network takes them.

    Attributes:
        inputs: in whole numbers, ``[samples, *shape]`` of images, and
            ``[time, samples, *shape]`` of events.
        targets: their classes, ``[samples]``.
        num_steps: T of images; None of events.
    """

    inputs: Array
    targets: Array
    num_steps: int | None


@dataclass(frozen=True)
class Deployment:
    """A network on its way out.

    Attributes:
        name: of the run, e.g. ``mnist-best``.
        whole: the network in whole numbers: what is deployed.
        folded: the same in floating point, before rounding.
        trained: the network that was trained, in evaluation mode.
        samples: some of the test set, for golden vectors; never empty.
        facts: what is known of it, for manifests and reports, ready for JSON: ``accuracy``,
            ``labels``, ``preset``, ``seed``, ...
        options: of the target.
        config: of the run that trained it; None of a network without one.
    """

    name: str
    whole: DeployedNetwork
    folded: DeployedNetwork
    trained: SpikingNetwork
    samples: Samples
    facts: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    config: RunConfig | None = None


Target = Callable[[Deployment, Path], Mapping[str, Any]]
"""Fills an empty folder and returns what the report is to say of it, ready for JSON. Raises
:class:`~bsnn_tha.errors.InvalidValueError`, before it writes, where it cannot be exact."""

TARGETS: dict[str, str] = {
    "packed": "bsnn_tha.deploy.packed:write_target",
    "c": "bsnn_tha.deploy.c:write",
    "nir": "bsnn_tha.deploy.nir:write",
}
"""By name, ``module:function``; imported when used."""


def with_defaults(
    target: str, given: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a target: those that were given, the others as known.

    Raises:
        InvalidValueError: one of them is not known.

    Example:
        >>> with_defaults("c", {"samples": 2}, {"prefix": "network", "samples": 8})
        {'prefix': 'network', 'samples': 2}
    """
    for name in given:
        if name not in known:
            raise InvalidValueError(
                f"the target {target} has no option {name!r}{did_you_mean(name, known)}"
            )
    return {**known, **given}
