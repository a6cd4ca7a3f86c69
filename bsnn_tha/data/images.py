"""Still images: MNIST, FashionMNIST and scikit-learn's 8 × 8 digits.

CIFAR-10 is in :mod:`bsnn_tha.data.cifar`.

All loaders take ``(root, validation, seed)`` and return a static
:class:`~bsnn_tha.data.dataset.Dataset` whose images are ``[samples, 1, height,
width]``, kept in memory as bytes and scaled to [0, 1] batch by batch. The
validation part comes out of the training images, class by class; which images
it takes depends on ``seed`` alone. The test part is always the same.

MNIST and FashionMNIST use torchvision's folders, ``MNIST/raw`` and
``FashionMNIST/raw``, with the four IDX files either as distributed
(``train-images-idx3-ubyte.gz``) or decompressed (no ``.gz``). They may as well lie
in ``MNIST`` itself, be spelled ``train-images.idx3-ubyte`` or lie in a folder of their
own name, as some archives unpack. Files that are missing are downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bsnn_tha.data.dataset import Dataset, TensorSplit, stratified_split
from bsnn_tha.data.download import RemoteFile, fetch
from bsnn_tha.data.holding_out import check_validation, hold_out
from bsnn_tha.data.idx import read_idx
from bsnn_tha.errors import DataError

_CLASSES = 10
_DIGITS_TEST_SHARE = 0.2
_DIGITS_TEST_SEED = 1998  # fixed, so that every run is tested on the same images


@dataclass(frozen=True)
class _IdxFiles:
    """One of the two data sets of IDX files: names, place and checksums."""

    name: str
    title: str
    mirrors: tuple[str, ...]
    train_images: str
    train_labels: str
    test_images: str
    test_labels: str

    def checksums(self) -> dict[str, str]:
        """Of the four files by name: images and labels for training, then for the test."""
        return {
            "train-images-idx3-ubyte": self.train_images,
            "train-labels-idx1-ubyte": self.train_labels,
            "t10k-images-idx3-ubyte": self.test_images,
            "t10k-labels-idx1-ubyte": self.test_labels,
        }

    def find(self, root: Path, name: str) -> Path | None:
        """One of the files where it lies, in any of the usual places and spellings."""
        for folder in (root / self.title / "raw", root / self.title):
            for spelling in (name, name.replace("-idx", ".idx")):
                for path in (
                    folder / spelling,
                    folder / f"{spelling}.gz",
                    folder / spelling / spelling,
                ):
                    if path.is_file():
                        return path
        return None


MNIST = _IdxFiles(
    name="mnist",
    title="MNIST",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    train_images="f68b3c2dcbeaaa9fbdd348bbdeb94873",
    train_labels="d53e105ee54ea40749a09fcbcd1e9432",
    test_images="9fb629c4189551a2d022fa330f9573f3",
    test_labels="ec29112dd5afa0611ce80d1b7f02629c",
)

FASHION_MNIST = _IdxFiles(
    name="fashion-mnist",
    title="FashionMNIST",
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    train_images="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    train_labels="25c81989df183df01b3e8a0aad5dffbe",
    test_images="bef4ecab320f06d8554ea6380940ec79",
    test_labels="bb300cfdad3c16e7a12a480ee83cd310",
)


def load_mnist(root: Path, *, validation: float, seed: int) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of digits, 28 × 28 pixels.

    Args:
        root: data root; the files are in ``root/MNIST/raw``.
        validation: share of the training images to hold out, in [0, 1); with 0
            the data set has no validation part.
        seed: of the draw of the validation part.

    Returns:
        Images ``[samples, 1, 28, 28]`` in [0, 1], labels 0 to 9.

    Raises:
        DataError: a file is damaged, or missing and cannot be downloaded.
        InvalidValueError: ``validation`` outside [0, 1).
    """
    return _load_idx(MNIST, root, validation, seed)


def load_fashion_mnist(root: Path, *, validation: float, seed: int) -> Dataset:
    """FashionMNIST: as MNIST in size and shape, with ten kinds of clothing.

    Args:
        root: data root; the files are in ``root/FashionMNIST/raw``.
        validation: share of the training images to hold out, in [0, 1); with 0
            the data set has no validation part.
        seed: of the draw of the validation part.

    Returns:
        Images ``[samples, 1, 28, 28]`` in [0, 1], labels 0 to 9.

    Raises:
        DataError: a file is damaged, or missing and cannot be downloaded.
        InvalidValueError: ``validation`` outside [0, 1).
    """
    return _load_idx(FASHION_MNIST, root, validation, seed)


def load_digits(root: Path, *, validation: float, seed: int) -> Dataset:
    """Scikit-learn's 1,797 handwritten digits, 8 × 8 pixels: no files needed.

    A fifth of the images, the same ones whatever the seed, is the test part.

    Args:
        root: ignored; here so that all loaders are called alike.
        validation: share of the other images to hold out, in [0, 1); with 0
            the data set has no validation part.
        seed: of the draw of the validation part.

    Returns:
        Images ``[samples, 1, 8, 8]`` in [0, 1] (16 grey levels), labels 0 to 9.

    Raises:
        DataError: scikit-learn is not installed.
        InvalidValueError: ``validation`` outside [0, 1).

    Example:
        >>> digits = load_digits(Path(), validation=0.1, seed=0)
        >>> print(digits.source)
        digits (scikit-learn), 1,295 training, 143 validation (stratified, seed 0), 359 test images
        >>> images, labels = digits.test[[0, 1]]
        >>> images.shape
        torch.Size([2, 1, 8, 8])
    """
    check_validation(validation)
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            "the digits come with scikit-learn, but it is not installed; pip install scikit-learn"
        ) from error
    bunch = datasets.load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    whole = TensorSplit(images, torch.from_numpy(bunch.target).long(), scale=1 / 16)
    kept, held_out = stratified_split(whole.targets, _DIGITS_TEST_SHARE, _DIGITS_TEST_SEED)
    train, test = whole.select(kept), whole.select(held_out)
    return assemble("digits", "digits (scikit-learn)", train, test, _CLASSES, validation, seed)


def _load_idx(files: _IdxFiles, root: Path, validation: float, seed: int) -> Dataset:
    check_validation(validation)

    def locate(name: str, md5: str) -> Path:
        urls = tuple(f"{mirror}{name}.gz" for mirror in files.mirrors)
        return files.find(root, name) or fetch(
            RemoteFile(f"{name}.gz", md5, urls), root / files.title / "raw"
        )

    # All four are fetched before the first is read: a download that fails does so early.
    paths = [locate(name, md5) for name, md5 in files.checksums().items()]
    train, test = paths[:2], paths[2:]
    return assemble(
        files.name, files.title, _read_part(*train), _read_part(*test), _CLASSES, validation, seed
    )


def _read_part(images_path: Path, labels_path: Path) -> TensorSplit:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise DataError(
            f"{images_path} must hold images of 28 × 28 pixels, but got an array of shape"
            f" {_shape(images)}; delete it so that it is downloaded again, or replace it"
        )
    if labels.ndim != 1 or len(labels) != len(images):
        raise DataError(
            f"{labels_path} must hold one label for each of the {len(images)} images in"
            f" {images_path.name}, but got an array of shape {_shape(labels)}; delete both so"
            " that they are downloaded again, or replace them"
        )
    if labels.max() >= _CLASSES:
        raise DataError(
            f"{labels_path} must hold labels from 0 to {_CLASSES - 1}, but got"
            f" {labels.max().item()}; delete it so that it is downloaded again, or replace it"
        )
    return TensorSplit(images.unsqueeze(1), labels.long(), scale=1 / 255)


def _shape(array: Tensor) -> str:
    return " × ".join(map(str, array.shape))


def assemble(
    name: str,
    title: str,
    train: TensorSplit,
    test: TensorSplit,
    num_classes: int,
    validation: float,
    seed: int,
) -> Dataset:
    """Still images with a validation part held out of the training part, which the source says."""
    train, held_out, note = hold_out(train, validation, seed)
    return Dataset(
        name=name,
        input_shape=tuple(train.inputs.shape[1:]),
        num_classes=num_classes,
        static=True,
        train=train,
        validation=held_out,
        test=test,
        source=f"{title}, {len(train):,} training,{note} {len(test):,} test images",
    )
