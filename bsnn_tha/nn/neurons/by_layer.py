"""Settings of neurons for each layer of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bsnn_tha.nn.per_layer import CONV, DEFAULT, DENSE, OUTPUT, Kinds, per_layer

OF_FIRING = frozenset(
    ("theta_0", "theta_inf", "alpha", "rule", "rule_options", "per", "penalty_window", "fired_only",
     "surrogate", "surrogate_options", "slope", "surrogate_scale", "surrogate_centre",
     "reset_mechanism", "emits")
)  # fmt: skip
"""Settings of neurons that a layer which does not fire has no use for."""


def neurons_by_layer(
    settings: Mapping[str, Any], layers: Sequence[Kinds], last_fires: bool = True
) -> list[dict[str, Any]]:
    """What :func:`~bsnn_tha.nn.neurons.make_neuron` is told in each layer.

    Args:
        settings: :class:`~bsnn_tha.nn.neurons.NeuronSettings`.
        layers: what a table may call each of them (:mod:`bsnn_tha.nn.per_layer`).
        last_fires: False for a last layer that integrates only: it is told none of
            :data:`OF_FIRING`, whose lists and tables are then those of the other layers.

    Raises:
        InvalidValueError: a setting does not fit the layers.

    Example:
        >>> layers = [("dense", "default"), ("output", "dense", "default")]
        >>> neurons_by_layer({"beta": [0.5, 0.9], "theta_0": [2.0]}, layers, last_fires=False)
        [{'beta': 0.5, 'theta_0': 2.0}, {'beta': 0.9}]
    """
    told: list[dict[str, Any]] = [{} for _ in layers]
    for name, value in settings.items():
        if last_fires or name not in OF_FIRING:
            values = _each(name, value, layers, "spiking layer", (OUTPUT, DENSE, CONV, DEFAULT))
        else:
            values = _each(name, value, layers[:-1], "layer that fires", (DENSE, CONV, DEFAULT))
        for layer, its in zip(told, values, strict=False):
            layer[name] = its
    return told


def _each(
    name: str, value: Any, layers: Sequence[Kinds], what: str, known: Sequence[str]
) -> list[Any]:
    """A value for each layer; of options, each of them."""
    if value is None or not name.endswith("_options"):
        return per_layer(name, value, layers, what, known)
    columns = {
        key: per_layer(f"{name}.{key}", each, layers, what, known) for key, each in value.items()
    }
    return [{key: column[i] for key, column in columns.items()} for i in range(len(layers))]
