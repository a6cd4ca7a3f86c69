"""A folded layer's numbers in the scale that a reader needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.network import Array, Layer
from bsnn_tha.errors import InvalidValueError

_SAME = 1e-9
"""Relative difference within which float64 numbers that were multiplied up are one."""


@dataclass(frozen=True)
class Scaled:
    """A layer whose membranes are multiplied by ``factor``.

    Attributes:
        factor: ``[channels]``, onto the folded layer's.
        offset: ``[channels]``.
        threshold: of each neuron, ``output_shape``.
    """

    factor: NDArray[np.float64]
    offset: NDArray[np.float64]
    threshold: NDArray[np.float64]


def scaled(layer: Layer, one_threshold: bool, where: str) -> Scaled:
    """Signs as they are, or with a scale for each channel so that all share a threshold.

    Multiplying a membrane, its current and its threshold by the same number changes no spike.

    Args:
        layer: of a folded network.
        one_threshold: whether the layer must have one.
        where: which layer it is, for errors.

    Raises:
        InvalidValueError: neurons of a map have thresholds of their own, and there must be one.
    """
    threshold = np.broadcast_to(layer.each(layer.threshold), layer.output_shape)
    factor = np.ones(layer.channels)
    if one_threshold and not _one(threshold):
        by_channel = threshold.reshape(layer.channels, -1)
        if not all(_one(row) for row in by_channel):
            raise InvalidValueError(
                f"{where} has a threshold for each neuron of a map, and this reader takes one for "
                "the layer; choose reader=norse, or train with threshold.per = 'layer'"
            )
        # In the trained network's own unit, where that does it; else in thresholds.
        factor = layer.unit if _one(by_channel[:, 0] * layer.unit) else 1 / by_channel[:, 0]
    shared = threshold * layer.each(factor)
    if one_threshold:
        shared = np.full(layer.output_shape, float(shared.flat[0]))
    return Scaled(factor, layer.offset * factor, shared)


def _one(values: Array) -> bool:
    return bool((np.abs(values - values.flat[0]) <= _SAME * np.abs(values.flat[0])).all())
