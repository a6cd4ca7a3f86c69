"""Energy of operations: which constants stand for what."""

import pytest

from bsnn_tha.observe.energy import Costs

# Constants that no sum of others equals.
COSTS = Costs(
    addition=1.0, multiplication=10.0, float_addition=100.0, float_multiplication=1e3, byte=1e4
)


@pytest.mark.parametrize(
    ("bits", "graded", "each"),
    [
        (1, False, 1.0 + 1e4 / 8),  # a spike adds a sign
        (1, True, 1.0 + 1e4 / 8),  # a sign adds or subtracts a value: no product
        (4, False, 1.0 + 1e4 / 2),  # a spike adds a weight of 4 bits
        (4, True, 11.0 + 1e4 / 2),
        (32, False, 100.0 + 4e4),
        (32, True, 1100.0 + 4e4),
    ],
)
def test_what_an_input_costs_depends_on_it_and_on_the_weight(bits, graded, each):
    assert COSTS.of_inputs(6, bits, graded) == pytest.approx(6 * each)


@pytest.mark.parametrize(
    ("states", "width", "real", "each"),
    [
        (1, 4, False, 10.0 + 1.0 + 8e4 + 1.0),  # the last addition stands for the comparison
        (2, 2, False, 2 * (10.0 + 1.0 + 4e4) + 1.0),
        (1, 4, True, 1e3 + 100.0 + 8e4 + 100.0),
    ],
)
def test_what_an_update_costs_depends_on_its_states(states, width, real, each):
    assert COSTS.of_neurons(5, states, width, real) == pytest.approx(5 * each)
