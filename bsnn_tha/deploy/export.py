"""Export a trained network: fold it, round it, measure what that did, write a target's folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bsnn_tha
from bsnn_tha.choices import Axis
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.deploy.deployment import TARGETS, Deployment, Samples, Target
from bsnn_tha.deploy.encode import encoding_of, samples_of
from bsnn_tha.deploy.fold import fold
from bsnn_tha.deploy.integer import Precision, integer_network
from bsnn_tha.deploy.measure import Comparison, compare
from bsnn_tha.deploy.network import Readout
from bsnn_tha.deploy.report import layer_costs, text
from bsnn_tha.errors import DeployError, InvalidValueError
from bsnn_tha.losses import (
    CrossEntropyLoss,
    Loss,
    MeanMembraneLoss,
    SpikeCountLoss,
    TemporalEfficientLoss,
)
from bsnn_tha.observe.energy import Costs
from bsnn_tha.training.trained import Trained

_TARGETS: Axis[Target] = Axis("target", dict(TARGETS))
_GOLDEN = 1000
"""Test samples that a target is given."""


@dataclass(frozen=True)
class Exported:
    """A network that was deployed, and what was measured of it."""

    deployment: Deployment
    comparison: Comparison
    figures: dict[str, Any]


def readout_of(loss: Loss) -> Readout:
    """What a loss reads its answers from.

    Raises:
        InvalidValueError: something that whole numbers do not give exactly.

    Example:
        >>> readout_of(SpikeCountLoss()), readout_of(CrossEntropyLoss("mean_membrane"))
        ('spike_count', 'membrane_sum')
    """
    if isinstance(loss, SpikeCountLoss | TemporalEfficientLoss):
        return "spike_count"
    if isinstance(loss, MeanMembraneLoss):
        return "membrane_sum"
    if isinstance(loss, CrossEntropyLoss):
        known: dict[Any, Readout] = {
            "spike_rate": "spike_count",
            "mean_membrane": "membrane_sum",
        }
        if loss.readout in known:
            return known[loss.readout]
        raise InvalidValueError(
            f"the readout {loss.readout!r} is no sum of spikes or membranes; train it with "
            "loss.readout = 'mean_membrane' or 'spike_rate'"
        )
    raise InvalidValueError(
        f"answers of {type(loss).__name__} are not known here; train it with loss.name = "
        "'spike_count', 'cross_entropy', 'mean_membrane' or 'tet'"
    )


def deploy(
    trained: Trained,
    dataset: Dataset,
    *,
    name: str,
    precision: Precision | None = None,
    input_bits: int = 8,
    samples: int | None = None,
    costs: Costs | None = None,
    options: Mapping[str, Any] | None = None,
) -> Exported:
    """The network in whole numbers, measured beside the trained one; writes nothing.

    Args:
        trained: of a run or of the zoo.
        dataset: it was trained on, with a test set.
        name: of the folder's files.
        precision: bits of states and decays.
        input_bits: of an input value at most.
        samples: of the test set, the first so many; all if None.
        costs: energy of operations.
        options: of the target.

    Raises:
        InvalidValueError: the network cannot be deployed exactly, or there is nothing to
            measure it on.
    """
    if dataset.test is None or dataset.num_classes is None:
        raise InvalidValueError(
            f"{dataset.name} has no test set of classes to measure the network on; export a run "
            "of a data set that has one"
        )
    if samples is not None and samples < 1:
        raise InvalidValueError(f"samples must be at least 1, but got {samples}")
    config, network = trained.config, trained.network
    encoding = encoding_of(dataset, input_bits)
    folded = fold(network, encoding, readout_of(trained.loss), config.data.num_steps)
    whole = integer_network(folded, precision)
    comparison = compare(
        network, trained.loss, whole, dataset.test, static=dataset.static, most=samples
    )
    golden, targets = dataset.test[list(range(min(_GOLDEN, comparison.samples)))]
    facts = {
        "name": name,
        "dataset": config.data.name,
        "preset": f"{config.data.label}/{config.variant}",
        "notation": config.network.notation,
        "seed": config.training.seed,
        "labels": list(trained.task.class_names),
        "accuracy": comparison.figures()["deployed_accuracy"],
        "trained_accuracy": comparison.figures()["trained_accuracy"],
        "test_samples": comparison.samples,
        "bsnn_tha": bsnn_tha.__version__,
    }
    deployment = Deployment(
        name,
        whole,
        folded,
        network,
        Samples(
            encoding.encode(samples_of(golden)),
            targets.numpy(),
            whole.num_steps if dataset.static else None,
        ),
        facts,
        dict(options or {}),
        config,
    )
    return Exported(deployment, comparison, _figures(deployment, comparison, costs or Costs()))


def _figures(deployment: Deployment, comparison: Comparison, costs: Costs) -> dict[str, Any]:
    whole = deployment.whole
    layers = []
    for layer, cost in zip(
        whole.layers, layer_costs(whole, deployment.trained, comparison, costs), strict=True
    ):
        assert layer.widths is not None
        widths = {
            "sum_bits": max(width.bits for width in layer.widths.sums),
            "current_bits": layer.widths.current.bits,
            "membrane_bits": layer.widths.membrane.bits,
            "saturates": layer.widths.saturates,
        }
        layers.append({**asdict(cost), **widths})
    return {
        **deployment.facts,
        "num_steps": whole.num_steps,
        "input_bits": whole.input.bits,
        "state_bits": whole.state_bits,
        "decay_bits": whole.decay_bits,
        **comparison.figures(),
        "layers": layers,
        "costs": asdict(costs),
    }


def write(exported: Exported, target: str, folder: Path) -> dict[str, Any]:
    """Write a target's folder, whole or not at all, with ``report.json`` and ``report.md``.

    Args:
        exported: of :func:`deploy`.
        target: of :data:`~bsnn_tha.deploy.deployment.TARGETS`.
        folder: must not exist.

    Returns:
        The report.

    Raises:
        DeployError: the folder exists or cannot be written.
        InvalidValueError: the target cannot be exact for this network.
    """
    fill = _TARGETS.find(target)
    check_free(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        written = dict(fill(exported.deployment, temporary))
        figures = {**exported.figures, "target": target, "written": written}
        content = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
        (temporary / "report.json").write_text(content, encoding="utf-8")
        (temporary / "report.md").write_text(text(figures), encoding="utf-8")
        check_free(folder)
        temporary.rename(folder)
    except OSError as error:
        raise DeployError(f"cannot write {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return figures


def check_target(target: str, options: Mapping[str, Any] | None = None) -> None:
    """Raise unless there is such a target with such options, before anything is measured.

    A target whose options have rules has a function ``check_options`` of them in its module.
    """
    module = sys.modules[_TARGETS.find(target).__module__]
    if (check := getattr(module, "check_options", None)) is not None:
        check(options or {})


def check_free(folder: Path) -> None:
    """Raise unless nothing is there.

    Raises:
        DeployError: something is.
    """
    if folder.exists() or folder.is_symlink():
        raise DeployError(f"{folder} exists, and nothing is overwritten; give another --output")
