"""The layout of a packed file's manifest: which keys it has, and what they may be.

Version 1. A number that all channels (or neurons) share is written where it belongs; the word
``"tensor"`` says that the tensor of that name has one for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bsnn_tha.deploy import bits
from bsnn_tha.deploy.network import Array, DeployedNetwork, Layer, Reset, Term, Width, Widths

VERSION = 1
FORMAT = "bsnn-tha packed network"
BITS = (
    "rows of outputs, each from a whole byte; weight j is bit j % 8 of byte j // 8; "
    "1 is +1, 0 is -1"
)

_INT32 = 2**31 - 1
Side = Annotated[int, Field(ge=1, le=2**20)]
Ends = Annotated[list[int], Field(min_length=2, max_length=2)]
Whole = Annotated[int, Field(ge=-_INT32, le=_INT32)] | Literal["tensor"]
Sides = Annotated[list[Side], Field(min_length=1, max_length=3)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class InputManifest(_Table):
    """:class:`~bsnn_tha.deploy.network.InputEncoding`."""

    kind: Literal["image", "events"]
    shape: Sides
    bits: int = Field(ge=1, le=16)
    signed: bool
    scale: float = Field(gt=0)


class TermManifest(_Table):
    """:class:`~bsnn_tha.deploy.network.Term`; its shapes follow from what it reads."""

    kind: Literal["dense", "conv", "spikes"]
    reads: list[Annotated[int, Field(ge=0)]]
    gain: Whole
    kernel: Side = 1
    stride: Side = 1
    padding: int = Field(default=0, ge=0, le=2**20)
    groups: Side = 1
    pool: Side = 1
    pooling: Literal["sum", "max"] = "sum"
    sums_maps: bool = False


class WidthsManifest(_Table):
    """:class:`~bsnn_tha.deploy.network.Widths`: [low, high] of each."""

    sums: list[Ends]
    current: Ends
    membrane: Ends
    synapse: Ends | None
    saturates: bool

    def proven(self) -> Widths:
        """As a layer has them."""
        return Widths(
            tuple(Width(*each) for each in self.sums),
            Width(*self.current),
            Width(*self.membrane),
            None if self.synapse is None else Width(*self.synapse),
            self.saturates,
        )


class LayerManifest(_Table):
    """:class:`~bsnn_tha.deploy.network.Layer`."""

    output_shape: Sides
    terms: Annotated[list[TermManifest], Field(min_length=1, max_length=2)]
    offset: Whole
    threshold: Whole
    decay: Whole
    synaptic_decay: Whole | None
    reset: Reset
    unit: Annotated[float, Field(gt=0)] | Literal["tensor"]
    widths: WidthsManifest


class Manifest(_Table):
    """The whole; ``facts`` is for readers and decides nothing."""

    format: Literal["bsnn-tha packed network"]
    version: Literal[1]
    bits: str
    input: InputManifest
    layers: Annotated[list[LayerManifest], Field(min_length=1, max_length=4096)]
    readout: Literal["spike_count", "membrane_sum"]
    num_steps: int = Field(ge=1, le=2**31)
    decay_bits: int = Field(ge=1, le=20)
    state_bits: Literal[16, 32]
    facts: dict[str, Any]
    config: str | None


def manifest_of(
    network: DeployedNetwork,
    facts: Mapping[str, Any],
    config: str | None,
    tensors: dict[str, Array],
) -> dict[str, Any]:
    """Of a network in whole numbers, ready for JSON; ``tensors`` gets its tensors."""
    given = network.input
    return {
        "format": FORMAT,
        "version": VERSION,
        "bits": BITS,
        "input": {
            "kind": given.kind,
            "shape": list(given.shape),
            "bits": given.bits,
            "signed": given.signed,
            "scale": float(given.scale),
        },
        "layers": [
            _layer(f"layers.{index}", layer, tensors) for index, layer in enumerate(network.layers)
        ],
        "readout": network.readout,
        "num_steps": network.num_steps,
        "decay_bits": network.decay_bits,
        "state_bits": network.state_bits,
        "facts": dict(facts),
        "config": config,
    }


def _layer(name: str, layer: Layer, tensors: dict[str, Array]) -> dict[str, Any]:
    assert layer.widths is not None
    synaptic = layer.synaptic_decay
    widths = layer.widths
    return {
        "output_shape": list(layer.output_shape),
        "terms": [_term(f"{name}.terms.{k}", term, tensors) for k, term in enumerate(layer.terms)],
        "offset": _numbers(f"{name}.offset", layer.offset, tensors),
        "threshold": _numbers(f"{name}.threshold", layer.threshold, tensors),
        "decay": _numbers(f"{name}.decay", layer.decay, tensors),
        "synaptic_decay": None
        if synaptic is None
        else _numbers(f"{name}.synaptic_decay", synaptic, tensors),
        "reset": layer.reset,
        "unit": _numbers(f"{name}.unit", layer.unit, tensors, np.float64),
        "widths": {
            "sums": [[each.low, each.high] for each in widths.sums],
            "current": [widths.current.low, widths.current.high],
            "membrane": [widths.membrane.low, widths.membrane.high],
            "synapse": None
            if widths.synapse is None
            else [widths.synapse.low, widths.synapse.high],
            "saturates": widths.saturates,
        },
    }


def _term(name: str, term: Term, tensors: dict[str, Array]) -> dict[str, Any]:
    stated: dict[str, Any] = {"kind": term.kind, "reads": list(term.reads)}
    if term.weights is not None:
        tensors[f"{name}.bits"] = bits.packed(term.weights)
    stated["gain"] = _numbers(f"{name}.gain", term.gain, tensors)
    if term.kind == "conv":
        assert term.weights is not None
        stated["kernel"] = term.weights.shape[-1]
        for key in ("stride", "padding", "groups", "pool", "pooling"):
            stated[key] = getattr(term, key)
    if term.sums_maps:
        stated["sums_maps"] = True
    return stated


def _numbers(
    name: str, values: Array, tensors: dict[str, Array], dtype: type[Any] = np.int32
) -> int | float | str:
    """The number that all share, or ``"tensor"``."""
    if (values == values.flat[0]).all():
        number: int | float = values.flat[0].item()
        return number
    tensors[name] = values.astype(dtype)
    return "tensor"
