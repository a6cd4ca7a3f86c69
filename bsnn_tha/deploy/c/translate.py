"""From a deployed network to its C program: names, expressions, tables and types."""

from __future__ import annotations

import math

import numpy as np

from bsnn_tha.deploy.c.layout import weights_for_values, weights_for_words, word_bits
from bsnn_tha.deploy.c.program import LayerCode, Program, Source, TermCode
from bsnn_tha.deploy.c.tables import Table, number
from bsnn_tha.deploy.network import DeployedNetwork, Layer, Shape, Term
from bsnn_tha.errors import InvalidValueError

_BLOCK = 64
"""Channels that are summed at a time: their sums lie on the stack."""

_INT32 = 2**31 - 1


def program(network: DeployedNetwork) -> Program:
    """A network in whole numbers as a C program.

    Raises:
        InvalidValueError: it is not in whole numbers, or has what C cannot do here.
    """
    if not network.whole or any(layer.widths is None for layer in network.layers):
        raise InvalidValueError(
            "the C program needs a network in whole numbers with proven widths, but got one in "
            "floating point; take integer_network(fold(network))"
        )
    if len(network.layers[-1].output_shape) != 1:
        raise InvalidValueError(
            "the C program needs a network that ends in a fully connected layer, but its output "
            f"is {_by(network.layers[-1].output_shape)}; add one, e.g. -10"
        )
    coding = network.input
    if coding.bits > 16:
        raise InvalidValueError(
            f"the C program takes inputs of at most 16 bits, but got {coding.bits}"
        )
    input_type = f"{'' if coding.signed else 'u'}int{8 if coding.bits <= 8 else 16}_t"
    channels, height, width = maps(coding.shape)
    packs = coding.kind == "events" and coding.bits == 1 and not coding.signed and channels >= 8
    bits = word_bits(channels) if packs else 0
    given = Source(
        "frame" if packs else "input",
        f"uint{bits}_t" if packs else input_type,
        bits,
        (channels, height, width),
        0,
        None,
    )
    layers = tuple(_layer(network, index, given) for index in range(len(network.layers)))
    return Program(network, layers, input_type, given if packs else None)


def maps(shape: Shape) -> tuple[int, int, int]:
    """``(channels, height, width)`` also of features.

    Example:
        >>> maps((10,)), maps((2, 34, 34))
        ((10, 1, 1), (2, 34, 34))
    """
    return (shape[0], 1, 1) if len(shape) == 1 else (shape[0], shape[1], shape[2])


def _layer(network: DeployedNetwork, index: int, given: Source) -> LayerCode:
    layer = network.layers[index]
    widths, shape = layer.widths, layer.output_shape
    assert widths is not None and network.state_bits is not None
    terms = tuple(_term(network, index, k, given) for k in range(len(layer.terms)))
    decay = number(f"decay_{index}", layer.decay, shape)
    synaptic = None
    if layer.synaptic_decay is not None:
        synaptic = number(f"synaptic_decay_{index}", layer.synaptic_decay, shape)
    threshold = number(f"threshold_{index}", layer.threshold, shape)
    reach = _largest(layer)
    # A membrane on its way: decayed, with its current, and reset, before it is held.
    v = max(-widths.membrane.low, widths.membrane.high)
    synapse = widths.synapse
    drive = reach if synapse is None else max(-synapse.low, synapse.high) + reach
    fires = np.asarray(layer.threshold)[np.asarray(layer.threshold) <= widths.membrane.high]
    on_its_way = v + drive + int(np.abs(fires).max(initial=0))
    held = widths.saturates
    out = maps(shape)
    return LayerCode(
        index=index,
        terms=terms,
        shape=out,
        bits=word_bits(out[0]),
        block=min(out[0], _BLOCK),
        state_type=f"int{network.state_bits}_t",
        sum_type="int32_t" if on_its_way <= _INT32 else "int64_t",
        offset=number(f"offset_{index}", layer.offset, shape),
        threshold=threshold,
        decay=decay,
        synaptic_decay=synaptic,
        reset=layer.reset,
        bounds=(widths.membrane.low, widths.membrane.high) if held else None,
        synapse_bounds=(synapse.low, synapse.high) if held and synapse is not None else None,
        recurrent=any(term.comes_back_to(index) for term in layer.terms),
        text=f"Layer {index}: {_by(shape)} neurons",
    )


def _largest(layer: Layer) -> int:
    """The most that a current, or a part of it, can be, its sign left out."""
    assert layer.widths is not None
    total = np.abs(np.asarray(layer.offset, np.int64))
    for term, sums in zip(layer.terms, layer.widths.sums, strict=True):
        total = total + np.abs(np.asarray(term.gain, np.int64)) * max(-sums.low, sums.high)
    return int(total.max())


def _term(
    network: DeployedNetwork,
    index: int,
    k: int,
    given: Source,
) -> TermCode:
    layer = network.layers[index]
    term = layer.terms[k]
    assert layer.widths is not None
    name = f"{index}" if k == 0 else f"{index}_{k}"
    weights = _filters(term)
    channels = maps(term.input_shape)[0]
    depthwise = term.groups > 1
    if depthwise and not term.groups == channels == term.output_shape[0]:
        raise InvalidValueError(
            "the C program convolves all maps together or each by itself, but layer "
            f"{index} has {term.groups} groups of {channels} maps"
        )
    sources = _sources(network, index, term, name, weights, given)
    way = "spikes" if weights is None else "depthwise" if depthwise else "values"
    if way == "values" and sources[0].bits:
        way = "words"
    held = not term.reads and network.input.kind == "image"
    height, width = (1, 1) if weights is None else weights.shape[2:]
    pool = maps(term.input_shape)[1:] if term.sums_maps else (term.pool, term.pool)
    places = ("row", "column") if math.prod(layer.output_shape[1:]) > 1 else ("", "")
    taps = f"ky * {width} + kx" if height > 1 and width > 1 else "ky" if height > 1 else "kx"
    maximum = term.pooling == "max" and term.pool > 1
    return TermCode(
        name=f"sums_{name}",
        sources=tuple(sources),
        way=way,
        pool_loops=tuple((v, n) for v, n in (("dy", pool[0]), ("dx", pool[1])) if n > 1),
        loops=tuple((v, n) for v, n in (("ky", height), ("kx", width)) if n > 1),
        row=_place(places[0], "dy", "ky", pool[0], height, term),
        column=_place(places[1], "dx", "kx", pool[1], width, term),
        tap=taps if height * width > 1 else "0",
        edges=term.padding > 0,
        maximum=maximum,
        gain=number(f"gain_{name}", term.gain, layer.output_shape),
        held=held,
        held_type="int16_t" if layer.widths.sums[k].bits <= 16 else "int32_t",
        text=_described(term, height, width, term.comes_back_to(index)),
    )


def _sources(
    network: DeployedNetwork,
    index: int,
    term: Term,
    name: str,
    weights: np.ndarray | None,
    given: Source,
) -> list[Source]:
    """What a term reads, each source with the weights that are its own, one behind the other."""
    if term.comes_back_to(index):
        read = [_spikes(f"before_{index}", network.layers[index].output_shape)]
    else:
        read = [_spikes(f"spikes_{i}", network.layers[i].output_shape) for i in term.reads]
    depthwise = term.groups > 1
    sources: list[Source] = []
    first = 0
    for source in read or [given]:
        table = None
        if weights is not None:
            suffix = name if len(term.reads) < 2 else f"{name}_from_{source.name[7:]}"
            some = slice(first, first + source.shape[0])
            here = weights[some] if depthwise else weights[:, some]
            by_words = source.bits and not depthwise
            pack = weights_for_words if by_words else weights_for_values
            table = Table(f"weights_{suffix}", pack(here))
        sources.append(Source(source.name, source.type, source.bits, source.shape, first, table))
        first += source.shape[0]
    return sources


def _filters(term: Term) -> np.ndarray | None:
    """±1 as ``[out, in, height, width]``; of a fully connected layer the maps' whole size."""
    if term.weights is None or term.weights.ndim == 4:
        return term.weights
    channels, height, width = maps(term.input_shape)
    if term.sums_maps:
        height = width = 1
    return term.weights.reshape(-1, channels, height, width)


def _spikes(name: str, shape: Shape) -> Source:
    bits = word_bits(shape[0])
    return Source(name, f"uint{bits}_t", bits, maps(shape), 0, None)


def _place(place: str, pooled: str, tap: str, pool: int, kernel: int, term: Term) -> str:
    """Which row (or column) of what is read meets a tap, as an expression.

    Args:
        place, pooled, tap: variables: of the layer's maps, within a pooling window, and within
            a filter; only the first may be empty, where there is one place.
        pool, kernel: how many there are.
        term: with its stride and padding.
    """
    step = term.stride
    parts = []
    if place:
        parts.append(f"{place} * {pool * step}" if pool * step > 1 else place)
    if pool > 1:
        parts.append(f"{pooled} * {step}" if step > 1 else pooled)
    if kernel > 1:
        parts.append(tap)
    text = " + ".join(parts) or "0"
    return f"{text} - {term.padding}" if term.padding else text


def _described(term: Term, height: int, width: int, recurrent: bool) -> str:
    if recurrent:
        return f"{term.fan_in} spikes of its own, of the time step before"
    pooled = "" if term.pool == 1 else f", {term.pool} x {term.pool} {term.pooling} pooling"
    if term.kind == "spikes":
        return "spikes as they are"
    if term.kind == "dense":
        return f"{math.prod(term.input_shape)} inputs{', sums of maps' if term.sums_maps else ''}"
    each = " of each map" if term.groups > 1 else ""
    return f"{term.output_shape[0]} filters of {height} x {width}{each}{pooled}"


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))
