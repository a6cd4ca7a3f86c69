"""Sizes and matrices of Winograd's algorithm F(4, 3), for the points 0, ±1, ±2 and ∞.

They are those of Lavin and Gray (2016); what they are for stands in
:mod:`bsnn_tha.functional.winograd`.
"""

from __future__ import annotations

STEP, SIZE, KERNEL = 4, 6, 3
"""Places in a row that a tile has to itself, of a transformed tile, and of a kernel."""
PLACES = SIZE * SIZE
"""Of a transformed tile."""

MATRICES: dict[str, tuple[tuple[float, ...], ...]] = {
    "of inputs": (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    "to inputs": (
        (4, 0, 0, 0, 0, 0),
        (0, -4, 4, -2, 2, 4),
        (-5, -4, -4, -1, -1, 0),
        (0, 1, -1, 2, -2, -5),
        (1, 1, 1, 1, 1, 0),
        (0, 0, 0, 0, 0, 1),
    ),
    "of outputs": (
        (1, 0, 0, 0),
        (1, 1, 1, 1),
        (1, -1, 1, -1),
        (1, 2, 4, 8),
        (1, -2, 4, -8),
        (0, 0, 0, 1),
    ),
    "of kernels": (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    "to kernels": (
        (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24, 0),
        (0, -1 / 6, 1 / 6, 1 / 12, -1 / 12, 0),
        (0, -1 / 6, -1 / 6, 1 / 6, 1 / 6, 1),
    ),
}
"""Bᵀ, B, A, G and Gᵀ."""
