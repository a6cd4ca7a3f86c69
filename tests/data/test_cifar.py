"""CIFAR-10's binary files: layout, parts of the set, downloads, augmentation."""

from __future__ import annotations

import hashlib
import io
import itertools
import pickle
import re
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from local_server import Server

import bsnn_tha.data.cifar as cifar
from bsnn_tha.data import load_dataset
from bsnn_tha.data.cifar import AugmentedImages
from bsnn_tha.data.dataset import TensorSplit
from bsnn_tha.errors import DataError, InvalidValueError

FILES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
PER_FILE = 20
"""Images of a file here, in place of 10,000; each class twice."""


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(cifar, "_IMAGES_IN_FILE", PER_FILE)


def content(name: str, images: int = PER_FILE) -> bytes:
    """Records whose pixels tell the file, the channel, the row and the column."""
    records = []
    for index in range(images):
        pixels = np.zeros((3, 32, 32), np.uint8)
        pixels[:] = np.arange(3)[:, None, None] * 80 + np.arange(32)[:, None] + np.arange(32)
        pixels[0, 0, 0] = FILES.index(name)
        records.append(bytes([index % 10]) + pixels.tobytes())
    return b"".join(records)


def place(root: Path, names=FILES, images=PER_FILE) -> Path:
    folder = root / "CIFAR10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(content(name, images))
    return folder


class AsPython2(pickle._Pickler):
    """Byte strings as Python 2 wrote them, and numpy's name of that time."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, obj):
        self.write(pickle.BINSTRING + struct.pack("<i", len(obj)) + obj)
        self.memoize(obj)

    dispatch[bytes] = save_bytes

    def save_global(self, obj, name=None):
        if getattr(obj, "__name__", None) == "_reconstruct":
            self.write(pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[type(np._core.multiarray._reconstruct)] = save_global


def pickled(images: np.ndarray, labels: list[int]) -> bytes:
    buffer = io.BytesIO()
    batch = {b"batch_label": b"a batch", b"labels": labels, b"data": images, b"filenames": [b"a"]}
    AsPython2(buffer, protocol=2).dump(batch)
    return buffer.getvalue()


def place_python(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in FILES:
        records = np.frombuffer(content(name), np.uint8).reshape(-1, 3073)
        batch = pickled(records[:, 1:].copy(), records[:, 0].tolist())
        (folder / name.removesuffix(".bin")).write_bytes(batch)
    return folder


def load(root: Path, **options):
    common = {"root": root, "cache": root, "seed": 0, "validation": 0.0, "num_steps": 4}
    for key in common.keys() & options.keys():
        common[key] = options.pop(key)
    return load_dataset("cifar10", options=options, **common)


def test_images_and_labels(tmp_path, offline):
    place(tmp_path)
    data = load(tmp_path)
    assert data.static and data.input_shape == (3, 32, 32) and data.num_classes == 10
    assert data.source == "CIFAR-10, 100 training, 20 test images"
    images, labels = data.train[list(range(100))]
    assert labels.tolist() == 10 * list(range(10))
    # In the order of the files.
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [i // 20 for i in range(100)]
    assert images[7, 2, 3, 5].item() == pytest.approx((160 + 3 + 5) / 255)
    assert images[7, 1, 30, 0].item() == pytest.approx((80 + 30) / 255)
    assert data.test[[0]][0][0, 0, 0, 0].item() == pytest.approx(5 / 255)


@pytest.mark.parametrize("place_of", ["CIFAR10", ".", "archive"])
def test_the_python_version_is_the_same(tmp_path, offline, place_of):
    place(tmp_path / "binary")
    if place_of == "archive":
        home = tmp_path / "CIFAR10"
        home.mkdir()
        with tarfile.open(home / "cifar-10-python.tar.gz", "w:gz") as archive:
            archive.add(place_python(tmp_path / "packed"), "cifar-10-batches-py")
    else:
        place_python(tmp_path / place_of)
    binary, data = load(tmp_path / "binary"), load(tmp_path)
    assert data.source == binary.source
    for ours, theirs in ((data.train, binary.train), (data.test, binary.test)):
        assert torch.equal(ours.inputs, theirs.inputs) and torch.equal(ours.targets, theirs.targets)


class Explosive:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (pickle.dumps({b"data": Explosive()}), "it asks for _pytest.outcomes"),
        (pickle.dumps(np.zeros(3)), ""),
        (b"cos\nsystem\n(S'true'\ntR.", "it asks for os.system"),
        (b"rubbish", ""),
        (b"", ""),
        (pickled(np.zeros((2, 3072), np.uint8), [0]), r"shape \(2, 3072\) for 1 labels"),
        (pickled(np.zeros((1, 3072), np.int8), [0]), "its data are 'i1'"),
        (pickled(np.zeros((1, 3072), np.uint8), [0])[:-50], ""),
    ],
    ids=["function", "other", "system", "rubbish", "empty", "labels", "type", "cut"],
)
def test_no_pickle_is_run(tmp_path, offline, batch, reason):
    path = place_python(tmp_path) / "data_batch_2"
    path.write_bytes(batch)
    rule = (
        rf"^{re.escape(str(path))} is not a readable batch of .* \(.*{reason}.*\); replace it, or"
    )
    with pytest.raises(DataError, match=rule):
        load(tmp_path, partial=True)


def test_labels_of_the_python_version_are_checked(tmp_path, offline):
    path = place_python(tmp_path) / "data_batch_2"
    path.write_bytes(pickled(np.zeros((1, 3072), np.uint8), [10]))
    with pytest.raises(DataError, match=r"data_batch_2 must hold labels from 0 to 9, but got 10"):
        load(tmp_path, partial=True)


def test_a_validation_part_is_drawn_class_by_class(tmp_path):
    place(tmp_path)
    data = load(tmp_path, validation=0.2)
    assert data.validation.targets.bincount().tolist() == [2] * 10
    assert len(data.train) == 80
    assert "80 training, 20 validation (stratified, seed 0)" in data.source


@pytest.mark.parametrize(
    ("names", "images", "there", "title"),
    [
        (["data_batch_1.bin", "data_batch_3.bin", "test_batch.bin"], 20, (40, 20), "(40/20)"),
        (FILES, 10, (50, 10), "(50/10)"),
    ],
    ids=["files_missing", "images_missing"],
)
def test_a_part_is_used_only_when_asked_for(tmp_path, names, images, there, title):
    folder = place(tmp_path, names, images)
    message = (
        f"{folder} holds {there[0]} of 100 training and {there[1]} of 20 test images; to use the "
        "part that is there, set data.options.partial = true, or delete the folder so that it is "
        "downloaded again"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load(tmp_path)
    data = load(tmp_path, partial=True)
    assert (len(data.train), len(data.test)) == there
    assert data.source.startswith(f"CIFAR-10 {title}, {there[0]} training")


def test_the_whole_set_is_called_by_its_name_also_when_a_part_would_do(tmp_path):
    place(tmp_path)
    assert load(tmp_path, partial=True).source.startswith("CIFAR-10, 100 training")


def test_a_part_needs_images_of_both_kinds(tmp_path):
    place(tmp_path, ["data_batch_1.bin"])
    with pytest.raises(DataError, match="must hold training and test images"):
        load(tmp_path, partial=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "must hold up to 20 records of 3,073 bytes, but has 61,459 bytes"),
        (lambda data: data + data, "must hold up to 20 records of 3,073 bytes"),
        (lambda data: b"\x0a" + data[1:], "must hold labels from 0 to 9, but got 10"),
    ],
    ids=["cut", "too_long", "label"],
)
def test_damage_is_named(tmp_path, change, message):
    path = place(tmp_path) / "data_batch_2.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"^{re.escape(str(path))} {message}"):
        load(tmp_path, partial=True)


def test_the_archive_is_downloaded_once(tmp_path, server: Server, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in FILES:
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content(name))
            archive.addfile(entry, io.BytesIO(content(name)))
    server.contents["/cifar.tar.gz"] = buffer.getvalue()
    remote = replace(
        cifar._ARCHIVE,
        md5=hashlib.md5(buffer.getvalue()).hexdigest(),
        urls=(server.url("/cifar.tar.gz"),),
    )
    monkeypatch.setattr(cifar, "_ARCHIVE", remote)
    for _ in range(2):
        assert len(load(tmp_path).train) == 100
    assert len(server.requests) == 1


def test_validation_outside_its_range_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InvalidValueError, match=r"validation must be in \[0, 1\)"):
        load(tmp_path, validation=1.0)


# Augmentation


def changed(padded, top, left, mirrored):
    image = padded[:, top : top + 32, left : left + 32]
    return image.flip(2) if mirrored else image


def test_augmentation_shifts_and_mirrors_training_images_only(tmp_path):
    place(tmp_path)
    plain, data = load(tmp_path), load(tmp_path, augment=True)
    assert data.source.endswith("test images, training images augmented")
    assert type(data.test) is TensorSplit
    torch.manual_seed(0)
    whole = list(range(100))
    originals, _ = plain.train[whole]
    images, labels = data.train[whole]
    assert torch.equal(labels, plain.train.targets) and images.shape == originals.shape
    seen = set()
    changes = list(itertools.product(range(9), range(9), (False, True)))
    for image, original in zip(images, originals, strict=True):
        padded = torch.nn.functional.pad(original, [4] * 4)
        found = [change for change in changes if torch.equal(image, changed(padded, *change))]
        assert len(found) == 1
        seen.add(found[0])
    tops, lefts, mirrors = (set(values) for values in zip(*seen, strict=True))
    assert tops == lefts == set(range(9)) and mirrors == {False, True}


def test_augmentation_is_drawn_anew_and_repeats_with_the_seed():
    images = AugmentedImages(TensorSplit(torch.rand(6, 3, 8, 8), torch.arange(6)), shift=2)
    batches = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        batches.append(images[list(range(6))][0])
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


# The part of the real files


def test_the_files_at_hand(shared_data, monkeypatch):
    monkeypatch.setattr(cifar, "_IMAGES_IN_FILE", 10_000)
    if not (shared_data / "CIFAR10").is_dir():
        pytest.skip(f"no CIFAR10 in {shared_data}")
    data = load(shared_data, partial=True)
    if len(data.train) == 20_000:
        assert data.source == "CIFAR-10 (20k/1k), 20,000 training, 1,000 test images"
    # The official first test images: cat, ship, ship, airplane, frog.
    assert data.test.targets[:5].tolist() == [3, 8, 8, 0, 6]
    assert data.train.targets[:5].tolist() == [6, 9, 9, 4, 1]
    images, _ = data.train[list(range(500))]
    assert images.min() >= 0 and images.max() <= 1
    # Means of the channels as they are known for the whole set: 0.49, 0.48, 0.45.
    means = images.mean((0, 2, 3))
    torch.testing.assert_close(means, torch.tensor([0.491, 0.482, 0.447]), atol=0.03, rtol=0)
