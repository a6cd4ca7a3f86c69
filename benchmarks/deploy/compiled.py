"""An exported C program as a library of this process, to be run on many samples."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.c.program import Program
from bsnn_tha.deploy.network import Array

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")


class CompiledNetwork:
    """``network.c`` of a folder, compiled and loaded.

    Args:
        program: which it was made from.
        folder: with ``network.h`` and ``network.c``; the library is written there.
        compiler, flags: of C.

    Raises:
        subprocess.CalledProcessError: it does not compile without a warning.
    """

    def __init__(
        self,
        program: Program,
        folder: Path,
        compiler: str = "cc",
        flags: tuple[str, ...] = ("-O2",),
    ) -> None:
        self.program = program
        library = folder / "network.so"
        command = [compiler, *STRICT, *flags, "-shared", "-fPIC", "-o", str(library)]
        subprocess.run([*command, str(folder / "network.c")], check=True)
        self._library = ctypes.CDLL(str(library))
        self._library.network_answer.restype = ctypes.c_int32
        members = []
        for field in program.fields():
            element = getattr(ctypes, f"c_{field.type.removesuffix('_t')}")
            members.append((field.name, element * field.count))
        self._state_type = type("State", (ctypes.Structure,), {"_fields_": members})
        self.state = self._state_type()

    def reset(self) -> None:
        """The start of a sample."""
        self._library.network_reset(ctypes.byref(self.state))

    def show(self, image: Array) -> None:
        """An image for the time steps to come, ``[*shape]``."""
        self._library.network_show(ctypes.byref(self.state), self.frame(image))

    def step(self, frame: Array | None = None) -> None:
        """A time step; with its events, ``[*shape]``, if the input is no image."""
        given = () if frame is None else (self.frame(frame),)
        self._library.network_step(ctypes.byref(self.state), *given)

    def classify(self, sample: ctypes.c_void_p) -> int:
        """A whole sample, an image or frames as :meth:`frame` gives them."""
        return int(self._library.network_classify(ctypes.byref(self.state), sample))

    def frame(self, values: Array) -> ctypes.c_void_p:
        """Numbers as C reads them, until the next are given."""
        self._kept = np.ascontiguousarray(values, self.program.input_type.removesuffix("_t"))
        return ctypes.c_void_p(self._kept.ctypes.data)

    def answer(self) -> int:
        """So far."""
        return int(self._library.network_answer(ctypes.byref(self.state)))

    def spikes(self, index: int) -> NDArray[np.uint8]:
        """Of a layer in the last step, ``[channels, height, width]`` or ``[features]``."""
        layer = self.program.layers[index]
        words = self._array(f"spikes_{index}")
        rows = words.view(np.uint8).reshape(*layer.shape[1:], -1)
        bits = np.unpackbits(rows, axis=2, count=layer.shape[0], bitorder="little")
        return bits.transpose(2, 0, 1).reshape(self._shape(index))

    def membranes(self, index: int) -> NDArray[np.int64]:
        """Of a layer after the last step, likewise."""
        channels, height, width = self.program.layers[index].shape
        values = self._array(f"membrane_{index}").reshape(height, width, channels)
        return values.transpose(2, 0, 1).reshape(self._shape(index)).astype(np.int64)

    def scores(self) -> NDArray[np.int64]:
        """Of the outputs so far."""
        return self._array("scores").astype(np.int64)

    def _shape(self, index: int) -> tuple[int, ...]:
        return self.program.network.layers[index].output_shape

    def _array(self, name: str) -> Array:
        return np.ctypeslib.as_array(getattr(self.state, name)).copy()


def same_spikes(compiled: CompiledNetwork, inputs: Array, num_steps: int | None) -> int:
    """Run samples through the program and the reference; how many samples there were.

    Args:
        compiled: the program.
        inputs, num_steps: as :func:`bsnn_tha.deploy.reference.run` takes them.

    Raises:
        AssertionError: a spike of any layer, an output membrane or a score differs.
    """
    from bsnn_tha.deploy.reference import run

    network = compiled.program.network
    window = run(network, inputs, num_steps)
    samples = len(inputs) if num_steps is not None else inputs.shape[1]
    last = len(network.layers) - 1
    for sample in range(samples):
        compiled.reset()
        if num_steps is not None:
            compiled.show(inputs[sample])
        for step in range(len(window.spikes)):
            compiled.step(None if num_steps is not None else inputs[step, sample])
            for index, spikes in enumerate(window.layers):
                if not np.array_equal(compiled.spikes(index), spikes[step, sample]):
                    raise AssertionError(f"sample {sample}, time step {step}, layer {index}")
            if not np.array_equal(compiled.membranes(last), window.membranes[step, sample]):
                raise AssertionError(f"sample {sample}, time step {step}: output membranes")
        if not np.array_equal(compiled.scores(), window.scores[sample]):
            raise AssertionError(f"sample {sample}: scores")
        if compiled.answer() != window.scores[sample].argmax():
            raise AssertionError(f"sample {sample}: answer")
    return samples
