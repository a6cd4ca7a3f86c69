"""A C program before it is text: its functions, constants, state and types.

Everything that can be decided before the text is written is decided here and in
:mod:`.translate`; the templates only write it down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bsnn_tha.deploy.c.tables import Number, Table
from bsnn_tha.deploy.network import DeployedNetwork


@dataclass(frozen=True)
class Source:
    """Spikes or numbers that a term reads, and the weights that meet them.

    Attributes:
        name: of the array in C.
        type: of its elements.
        bits: of its words; 0 where each element is one number.
        shape: ``(channels, height, width)``.
        first: of the term's channels, the first that lies here.
        weights: of these channels, or None where spikes are added as they are.
    """

    name: str
    type: str
    bits: int
    shape: tuple[int, int, int]
    first: int
    weights: Table | None

    @property
    def words(self) -> int:
        """At each place."""
        return -(-self.shape[0] // self.bits)


@dataclass(frozen=True)
class TermCode:
    """A term's function in C.

    Attributes:
        name: of the function.
        sources: what it reads, one after the other.
        way: ``"words"``, ``"values"``, ``"depthwise"`` or ``"spikes"``.
        loops: variables and how far they count.
        row, column: of what is read, as expressions of those.
        tap: which weights meet it, likewise.
        edges: whether that may lie outside of the maps.
        maximum: whether the largest of the window counts, not the sum.
        gain: what n is multiplied by.
        held: whether its sums are those of a constant input, kept in the state.
        held_type: of each of them there.
    """

    name: str
    sources: tuple[Source, ...]
    way: str
    pool_loops: tuple[tuple[str, int], ...]
    loops: tuple[tuple[str, int], ...]
    row: str
    column: str
    tap: str
    edges: bool
    maximum: bool
    gain: Number
    held: bool
    held_type: str
    text: str


@dataclass(frozen=True)
class LayerCode:
    """A layer's functions and state in C.

    Attributes:
        index: of the layer.
        terms: what drives it.
        shape: of its neurons, ``(channels, height, width)``.
        bits: of a word of its spikes.
        block: channels that are done at a time.
        state_type: of a membrane.
        sum_type: wide enough for a membrane before it is held.
        offset, threshold, decay, synaptic_decay: of the equations.
        reset: likewise.
        bounds: of a membrane that is held within them; synapse_bounds likewise.
        recurrent: whether its own spikes come back to it. It then reads a copy of them, for blocks
            of channels take their places one after the other.
        text: what it is, for a comment.
    """

    index: int
    terms: tuple[TermCode, ...]
    shape: tuple[int, int, int]
    bits: int
    block: int
    state_type: str
    sum_type: str
    offset: Number
    threshold: Number
    decay: Number
    synaptic_decay: Number | None
    reset: str
    bounds: tuple[int, int] | None
    synapse_bounds: tuple[int, int] | None
    recurrent: bool
    text: str

    @property
    def neurons(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def single(self) -> bool:
        """Whether its maps have one place."""
        return self.shape[1:] == (1, 1)

    @property
    def blocks(self) -> bool:
        """Whether its channels are done in more than one go."""
        return self.shape[0] > self.block

    @property
    def word_type(self) -> str:
        """Of its spikes."""
        return f"uint{self.bits}_t"

    @property
    def reads_input(self) -> bool:
        """Whether each step's function is handed the input."""
        return any(
            source.name == "input" and not term.held
            for term in self.terms
            for source in term.sources
        )

    @property
    def words(self) -> int:
        """Of spikes at each place."""
        return -(-self.shape[0] // self.bits)

    @property
    def all_words(self) -> int:
        return self.words * self.shape[1] * self.shape[2]


@dataclass(frozen=True)
class Field:
    """A member of the state's struct."""

    type: str
    name: str
    count: int
    text: str

    @property
    def size(self) -> int:
        """Of one element, in bytes."""
        return int(self.type.strip("uint_")) // 8


@dataclass(frozen=True)
class Program:
    """All of it.

    Attributes:
        network: what it computes.
        layers: in their order.
        input_type: of one number of the input.
        input_words: whether the input is packed into words like spikes.
    """

    network: DeployedNetwork
    layers: tuple[LayerCode, ...]
    input_type: str
    input_words: Source | None

    @property
    def constant_input(self) -> bool:
        """Whether it is one frame for all time steps."""
        return self.network.input.kind == "image"

    @property
    def input_size(self) -> int:
        return math.prod(self.network.input.shape)

    @property
    def outputs(self) -> int:
        return self.layers[-1].shape[0]

    @property
    def score_type(self) -> str:
        return "int64_t" if self.network.readout == "membrane_sum" else "uint32_t"

    def tables(self) -> list[Table]:
        """Every constant array."""
        found: list[Table] = []
        for layer in self.layers:
            numbers = [layer.offset, layer.threshold, layer.decay, layer.synaptic_decay]
            for term in layer.terms:
                numbers.append(term.gain)
                found += [s.weights for s in term.sources if s.weights is not None]
            found += [n.table for n in numbers if n is not None and n.table is not None]
        return found

    def fields(self) -> list[Field]:
        """The state's members, the widest first, so that nothing lies between them."""
        found = [Field(self.score_type, "scores", self.outputs, "the answer so far")]
        if self.input_words is not None:
            source = self.input_words
            words = source.words * source.shape[1] * source.shape[2]
            found.append(Field(source.type, source.name, words, "the frame, as bits"))
        for layer in self.layers:
            i, state = layer.index, layer.state_type
            found.append(Field(state, f"membrane_{i}", layer.neurons, f"v of layer {i}"))
            if layer.synaptic_decay is not None:
                found.append(Field(state, f"synapse_{i}", layer.neurons, f"i of layer {i}"))
            for term in layer.terms:
                if term.held:
                    text = f"n of layer {i}, the same at every step"
                    found.append(Field(term.held_type, f"held_{i}", layer.neurons, text))
            spikes = f"uint{layer.bits}_t"
            found.append(Field(spikes, f"spikes_{i}", layer.all_words, f"z of layer {i}, as bits"))
            if layer.recurrent:
                text = f"z of layer {i} a time step before"
                found.append(Field(spikes, f"before_{i}", layer.all_words, text))
        return sorted(found, key=lambda field: -field.size)

    @property
    def clips(self) -> bool:
        """Whether the input's type has values that the input must not have."""
        if self.input_words is not None:
            return False
        bounds = np.iinfo(self.input_type.removesuffix("_t"))
        return bool(bounds.min < self.network.input.low or bounds.max > self.network.input.high)

    @property
    def counts_bits(self) -> bool:
        """Whether words of spikes meet words of weights."""
        return any(term.way == "words" for layer in self.layers for term in layer.terms)

    @property
    def decays(self) -> bool:
        """Whether anything decays that does not stay or vanish."""
        assert self.network.decay_bits is not None
        whole = 2**self.network.decay_bits
        decays = [d for layer in self.layers for d in (layer.decay, layer.synaptic_decay) if d]
        return not all(decay.is_always(0) or decay.is_always(whole) for decay in decays)

    @property
    def holds(self) -> bool:
        """Whether membranes are held within bounds."""
        return any(layer.bounds or layer.synapse_bounds for layer in self.layers)

    @property
    def constant_bytes(self) -> int:
        """Of the tables, in flash."""
        return sum(table.nbytes for table in self.tables())

    @property
    def state_bytes(self) -> int:
        """``sizeof`` the state, in RAM."""
        fields = self.fields()
        total = sum(field.size * field.count for field in fields)
        return -(-total // fields[0].size) * fields[0].size
