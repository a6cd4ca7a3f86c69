"""What property tests draw of that which is compiled for itself: a loop takes a second each.

Few values, each of which meets all examples' data; ``FUZZ=1`` draws from all there are.
"""

from __future__ import annotations

import os

from hypothesis import strategies as st

FUZZ = bool(os.environ.get("FUZZ"))


def one_of(few, *every):
    """One of a few tuples; with ``FUZZ=1`` any tuple of these values, or of what is drawn so."""
    drawn = (v if isinstance(v, st.SearchStrategy) else st.sampled_from(v) for v in every)
    return st.tuples(*drawn) if FUZZ else st.sampled_from(few)


GEOMETRIES = [
    (1, 1, 1, (5, 6)),
    (31, 3, 1, (4, 7)),
    (70, 4, 1, (1, 9)),
    (3, 5, 2, (6, 5)),
    (64, 5, 1, (2, 3)),
    (16, 2, 4, (3, 2)),
    (31, 3, 1, (11, 2)),
]
"""Outputs, kernel and pooling: vectors, and how far a spike reaches, 1 to 5 outputs. Rows and
columns of a map: in how many tiles the gradient of the input is computed."""

geometries = one_of(
    GEOMETRIES,
    [1, 3, 16, 31, 64, 70, 100],
    [1, 2, 3, 4, 5],
    [1, 2, 4],
    [(rows, columns) for rows in range(1, 10) for columns in range(1, 10)],
)


def input_side(places, kernel, pool, padding, beyond):
    """Of an input whose map has so many places, and a rest that fills no pool and is left out."""
    return places * pool + beyond % pool + kernel - 1 - 2 * padding
