"""NumPy arrays: an ``.npz`` file, or a folder of ``.npy`` files.

Either ``x`` and ``y``, of which a part is then held for the test, or ``x_train``,
``y_train``, ``x_test`` and ``y_test``. ``classes``, if it is there, names the classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.data.holding_out import check_validation, hold_out
from bsnn_tha.data.own.parts import TEST_SHARE, TestShare, drawn_for_test, located
from bsnn_tha.errors import DataError

WHOLE, DIVIDED = ("x", "y"), ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class SequenceSplit:
    """Samples that are sequences, ``[samples, time, ...]``; batches are ``[time, batch, ...]``.

    Example:
        >>> split = SequenceSplit(torch.zeros(3, 9, 4), torch.tensor([0, 1, 0]), num_steps=5)
        >>> split[[0, 2]][0].shape
        torch.Size([5, 2, 4])
    """

    inputs: Tensor
    targets: Tensor
    num_steps: int
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        batch = self.inputs[indices, : self.num_steps].float().mul_(self.scale)
        return batch.transpose(0, 1).contiguous(), self.targets[indices]

    def select(self, indices: Tensor) -> SequenceSplit:
        """The part with these sample indices, in this order."""
        inputs, targets = self.inputs[indices], self.targets[indices]
        return SequenceSplit(inputs, targets, self.num_steps, self.scale)


def load_arrays(
    root: Path,
    *,
    validation: float,
    seed: int,
    num_steps: int,
    path: str,
    sequences: bool = False,
    scale: Annotated[float, Field(gt=0)] | None = None,
    test_share: TestShare = TEST_SHARE,
) -> Dataset:
    """Arrays as samples.

    Args:
        root: data root, where ``path`` is looked for as well.
        validation: share of the training samples to hold out, in [0, 1), class by class.
        seed: of the draw of the validation part.
        num_steps: T; of sequences the first T steps are taken.
        path: of the ``.npz`` file or the folder.
        sequences: inputs are ``[samples, time, ...]``. Otherwise they are still:
            ``[samples, features]``, ``[samples, height, width]`` or
            ``[samples, channels, height, width]``.
        scale: factor from stored to input values; by default 1 / 255 for bytes, else 1.
        test_share: of each class, where there is no test part.

    Raises:
        DataError: an array is missing, of another shape or type, has a value that is no
            number, or a label that is no class; the message names array and place.
    """
    check_validation(validation)
    place = located(path, root)
    arrays = read_arrays(place)
    names = DIVIDED if set(DIVIDED) <= set(arrays) else WHOLE
    if missing := [name for name in names if name not in arrays]:
        raise DataError(
            f"{place} must hold the arrays x and y, or {', '.join(DIVIDED)}, but lacks "
            f"{', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'none'}"
        )
    classes = tuple(str(name) for name in arrays["classes"]) if "classes" in arrays else ()
    parts = [
        _part(place, arrays, x, y, sequences, num_steps, scale, classes)
        for x, y in zip(names[::2], names[1::2], strict=True)
    ]
    count = len(classes) or int(max(part.targets.max() for part in parts)) + 1
    if len(parts) == 1:
        kept, held = drawn_for_test(parts[0].targets, test_share, str(place))
        train, test = parts[0].select(kept), parts[0].select(held)
    else:
        train, test = parts
        if train.inputs.shape[1 + sequences :] != test.inputs.shape[1 + sequences :]:
            raise DataError(
                f"x_train and x_test of {place} must have samples of one shape, but have "
                f"{list(train.inputs.shape[1:])} and {list(test.inputs.shape[1:])}"
            )
    train, held_out, note = hold_out(train, validation, seed)
    return Dataset(
        name=place.stem,
        input_shape=tuple(train.inputs.shape[1 + sequences :]),
        num_classes=count,
        static=not sequences,
        train=train,
        validation=held_out,
        test=test,
        source=f"arrays in {place}, {len(train):,} training,{note} {len(test):,} test samples",
        class_names=classes,
    )


def read_arrays(place: Path) -> dict[str, np.ndarray]:
    """All arrays by name, of an ``.npz`` file or a folder of ``.npy`` files.

    Raises:
        DataError: a file cannot be read, or holds objects, which could be code.
    """
    if place.is_dir():
        return {file.stem: _read(file) for file in sorted(place.glob("*.npy"))}
    loaded = _read(place)
    if not isinstance(loaded, Mapping):
        raise DataError(
            f"{place} holds a single array; give an .npz file or a folder with x.npy and y.npy"
        )
    try:
        return {name: loaded[name] for name in loaded}
    except Exception as error:  # also of zipfile and zlib
        raise _unreadable(place, error) from error


def _read(file: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(file, allow_pickle=False)
    except Exception as error:  # also of zipfile, or out of memory for a made-up shape
        raise _unreadable(file, error) from error
    return array


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} is not a readable array file ({' '.join(str(error).split())})")


def _part(
    place: Path,
    arrays: Mapping[str, np.ndarray],
    x: str,
    y: str,
    sequences: bool,
    num_steps: int,
    scale: float | None,
    classes: tuple[str, ...],
) -> TensorSplit | SequenceSplit:
    inputs, labels = arrays[x], arrays[y]
    wanted = "[samples, time, ...]" if sequences else "[samples, ...]"
    if inputs.dtype.kind not in "biuf" or not 2 + sequences <= inputs.ndim <= 4 + sequences:
        raise DataError(
            f"{x} in {place} must be numbers {wanted}, of one to three dimensions a sample, but is "
            f"{inputs.dtype} of shape {list(inputs.shape)}"
        )
    if inputs.ndim == 4 + sequences and inputs.shape[-1] <= 4 < inputs.shape[1 + sequences]:
        raise DataError(
            f"{x} in {place} must have channels before height and width, but has shape "
            f"{list(inputs.shape)}; store np.moveaxis({x}, -1, {1 + sequences})"
        )
    if labels.ndim != 1 or len(labels) != len(inputs) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{y} in {place} must be one whole number for each of the {len(inputs):,} samples of "
            f"{x}, but is {labels.dtype} of shape {list(labels.shape)}"
        )
    most = len(classes) or None
    wrong = np.flatnonzero((labels < 0) | (labels >= (most or np.inf)))
    if len(wrong):
        raise DataError(
            f"labels must be from 0 to {most - 1 if most else '…'}, but {y}[{wrong[0]}] in {place} "
            f"is {labels[wrong[0]]}"
        )
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        sample = np.unique(np.argwhere(~np.isfinite(inputs))[:, 0])[0]
        raise DataError(f"{x} in {place} must be numbers, but {x}[{sample}] has NaN or infinity")
    if sequences and inputs.shape[1] < num_steps:
        raise DataError(
            f"{x} in {place} must have at least data.num_steps = {num_steps} time steps, but has "
            f"{inputs.shape[1]}"
        )
    if inputs.ndim == 3 + sequences:  # maps without channels
        inputs = np.expand_dims(inputs, 1 + sequences)
    factor = scale if scale is not None else 1 / 255 if inputs.dtype == np.uint8 else 1.0
    whole = torch.from_numpy(labels.astype(np.int64))
    values = torch.from_numpy(np.ascontiguousarray(inputs))
    if sequences:
        return SequenceSplit(values, whole, num_steps, factor)
    return TensorSplit(values, whole, factor)
