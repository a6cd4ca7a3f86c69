"""A deployed network in one file: weights as bits, numbers, and a manifest that says what is what.

The file is a `safetensors <https://github.com/huggingface/safetensors>`_ file, readable without
this package, torch or pickle. Its metadata has one entry, ``bsnn_tha``: the manifest, JSON, whose
layout is :mod:`bsnn_tha.deploy.manifest`. Tensors:

=====================================  =====================================================
``layers.I.terms.K.bits``              uint8 ``[out, bytes]``, :mod:`bsnn_tha.deploy.bits`
``layers.I.terms.K.gain``              int32 ``[out]``
``layers.I.offset``, ``.threshold``    int32 ``[channels]`` (thresholds also one per neuron)
``layers.I.decay``, ``.synaptic_decay``  int32, one per neuron
``layers.I.unit``                      float64 ``[channels]``
``trained.KEY``                        what was learned beside the weights, as it was:
                                       of use to :mod:`bsnn_tha.deploy.restore` only
=====================================  =====================================================

Numbers that are the same for all channels stand in the manifest instead. ``sha256`` of the
manifest covers the rest of it and every tensor: a file that was damaged or edited is refused.
(Whoever edits it can compute the sum anew: it proves that a file is whole, not whose it is.)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from pydantic import ValidationError
from safetensors import SafetensorError

from bsnn_tha.deploy import bits
from bsnn_tha.deploy.integer import proven_widths, sum_ranges
from bsnn_tha.deploy.manifest import (
    VERSION,
    LayerManifest,
    Manifest,
    TermManifest,
    Whole,
    manifest_of,
)
from bsnn_tha.deploy.network import Array, DeployedNetwork, InputEncoding, Layer, Shape, Term
from bsnn_tha.errors import DeployError, InvalidValueError
from bsnn_tha.run_folder import replace_atomically
from bsnn_tha.suggest import broken_rule

if TYPE_CHECKING:
    from bsnn_tha.deploy.deployment import Deployment

_KEY = "bsnn_tha"
_MOST_NEURONS = 2**24


@dataclass(frozen=True)
class Packed:
    """What a file holds.

    Attributes:
        network: in whole numbers.
        facts: what is known of it, ready for JSON.
        config: of the run that trained it, TOML; None if there was none.
        trained: what was learned beside the weights, by its name in the trained network.
    """

    network: DeployedNetwork
    facts: Mapping[str, Any] = field(default_factory=dict)
    config: str | None = None
    trained: Mapping[str, Array] = field(default_factory=dict)


def write(packed: Packed, path: Path) -> dict[str, int]:
    """Write the file, whole or not at all.

    Returns:
        Its bytes: of ``weights``, ``numbers``, ``trained``, ``manifest`` (with the names of
        tensors), and their ``total``, the size of the file.
    """
    content, sizes = serialised(packed)
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)
    return sizes


def serialised(packed: Packed) -> tuple[bytes, dict[str, int]]:
    """The file's content, and its bytes as :func:`write` returns them."""
    tensors: dict[str, Array] = {}
    manifest = manifest_of(packed.network, packed.facts, packed.config, tensors)
    tensors |= {f"trained.{name}": values for name, values in packed.trained.items()}
    tensors = {name: np.array(tensors[name], order="C") for name in sorted(tensors)}
    manifest["sha256"] = _digest(manifest, tensors)
    content = safetensors.numpy.save(tensors, {_KEY: json.dumps(manifest, ensure_ascii=False)})
    parts = {"weights": 0, "numbers": 0, "trained": 0}
    for name, values in tensors.items():
        kind = "trained" if name.startswith("trained.") else "numbers"
        parts["weights" if name.endswith(".bits") else kind] += values.nbytes
    total = len(content)
    return content, {**parts, "manifest": total - sum(parts.values()), "total": total}


def read(path: Path) -> Packed:
    """Read a file; torch is not needed.

    Raises:
        DeployError: it is no such file, of a later version, incomplete, changed, or says what
            cannot be.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DeployError(f"cannot read {path}: {error.strerror}") from None
    return parsed(content, str(path))


def parsed(content: bytes, where: str) -> Packed:
    """The content of a file; ``where`` names it in errors. Raises as :func:`read`."""
    stated = _manifest(content, where)
    try:
        tensors = safetensors.numpy.load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DeployError(f"{where} is damaged: {_one_line(error)}; export it again") from None
    tensors = {name: tensors[name] for name in sorted(tensors)}
    if stated.pop("sha256", None) != _digest(stated, tensors):
        raise DeployError(
            f"{where} is not what was written: its content and its sha256 differ; export it again"
        )
    try:
        manifest = Manifest.model_validate(stated)
        network = _network(manifest, tensors)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise DeployError(
            f"{where} has a manifest that is none: {broken_rule(key, problem)}"
        ) from None
    except _ContradictionError as error:
        raise DeployError(f"{where} contradicts itself: {error}") from None
    trained = {
        name.removeprefix("trained."): values
        for name, values in tensors.items()
        if name.startswith("trained.")
    }
    return Packed(network, manifest.facts, manifest.config, trained)


def write_target(deployment: Deployment, folder: Path) -> dict[str, Any]:
    """The target ``packed`` (:mod:`bsnn_tha.deploy.deployment`): one file, ``NAME.safetensors``.

    Its options are further facts, e.g. ``licence``.

    Raises:
        InvalidValueError: one of them would replace what is known or was measured.
    """
    from bsnn_tha.deploy.trained import trained_parameters

    for name in deployment.options:
        if name in deployment.facts:
            raise InvalidValueError(
                f"{name} is {deployment.facts[name]} here, as known or measured; give a fact "
                "of another name"
            )
    trained = trained_parameters(deployment.trained, deployment.config)
    config = None if deployment.config is None else deployment.config.to_toml()
    packed = Packed(deployment.whole, {**deployment.facts, **deployment.options}, config, trained)
    file = f"{deployment.name}.safetensors"
    return {"file": file, "bytes": write(packed, folder / file)}


class _ContradictionError(Exception):
    """What a manifest says and what is there are not the same."""


def _manifest(content: bytes, where: str) -> dict[str, Any]:
    """The manifest as it stands, of a version that is known."""
    foreign = DeployError(
        f"{where} is no packed network; write one with bsnn-tha export RUN --to packed"
    )
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise foreign
    try:
        header = json.loads(content[8 : 8 + size])
        manifest = json.loads(header["__metadata__"][_KEY])
        version = manifest["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise foreign from None
    if not isinstance(manifest, dict) or type(version) is not int:
        raise foreign
    if version > VERSION:
        raise DeployError(
            f"{where} is of version {version}, and this bsnn-tha reads up to {VERSION}; update it"
        )
    return manifest


def _digest(manifest: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """Of the manifest without its digest, and of every tensor in the order of names."""
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little") + part)

    stated = {key: manifest[key] for key in sorted(manifest) if key != "sha256"}
    add(json.dumps(stated, sort_keys=True).encode())
    for name, values in tensors.items():
        add(f"{name} {values.dtype.str} {values.shape}".encode())
        add(values.tobytes())
    return digest.hexdigest()


def _network(manifest: Manifest, tensors: Mapping[str, Array]) -> DeployedNetwork:
    """The network that manifest and tensors make; all that follows from shapes is checked."""
    given = manifest.input
    if math.prod(given.shape) > _MOST_NEURONS:
        raise _ContradictionError(f"the input has more than {_MOST_NEURONS:,} values")
    encoding = InputEncoding(given.kind, tuple(given.shape), given.bits, given.signed, given.scale)
    layers: list[Layer] = []
    for index, layer in enumerate(manifest.layers):
        made = _layer(index, layer, encoding, layers, tensors, manifest.decay_bits)
        widths, fits = proven_widths(
            made,
            sum_ranges(made, encoding),
            manifest.decay_bits,
            manifest.state_bits,
            manifest.num_steps,
        )
        if not fits.all() or widths != layer.widths.proven():
            raise _ContradictionError(
                f"layer {index + 1} states widths that its numbers do not have"
            )
        layers.append(replace(made, widths=widths))
    return DeployedNetwork(
        encoding,
        tuple(layers),
        manifest.readout,
        manifest.num_steps,
        manifest.decay_bits,
        manifest.state_bits,
    )


def _layer(
    index: int,
    layer: LayerManifest,
    encoding: InputEncoding,
    before: list[Layer],
    tensors: Mapping[str, Array],
    decay_bits: int,
) -> Layer:
    shape, name = tuple(layer.output_shape), f"layers.{index}"
    if math.prod(shape) > _MOST_NEURONS:
        raise _ContradictionError(f"layer {index + 1} has more than {_MOST_NEURONS:,} neurons")
    channels = (shape[0],)
    largest = 2**31 - 1

    def whole(value: Whole, key: str, *shapes: Shape, low: int, high: int = largest) -> Array:
        if isinstance(value, int):
            numbers = np.full(shapes[0], value, np.int64)
        else:
            found = _tensor(tensors, f"{name}.{key}", np.int32, *shapes)
            numbers = found.astype(np.int64)
        if numbers.min(initial=low) < low or numbers.max(initial=low) > high:
            raise _ContradictionError(f"{name}.{key} must be {low} to {high}")
        return numbers

    if layer.terms[0].kind == "spikes":
        raise _ContradictionError(f"layer {index + 1} must begin with its weights")
    terms = tuple(
        _term(f"{name}.terms.{k}", term, shape, encoding, before, tensors, first=k == 0)
        for k, term in enumerate(layer.terms)
    )
    decays = {"low": 0, "high": 1 << decay_bits}
    unit = layer.unit
    synaptic = layer.synaptic_decay
    return Layer(
        terms,
        shape,
        whole(layer.offset, "offset", channels, low=-largest),
        whole(layer.threshold, "threshold", channels, shape, low=1),
        whole(layer.decay, "decay", (), shape, **decays),
        None if synaptic is None else whole(synaptic, "synaptic_decay", (), shape, **decays),
        layer.reset,
        np.full(channels, unit)
        if isinstance(unit, float)
        else _tensor(tensors, f"{name}.unit", np.float64, channels),
    )


def _term(
    name: str,
    term: TermManifest,
    output_shape: Shape,
    encoding: InputEncoding,
    before: list[Layer],
    tensors: Mapping[str, Array],
    first: bool,
) -> Term:
    input_shape = _input_shape(name, term, output_shape, encoding, before, first)
    weight_shape, expected = _shapes(name, term, input_shape, output_shape)
    if expected != output_shape or min(expected) < 1:
        raise _ContradictionError(f"{name} does not lead to the shape {output_shape}")
    weights: Array | None = None
    if weight_shape is not None:
        _check_sums(name, term, weight_shape, input_shape, encoding)
        row = bits.bytes_per_output(math.prod(weight_shape[1:]))
        stored = _tensor(tensors, f"{name}.bits", np.uint8, (output_shape[0], row))
        weights = bits.unpacked(stored, weight_shape)
    gain = (
        np.full(output_shape[0], term.gain, np.int64)
        if isinstance(term.gain, int)
        else _tensor(tensors, f"{name}.gain", np.int32, output_shape[:1]).astype(np.int64)
    )
    return Term(
        term.kind,
        tuple(term.reads),
        input_shape,
        output_shape,
        weights,
        gain,
        term.stride,
        term.padding,
        term.groups,
        term.pool,
        term.pooling,
        term.sums_maps,
    )


def _input_shape(
    name: str,
    term: TermManifest,
    output_shape: Shape,
    encoding: InputEncoding,
    before: list[Layer],
    first: bool,
) -> Shape:
    """Of what a term reads: the layers' maps one after the other, or the network's input."""
    # Its own layer's spikes come back through weights beside the first.
    recurrent = term.reads == [len(before)] and term.kind == "dense" and not first
    if not recurrent and any(source >= len(before) for source in term.reads):
        raise _ContradictionError(f"{name} reads a layer that does not come before it")
    known = [layer.output_shape for layer in before] + [output_shape]
    shapes = [known[source] for source in term.reads] or [encoding.shape]
    if len({shape[1:] for shape in shapes}) > 1:
        raise _ContradictionError(f"{name} reads maps of different sizes")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _shapes(
    name: str, term: TermManifest, input_shape: Shape, output_shape: Shape
) -> tuple[Shape | None, Shape]:
    """Of a term's weights, None for one without; and of what they lead to."""
    maps = len(input_shape) == 3
    if term.sums_maps and not maps:
        raise _ContradictionError(f"{name} does not lead to the shape {output_shape}")
    if term.kind == "spikes":
        return None, input_shape
    if term.kind == "dense":
        fan_in = input_shape[0] if term.sums_maps else math.prod(input_shape)
        return (output_shape[0], fan_in), (output_shape[0],)
    grouped = input_shape[0] % term.groups == 0 == output_shape[0] % term.groups
    if not maps or not grouped or term.padding >= term.kernel:
        raise _ContradictionError(f"{name} cannot filter an input of shape {input_shape}")
    sides = (
        ((side + 2 * term.padding - term.kernel) // term.stride + 1) // term.pool
        for side in input_shape[1:]
    )
    weights = output_shape[0], input_shape[0] // term.groups, term.kernel, term.kernel
    return weights, (output_shape[0], *sides)


def _check_sums(
    name: str, term: TermManifest, weight_shape: Shape, input_shape: Shape, encoding: InputEncoding
) -> None:
    """Raise where a sum could need more than 32 bits, before anything is summed in 64."""
    most = 1 if term.reads else encoding.high
    most *= math.prod(weight_shape[1:]) * term.pool**2
    most *= math.prod(input_shape[1:]) if term.sums_maps else 1
    if most >= 2**31:
        raise _ContradictionError(f"{name} has sums of more than 32 bits")


def _tensor(tensors: Mapping[str, Array], name: str, dtype: Any, *shapes: Shape) -> Array:
    """A tensor of this type and one of these shapes, of finite numbers."""
    found = tensors.get(name)
    if found is None:
        raise _ContradictionError(f"it has no tensor {name}")
    if found.dtype != dtype or found.shape not in shapes or not np.isfinite(found).all():
        raise _ContradictionError(
            f"{name} must be {np.dtype(dtype).name} of shape "
            f"{' or '.join(str(list(shape)) for shape in shapes)}"
        )
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
