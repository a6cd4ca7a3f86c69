"""CIFAR-10: 50,000 training and 10,000 test images in colour.

``CIFAR10/cifar-10-batches-bin`` below the data root holds ``data_batch_1.bin`` to
``data_batch_5.bin`` and ``test_batch.bin``. The Python version, ``cifar-10-batches-py``, is
read as well; either folder may lie in the data root itself. The binary archive is downloaded
and unpacked if neither is there. One record is a byte with the label and 3,072 bytes of
pixels: red, green and blue, each row by row.

A part of the data set (fewer files, or files with fewer records) is read only if
``data.options.partial`` asks for it, and is never called CIFAR-10 alone: its results
carry the numbers of images that are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.data.download import RemoteFile, fetch_unpacked
from bsnn_tha.data.holding_out import check_validation
from bsnn_tha.data.images import assemble
from bsnn_tha.data.pickled_batches import read_pickled_batch
from bsnn_tha.errors import DataError

_FOLDER, _PYTHON_FOLDER = "cifar-10-batches-bin", "cifar-10-batches-py"
_ARCHIVE = RemoteFile(
    "cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)
_PYTHON_ARCHIVE = RemoteFile("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", ())
"""Used where it lies, never downloaded."""
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
_IMAGES_IN_FILE = 10_000
_CLASSES, _SHAPE = 10, (3, 32, 32)
_PIXELS = 3 * 32 * 32
_RECORD = 1 + _PIXELS


def load_cifar10(
    root: Path, *, validation: float, seed: int, partial: bool = False, augment: bool = False
) -> Dataset:
    """CIFAR-10: photographs of ten kinds of things, 32 × 32 pixels.

    Args:
        root: data root; the files are in ``root/CIFAR10/cifar-10-batches-bin``, or
            where the module says.
        validation: share of the training images to hold out, in [0, 1); with 0
            the data set has no validation part.
        seed: of the draw of the validation part.
        partial: take what is there if files or images are missing.
        augment: show training images shifted by up to 4 pixels, and half of them
            mirrored, as is usual; drawn anew in every epoch.

    Returns:
        Images ``[samples, 3, 32, 32]`` in [0, 1], labels 0 to 9.

    Raises:
        DataError: files are missing and cannot be downloaded, damaged, or
            incomplete without ``partial``.
        InvalidValueError: ``validation`` outside [0, 1).
    """
    check_validation(validation)
    folder = _locate(root)
    train, test = (_read(folder, names) for names in (_TRAIN, _TEST))
    wanted = tuple(_IMAGES_IN_FILE * len(names) for names in (_TRAIN, _TEST))
    title = "CIFAR-10"
    if (len(train), len(test)) != wanted:
        there = (
            f"{len(train):,} of {wanted[0]:,} training and {len(test):,} of {wanted[1]:,} "
            "test images"
        )
        if not partial:
            raise DataError(
                f"{folder} holds {there}; to use the part that is there, set "
                "data.options.partial = true, or delete the folder so that it is downloaded again"
            )
        if not len(train) or not len(test):
            raise DataError(f"{folder} must hold training and test images, but has {there}")
        title = f"CIFAR-10 ({_thousands(len(train))}/{_thousands(len(test))})"
    dataset = assemble("cifar10", title, train, test, _CLASSES, validation, seed)
    if augment:
        assert isinstance(dataset.train, TensorSplit)
        return dataset.with_train(AugmentedImages(dataset.train), "training images augmented")
    return dataset


@dataclass(frozen=True)
class AugmentedImages:
    """Images shifted and mirrored at random whenever they are taken.

    Args:
        images: as they are, ``[samples, channels, height, width]``.
        shift: by up to so many pixels in each direction, zeros moving in.

    Example:
        >>> images = TensorSplit(torch.ones(2, 1, 8, 8), torch.tensor([0, 1]))
        >>> batch, targets = AugmentedImages(images)[[0, 1]]
        >>> batch.shape, targets.tolist()
        (torch.Size([2, 1, 8, 8]), [0, 1])
    """

    images: TensorSplit
    shift: int = 4

    @property
    def targets(self) -> Tensor:
        """Class indices ``[samples]``."""
        return self.images.targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        images, targets = self.images[indices]
        return _shifted_and_mirrored(images, self.shift), targets


def _shifted_and_mirrored(images: Tensor, shift: int) -> Tensor:
    samples, _, height, width = images.shape
    padded = F.pad(images, [shift] * 4)
    top, left = torch.randint(2 * shift + 1, (2, samples, 1))
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    mirrored = torch.rand(samples, 1) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    # Indexing puts the channels last.
    taken = padded[torch.arange(samples)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return taken.permute(0, 3, 1, 2)


def find_cifar10(root: Path) -> Path | None:
    """The folder of either version, unpacked; None if there is none."""
    for name in (_FOLDER, _PYTHON_FOLDER):
        for place in (root / "CIFAR10" / name, root / name):
            if place.is_dir():
                return place
    return None


def _locate(root: Path) -> Path:
    if found := find_cifar10(root):
        return found
    home = root / "CIFAR10"
    if (home / _PYTHON_ARCHIVE.name).is_file() and not (home / _ARCHIVE.name).is_file():
        return fetch_unpacked(_PYTHON_ARCHIVE, home, _PYTHON_FOLDER)
    return fetch_unpacked(_ARCHIVE, home, _FOLDER)


def _read(folder: Path, names: tuple[str, ...]) -> TensorSplit:
    pickled = folder.name == _PYTHON_FOLDER
    paths = [folder / (name if pickled else f"{name}.bin") for name in names]
    batches = []
    for path in paths:
        if path.exists():
            labels, images = read_pickled_batch(path, _PIXELS) if pickled else _read_binary(path)
            _check(path, labels)
            batches.append((labels, images))
    none = np.zeros(0, np.int64), np.zeros((0, _PIXELS), np.uint8)
    labels, images = map(np.concatenate, zip(none, *batches, strict=True))
    return TensorSplit(
        torch.from_numpy(images.reshape(-1, *_SHAPE)), torch.from_numpy(labels), scale=1 / 255
    )


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[images]`` and pixels ``[images, 3072]``."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) % _RECORD or len(data) > _RECORD * _IMAGES_IN_FILE:
        raise DataError(
            f"{path} must hold up to {_IMAGES_IN_FILE:,} records of {_RECORD:,} bytes, but has "
            f"{len(data):,} bytes; replace it"
        )
    records = data.reshape(-1, _RECORD)
    return records[:, 0].astype(np.int64), records[:, 1:]


def _check(path: Path, labels: np.ndarray) -> None:
    if len(labels) > _IMAGES_IN_FILE:
        raise DataError(
            f"{path} must hold up to {_IMAGES_IN_FILE:,} images, but has {len(labels):,}; "
            "replace it"
        )
    wrong = labels[(labels < 0) | (labels >= _CLASSES)]
    if len(wrong):
        raise DataError(
            f"{path} must hold labels from 0 to {_CLASSES - 1}, but got {wrong[0]}; replace it"
        )


def _thousands(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else f"{count:,}"
