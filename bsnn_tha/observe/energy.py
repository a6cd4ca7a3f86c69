"""What the operations of a network are estimated to cost in energy.

An estimate: counts of operations times constants of :class:`Costs`, which are for one process and
one kind of memory, and replaceable. Leakage, control and transport over distance are in none. It
is good for comparing networks with each other, not for a chip's data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT_BITS = 32
"""A weight of so many bits, or more, is a floating-point number."""


@dataclass(frozen=True)
class Costs:
    """Energy of operations in pJ.

    The defaults are Horowitz, "Computing's energy problem" (ISSCC 2014), 45 nm at 0.9 V: integer
    addition and multiplication of 32 bits, floating-point ones, and an access to a cache of 8 kB,
    10 pJ for 8 bytes. A comparison is taken for an addition. Sums stay in registers: an addition
    reads its weight, of a bit or of several bytes, and an update reads and writes its state.

    Example:
        >>> Costs(byte=0.6, source="my chip").byte
        0.6
    """

    addition: float = 0.1
    multiplication: float = 3.1
    float_addition: float = 0.9
    float_multiplication: float = 3.7
    byte: float = 1.25
    source: str = "Horowitz, ISSCC 2014, 45 nm, 0.9 V, cache of 8 kB"

    def of_inputs(self, operations: float, weight_bits: int, graded: bool) -> float:
        """Energy of inputs that meet weights, in pJ.

        A spike adds the weight it meets, and a weight of one bit adds or subtracts the value that
        it meets; only values between others than that are multiplied.

        Args:
            operations: nonzero inputs times weights.
            weight_bits: of a weight; from :data:`FLOAT_BITS` on it is a floating-point number.
            graded: whether there are other inputs than −1, 0 and 1.

        Example:
            >>> Costs().of_inputs(8, weight_bits=1, graded=True)  # 8 additions, and a byte
            2.05
        """
        real = weight_bits >= FLOAT_BITS
        each = self.float_addition if real else self.addition
        if graded and weight_bits > 1:
            each += self.float_multiplication if real else self.multiplication
        return operations * (each + self.byte * weight_bits / 8)

    def of_neurons(
        self, updates: float, states: int = 1, state_bytes: int = 4, real: bool = False
    ) -> float:
        """Energy of neurons that integrate and fire, in pJ.

        Args:
            updates: neurons times time steps.
            states: that a neuron keeps: the membrane potential, and a synaptic current.
            state_bytes: of each.
            real: whether they are floating-point numbers.

        Example:
            >>> round(Costs().of_neurons(1), 1)  # β · u + I, read and written; u ≥ θ
            13.3
        """
        add = self.float_addition if real else self.addition
        multiply = self.float_multiplication if real else self.multiplication
        return updates * (states * (multiply + add + 2 * state_bytes * self.byte) + add)
