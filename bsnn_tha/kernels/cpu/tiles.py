"""Tiles of maps and how they are cut and transformed, compiled by numba.

Maps are seen as they lie in memory, channels last; a value of a tile is a vector of channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.bfloat16 import widened
from bsnn_tha.kernels.cpu.compiled import intrinsic
from bsnn_tha.kernels.cpu.vectors import load, store, vector_at
from bsnn_tha.kernels.winograd_matrices import MATRICES, SIZE, STEP


class Grid(NamedTuple):
    """How maps ``[samples, rows, columns, channels]`` are cut, and which are worked on together."""

    samples: int
    rows: int
    columns: int
    pool: int
    """Size of the squares whose places are each a value of the maps, divided by their number."""
    down: int
    """Tiles."""
    across: int
    together: int
    """Samples."""

    @classmethod
    def of(cls, maps: Tensor, pool: int, kernels: int) -> Grid:
        """Such that each place of maps is one that a tile has to itself.

        ``kernels`` is how many of a channel meet each tile.
        """
        samples, rows, columns, _ = maps.shape
        down, across = -(-rows * pool // STEP), -(-columns * pool // STEP)
        together = max(1, tuning.WINOGRAD_TILES // (down * across * kernels))
        return cls(samples, rows, columns, pool, down, across, min(together, samples))

    @property
    def groups(self) -> int:
        """Of samples."""
        return -(-self.samples // self.together)


def cut(
    maps: Any, of: int, height: int, width: int, channels: int, pool: int, before: int,
    down: int, across: int, image: Any, room: Any, to: int, place_apart: int, tile_apart: int,
    matrix: str,
) -> None:  # fmt: skip
    """In compiled loops: transform all tiles of one sample and vector of channels.

    Args:
        maps: flat; the sample's vectors begin at ``of`` and are ``channels`` apart.
        pool: as of a :class:`Grid`, as are ``down`` and ``across``.
        before: zeros above and left of the maps; there are as many as it takes behind them.
        image: room of :func:`image_of` vectors, zeros at first.
        room: where to, from ``to`` on.
        matrix: a literal key of :data:`~bsnn_tha.kernels.winograd_matrices.MATRICES`.
    """


@overload(cut, prefer_literal=True)
def _compile_cut(  # type: ignore[no-untyped-def]
    maps, of, height, width, channels, pool, before, down, across,
    image, room, to, place_apart, tile_apart, matrix,
):  # fmt: skip
    lanes, size = tuning.CONV_VECTOR, len(MATRICES[matrix.literal_value][0])

    def loop(  # type: ignore[no-untyped-def]
        maps, of, height, width, channels, pool, before, down, across,
        image, room, to, place_apart, tile_apart, matrix,
    ):  # fmt: skip
        share = np.float32(1 / pool**2)
        lines, line = STEP * (down - 1) + size, STEP * (across - 1) + size
        # Rows and columns that no place of the result sees are left out.
        for row in range(min(height, (lines - before) // pool)):
            for column in range(min(width, (line - before) // pool)):
                begin = of + (row * width + column) * channels
                read = maps[begin : begin + lanes]
                for y in range(pool):
                    at = ((row * pool + y + before) * line + column * pool + before) * lanes
                    for _ in range(pool):
                        written = image[at : at + lanes]
                        for i in range(lanes):
                            written[i] = widened(read[i]) * share
                        at += lanes
        for y in range(down):
            for x in range(across):
                at = (y * line + x) * STEP * lanes
                transform(
                    image, at, line * lanes, lanes, room, to + (y * across + x) * tile_apart,
                    SIZE * place_apart, place_apart, matrix, False, lanes,
                )  # fmt: skip

    return loop


def image_of(matrix: str, grid: Grid) -> int:
    """Vectors of room that :func:`cut` needs."""
    size = len(MATRICES[matrix][0])
    return (STEP * (grid.down - 1) + size) * (STEP * (grid.across - 1) + size)


@intrinsic(prefer_literal=True)
def transform(  # type: ignore[no-untyped-def]
    context, source, of, down, across, target,
    to, down_to, across_to, matrix, adds, lanes,
):  # fmt: skip
    """``target = M source Mᵀ``, or ``+=`` with ``adds``: values are vectors of ``lanes`` float32.

    A tile's value in row i and column j begins at ``of + i down + j across``, the result's at
    ``to + i down_to + j across_to``; M is ``MATRICES[matrix]``.
    """
    factors = MATRICES[matrix.literal_value]
    size, lanes_of, adding = len(factors[0]), lanes.literal_value, adds.literal_value

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        source_type, target_type = signature.args[0], signature.args[4]
        source, of, down, across, target, to, down_to, across_to, *_ = values
        vector = ir.VectorType(ir.FloatType(), lanes_of)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes_of}f32"
        )

        def at(begin, y, row, x, column):  # type: ignore[no-untyped-def]
            begin = builder.add(begin, builder.mul(row, row.type(y)))
            return builder.add(begin, builder.mul(column, column.type(x)))

        def combined(row, vectors, total=None):  # type: ignore[no-untyped-def]
            # The first has factor 1, if one has.
            order = sorted((k for k in range(size) if row[k]), key=lambda k: row[k] != 1)
            for k in order:
                factor = ir.Constant(vector, [float(row[k])] * lanes_of)
                if total is None:
                    total = vectors[k] if row[k] == 1 else builder.fmul(vectors[k], factor)
                elif abs(row[k]) == 1:
                    add = builder.fadd if row[k] == 1 else builder.fsub
                    total = add(total, vectors[k])
                else:
                    total = builder.call(fma, [vectors[k], factor, total])
            return total

        columns = []
        for x in range(size):
            places = [at(of, y, down, x, across) for y in range(size)]
            rows = [
                vector_at(context, builder, source_type, source, its, lanes_of) for its in places
            ]
            loaded = [load(builder, row) for row in rows]
            columns.append([combined(row, loaded) for row in factors])
        for y in range(len(factors)):
            for x, row in enumerate(factors):
                place = at(to, y, down_to, x, across_to)
                into = vector_at(context, builder, target_type, target, place, lanes_of)
                before = load(builder, into) if adding else None
                store(builder, combined(row, [column[y] for column in columns], before), into)
        return context.get_dummy_value()

    signature = types.void(
        source, types.intp, types.intp, types.intp,
        target, types.intp, types.intp, types.intp, matrix, adds, lanes,
    )  # fmt: skip
    return signature, build
