"""Image data sets: real files, made-up damage, and downloads from a local server."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import os
import shutil
import socket
import stat
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pooch
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from local_server import Server
from torch import Tensor

from bsnn_tha.data import images
from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.data.download import RemoteFile, fetch
from bsnn_tha.data.idx import read_idx
from bsnn_tha.data.images import load_digits, load_fashion_mnist, load_mnist
from bsnn_tha.data.root import data_root
from bsnn_tha.errors import DataError, InvalidValueError

MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


# --------------------------------------------------------------------- helpers


def idx_bytes(array: Tensor) -> bytes:
    """An IDX file, written from the format's description."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.to(torch.uint8).numpy().tobytes()


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def tensors(split: object) -> tuple[Tensor, Tensor]:
    assert isinstance(split, TensorSplit)
    return split.inputs, split.targets


def histogram(split: object) -> list[int]:
    return torch.bincount(tensors(split)[1], minlength=10).tolist()


def same(a: Dataset, b: Dataset, part: str) -> bool:
    pairs = zip(tensors(getattr(a, part)), tensors(getattr(b, part)), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def tiny_files(train: int = 40, test: int = 20) -> dict[str, Tensor]:
    """The four arrays of a small MNIST; pixel [0, 0] of an image is its number."""
    arrays = {}
    for prefix, count in (("train", train), ("t10k", test)):
        pixels = torch.zeros(count, 28, 28, dtype=torch.uint8)
        pixels[:, 0, 0] = torch.arange(count)
        arrays[f"{prefix}-images-idx3-ubyte"] = pixels
        arrays[f"{prefix}-labels-idx1-ubyte"] = torch.arange(count) % 10
    return arrays


def write_mnist(root: Path, arrays: dict[str, Tensor], *, compress: bool = True) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        content = idx_bytes(array)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return root


@pytest.mark.usefixtures("offline")
def test_the_offline_fixture_notices_a_download(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a socket was opened"):
        fetch(RemoteFile("a.bin", "0" * 32, ("http://127.0.0.1:9/",)), tmp_path)


# ------------------------------------------------------------------ data_root


def test_root_prefers_argument_then_environment_then_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BSNN_THA_DATA", str(tmp_path / "env"))
    assert data_root(tmp_path / "arg") == tmp_path / "arg"
    assert data_root(str(tmp_path / "arg")) == tmp_path / "arg"
    assert data_root() == tmp_path / "env"
    monkeypatch.setenv("BSNN_THA_DATA", "")
    assert data_root() == pooch.os_cache("bsnn-tha")
    monkeypatch.delenv("BSNN_THA_DATA")
    assert data_root() == pooch.os_cache("bsnn-tha")
    assert list(tmp_path.iterdir()) == []


def test_root_expands_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("BSNN_THA_DATA", "~/env")
    assert data_root() == tmp_path / "env"
    assert data_root("~/arg") == tmp_path / "arg"
    assert data_root(Path("~/arg")) == tmp_path / "arg"
    assert data_root("~no-such-user/x") == Path("~no-such-user/x")


# ------------------------------------------------------------------ real files


REAL = {"MNIST": load_mnist, "FashionMNIST": load_fashion_mnist}


@pytest.fixture(scope="module")
def loaded(shared_data: Path) -> Callable[..., Dataset]:
    """Load from the real files, each setting once."""
    cache: dict[tuple[str, float, int], Dataset] = {}

    def load(title: str, validation: float = 0.1, seed: int = 0) -> Dataset:
        if not (shared_data / title / "raw").is_dir():
            pytest.skip(f"no {title}/raw in {shared_data}")
        key = (title, validation, seed)
        if key not in cache:
            cache[key] = REAL[title](shared_data, validation=validation, seed=seed)
        return cache[key]

    return load


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("title", "name", "train", "test", "parts"),
    [
        # 5,999: a tenth of every class, each rounded.
        ("MNIST", "mnist", MNIST_TRAIN, MNIST_TEST, "54,001 training, 5,999"),
        ("FashionMNIST", "fashion-mnist", [6000] * 10, [1000] * 10, "54,000 training, 6,000"),
    ],
    ids=["MNIST", "FashionMNIST"],
)
def test_real_files(
    loaded: Callable[..., Dataset],
    title: str,
    name: str,
    train: list[int],
    test: list[int],
    parts: str,
) -> None:
    data = loaded(title)
    assert (data.name, data.input_shape, data.num_classes, data.static) == (
        name, (1, 28, 28), 10, True,
    )  # fmt: skip
    assert data.source == f"{title}, {parts} validation (stratified, seed 0), 10,000 test images"
    assert histogram(data.test) == test
    assert histogram(data.validation) == [round(0.1 * count) for count in train]
    both = zip(histogram(data.train), histogram(data.validation), strict=True)
    assert [a + b for a, b in both] == train
    for part in (data.train, data.validation, data.test):
        pixels, labels = tensors(part)
        assert pixels.dtype == torch.uint8 and labels.dtype == torch.int64
        assert pixels.shape == (len(labels), 1, 28, 28)
        assert pixels.max() == 255 and pixels.min() == 0
    assert data.test is not None
    batch, labels = data.test[[0, 1, 2]]
    assert batch.shape == (3, 1, 28, 28) and batch.dtype == torch.float32
    torch.testing.assert_close(batch, tensors(data.test)[0][:3] / 255)
    assert labels.tolist() == data.test.targets[:3].tolist()


def test_mnist_starts_with_the_known_digits(loaded: Callable[..., Dataset]) -> None:
    data = loaded("MNIST", 0)
    assert data.train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test is not None and data.test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert pytest.approx(tensors(data.train)[0].float().mean().item() / 255, abs=1e-4) == 0.1306


def test_without_validation(loaded: Callable[..., Dataset]) -> None:
    data = loaded("MNIST", 0)
    assert data.validation is None
    assert len(data.train) == 60_000
    assert data.source == "MNIST, 60,000 training, 10,000 test images"


def test_real_split_depends_on_the_seed_alone(
    loaded: Callable[..., Dataset], shared_data: Path
) -> None:
    first, other = loaded("MNIST"), loaded("MNIST", seed=1)
    torch.manual_seed(123)  # the global generator must not matter
    again = load_mnist(shared_data, validation=0.1, seed=0)
    assert all(same(first, again, part) for part in ("train", "validation", "test"))
    assert same(first, other, "test")
    assert not same(first, other, "validation")
    assert histogram(first.validation) == histogram(other.validation)


# ------------------------------------------------------------------ small files


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
def test_files_in_place_need_no_network(tmp_path: Path, compress: bool) -> None:
    write_mnist(tmp_path, tiny_files(), compress=compress)
    before = sorted(tmp_path.rglob("*"))
    data = load_mnist(tmp_path, validation=0.25, seed=0)
    assert (len(data.train), len(data.test or ())) == (30, 20)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("title", list(REAL))
@pytest.mark.parametrize("folder", ["raw", "."])
@pytest.mark.parametrize("spelling", ["{}", "{}.gz", "{0}/{0}"])
@pytest.mark.parametrize("mark", ["-idx", ".idx"])
def test_files_in_other_usual_places_and_spellings(
    tmp_path: Path, title: str, folder: str, spelling: str, mark: str
) -> None:
    for name, array in tiny_files().items():
        path = tmp_path / title / folder / spelling.format(name.replace("-idx", mark))
        path.parent.mkdir(parents=True, exist_ok=True)
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    data = REAL[title](tmp_path, validation=0, seed=0)
    assert tensors(data.train)[0][:, 0, 0, 0].tolist() == list(range(40))
    assert data.test is not None and len(data.test) == 20


@pytest.mark.parametrize(
    "dtype", [torch.int16, torch.int64, torch.uint8, torch.bool, torch.float16, torch.float64]
)
def test_batches_are_float32_whatever_is_stored(dtype: torch.dtype) -> None:
    stored = torch.tensor([[0, 1], [1, 0]], dtype=dtype)
    batch, _ = TensorSplit(stored, torch.tensor([0, 1]))[[1, 0]]
    assert batch.dtype == torch.float32 and batch.tolist() == [[1, 0], [0, 1]]


def test_split_is_disjoint_complete_and_a_function_of_the_seed(tmp_path: Path) -> None:
    write_mnist(tmp_path, tiny_files(train=200))

    def numbers(seed: int) -> tuple[list[int], list[int]]:
        data = load_mnist(tmp_path, validation=0.2, seed=seed)
        train, validation = tensors(data.train), tensors(data.validation)
        for pixels, labels in (train, validation):
            assert torch.equal(pixels[:, 0, 0, 0] % 10, labels)
        return train[0][:, 0, 0, 0].tolist(), validation[0][:, 0, 0, 0].tolist()

    train, validation = numbers(0)
    assert sorted(train + validation) == list(range(200))
    assert sorted(number % 10 for number in validation) == sorted(list(range(10)) * 4)
    torch.manual_seed(5)  # the global generator must not matter
    assert numbers(0) == (train, validation)
    assert numbers(1) != (train, validation)


@pytest.mark.parametrize("validation", [-0.1, 1.0, 1.5, float("nan")])
@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist, load_digits])
def test_validation_share_is_checked_first(
    tmp_path: Path, load: Callable[..., Dataset], validation: float
) -> None:
    with pytest.raises(InvalidValueError, match=r"validation must be in \[0, 1\), but got") as e:
        load(tmp_path, validation=validation, seed=0)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "array", "rule"),
    [
        ("train-images-idx3-ubyte", torch.zeros(40, 28, 27), r"28 × 28 pixels.*40 × 28 × 27"),
        ("t10k-images-idx3-ubyte", torch.zeros(20, 784), r"28 × 28 pixels.*20 × 784"),
        ("train-labels-idx1-ubyte", torch.zeros(39), r"each of the 40 images.* 39;"),
        ("t10k-labels-idx1-ubyte", torch.zeros(20, 1), r"each of the 20 images.* 20 × 1;"),
        ("t10k-labels-idx1-ubyte", torch.full((20,), 10), r"labels from 0 to 9, but got 10"),
        ("train-labels-idx1-ubyte", torch.full((40,), 255), r"labels from 0 to 9, but got 255"),
    ],
    ids=["width", "flat", "too few labels", "label shape", "label 10", "label 255"],
)
def test_arrays_must_be_what_mnist_is(tmp_path: Path, name: str, array: Tensor, rule: str) -> None:
    write_mnist(tmp_path, {**tiny_files(), name: array})
    with pytest.raises(DataError, match=rule) as error:
        load_mnist(tmp_path, validation=0, seed=0)
    message = one_line(error)
    assert str(tmp_path / "MNIST" / "raw" / f"{name}.gz") in message
    assert "delete" in message


# ---------------------------------------------------------------------- digits


@pytest.mark.usefixtures("offline")
def test_digits() -> None:
    data = load_digits(Path("no-such-folder"), validation=0.1, seed=3)
    assert (data.name, data.input_shape, data.num_classes, data.static) == (
        "digits", (1, 8, 8), 10, True,
    )  # fmt: skip
    parts = [data.train, data.validation, data.test]
    assert [len(part or ()) for part in parts] == [1295, 143, 359]
    whole = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert [sum(counts) for counts in zip(*map(histogram, parts), strict=True)] == whole
    assert histogram(data.test) == [round(0.2 * count) for count in whole]
    for part in parts:
        pixels, labels = tensors(part)
        assert pixels.dtype == torch.uint8 and labels.dtype == torch.int64
        assert pixels.shape[1:] == (1, 8, 8) and pixels.max() == 16
    assert data.test is not None and data.test[list(range(359))][0].max() == 1
    assert not Path("no-such-folder").exists()


def test_digits_parts_are_the_images_of_scikit_learn_each_once() -> None:
    from sklearn.datasets import load_digits as bundled

    data = load_digits(Path(), validation=0.3, seed=0)
    rows = [
        torch.cat([pixels.flatten(1), labels[:, None]], dim=1).tolist()
        for pixels, labels in map(tensors, (data.train, data.validation, data.test))
    ]
    bunch = bundled()
    expected = [[*map(int, x), int(y)] for x, y in zip(bunch.data, bunch.target, strict=True)]
    assert sorted(sum(rows, [])) == sorted(expected)


def test_digits_test_part_ignores_the_seed() -> None:
    a, again, b = (load_digits(Path(), validation=0.1, seed=seed) for seed in (0, 0, 1))
    none = load_digits(Path(), validation=0, seed=7)
    assert all(same(a, again, part) for part in ("train", "validation", "test"))
    assert same(a, b, "test") and same(a, none, "test")
    assert not same(a, b, "validation") and not same(a, b, "train")
    assert none.validation is None
    assert none.source == "digits (scikit-learn), 1,438 training, 359 test images"


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match="pip install scikit-learn") as error:
        load_digits(Path(), validation=0, seed=0)
    one_line(error)


# ------------------------------------------------------------------------- IDX


ARRAY = torch.arange(2 * 3 * 4, dtype=torch.uint8).reshape(2, 3, 4)
GOOD = idx_bytes(ARRAY)
ZIPPED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (2, 3, 4), (1, 2, 1, 3, 1)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_round_trip(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    array = torch.randint(256, shape, dtype=torch.uint8)
    path = tmp_path / f"x-idx-ubyte{suffix}"
    path.write_bytes(gzip.compress(idx_bytes(array)) if suffix else idx_bytes(array))
    read = read_idx(path)
    assert read.dtype == torch.uint8 and torch.equal(read, array)
    read += 1  # the memory is the tensor's own and writable


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("x", b"", "two zero bytes, but got"),
        ("x", GOOD[:3], "two zero bytes, but got 00 00 08"),
        ("x", b"PK" + GOOD[2:], "two zero bytes, but got 50 4b 08 03"),
        ("x", ZIPPED, "two zero bytes, but got 1f 8b"),
        ("x", b"\0\0\x0d" + GOOD[3:], "type 8.*got type 13"),
        ("x", b"\0\0\x08\0", "at least one dimension, but got 0"),
        ("x", GOOD[:10], "header must have 16 bytes, but the file ends after 10"),
        ("x", GOOD[:-1], r"\(2, 3, 4\) values must take 24 bytes, but got 23"),
        ("x", GOOD[:16], r"must take 24 bytes, but got 0"),
        ("x", GOOD + b"\0", r"must take 24 bytes, but got 25"),
        ("x", struct.pack(">BBBBI", 0, 0, 8, 1, 0), r"at least 1, but got \(0,\)"),
        ("x", b"\0\0\x08\xff" + b"\xff" * 1020, "values must take"),
        ("x.gz", b"", "must"),
        ("x.gz", GOOD, "intact gzip file, but got: Not a gzipped file"),
        ("x.gz", ZIPPED[:-9], "intact gzip file"),
        ("x.gz", ZIPPED[:5], "intact gzip file"),
        ("x.gz", ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:], "intact gzip file, but got: CRC"),
        ("x.gz", ZIPPED[:12] + b"\xff\xff\xff" + ZIPPED[15:], "intact gzip file"),
        ("x.gz", ZIPPED + b"rubbish", "intact gzip file"),
        ("x.gz", gzip.compress(GOOD[:-1], mtime=0), "must take 24 bytes, but got 23"),
    ],
)
def test_idx_damage_is_named(tmp_path: Path, name: str, content: bytes, rule: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=rule) as error:
        read_idx(path)
    message = one_line(error)
    assert str(path) in message
    assert message.endswith("delete it so that it is downloaded again, or replace it")


@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_idx_missing_file_and_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="does not exist; place the file there") as error:
        read_idx(tmp_path / name)
    assert str(tmp_path / name) in one_line(error)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="cannot be read") as error:
        read_idx(tmp_path / name)
    assert str(tmp_path / name) in one_line(error)


@pytest.fixture(scope="module")
def fuzz_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def mutations(whole: bytes) -> st.SearchStrategy[bytes]:
    """A valid file with some bytes changed, then cut or made longer."""
    edits = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)

    def mutate(edits: list[tuple[int, int]], length: int, tail: bytes) -> bytes:
        content = bytearray(whole)
        for position, value in edits:
            content[position] = value
        return bytes(content[:length]) + tail

    lengths = st.integers(0, len(whole)) | st.just(len(whole))
    return st.builds(mutate, edits, lengths, st.binary(max_size=4))


def reads_or_data_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        array = read_idx(path)
    except DataError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert array.dtype == torch.uint8 and array.numel() > 0


@settings(max_examples=400, deadline=None)
@given(content=st.binary(max_size=64) | mutations(GOOD))
def test_idx_fuzz_plain(fuzz_folder: Path, content: bytes) -> None:
    reads_or_data_error(fuzz_folder / "x", content)
    reads_or_data_error(fuzz_folder / "y.gz", gzip.compress(content))


@settings(max_examples=400, deadline=None)
@given(content=st.binary(max_size=64) | mutations(ZIPPED))
def test_idx_fuzz_gzip(fuzz_folder: Path, content: bytes) -> None:
    reads_or_data_error(fuzz_folder / "x.gz", content)


# -------------------------------------------------------------------- download


PAYLOAD = bytes(range(256)) * 4096  # 1 MiB, many chunks
MD5 = hashlib.md5(PAYLOAD).hexdigest()


def mirrors(server: Server, *folders: str) -> tuple[str, ...]:
    return tuple(f"http://127.0.0.1:{server.server_address[1]}/{f}/" for f in folders)


def remote(server: Server, *folders: str, md5: str = MD5, name: str = "a.bin") -> RemoteFile:
    return RemoteFile(name, md5, tuple(f"{m}{name}" for m in mirrors(server, *folders)))


def test_download(server: Server, tmp_path: Path) -> None:
    server.contents["/good/a.bin"] = PAYLOAD
    folder = tmp_path / "new" / "folder"
    path = fetch(remote(server, "good"), folder)
    assert path == folder / "a.bin" and path.read_bytes() == PAYLOAD
    assert [p.name for p in folder.iterdir()] == ["a.bin"]
    assert fetch(remote(server, "good"), folder) == path
    assert server.requests == ["/good/a.bin"]


def test_download_appears_under_its_name_only_when_complete(server: Server, tmp_path: Path) -> None:
    server.contents["/good/a.bin"] = PAYLOAD
    seen: list[list[str]] = []
    # Half of the answer is on its way; the other half waits for this to return.
    server.halfway = lambda: seen.append([p.name for p in tmp_path.iterdir()])
    fetch(remote(server, "good"), tmp_path)
    assert len(seen) == 1 and "a.bin" not in seen[0]
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize(("folder_mode", "mode"), [(0o755, 0o644), (0o700, 0o600)])
def test_download_is_readable_by_those_who_can_read_the_folder(
    server: Server, tmp_path: Path, folder_mode: int, mode: int
) -> None:
    server.contents["/good/a.bin"] = PAYLOAD
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(folder_mode)
    assert stat.S_IMODE(fetch(remote(server, "good"), folder).stat().st_mode) == mode


def test_file_in_place_is_used_whatever_its_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"placed by hand")
    assert fetch(remote(server, "good"), tmp_path).read_bytes() == b"placed by hand"
    assert server.requests == []


@pytest.mark.parametrize(
    ("body", "folder", "reason"),
    [
        (b"x" * 100, "wrong", r"expected md5:\w{32} but got"),
        (b"", "empty", "the server sent an empty file"),
        (PAYLOAD, "short", "IncompleteRead"),
        (None, "none", "404"),
    ],
    ids=["wrong checksum", "empty", "truncated", "404"],
)
def test_failed_download_names_everything_and_leaves_nothing(
    server: Server, tmp_path: Path, body: bytes | None, folder: str, reason: str
) -> None:
    if body is not None:
        server.contents[f"/{folder}/a.bin"] = body
    file = remote(server, "missing", folder)
    with pytest.raises(DataError, match=reason) as error:
        fetch(file, tmp_path)
    message = one_line(error)
    assert all(url in message for url in file.urls)
    assert message.endswith(f"place the file by hand at {tmp_path / 'a.bin'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", ["none", "wrong", "empty", "short"])
def test_second_mirror_is_tried(server: Server, tmp_path: Path, first: str) -> None:
    server.contents = {
        "/wrong/a.bin": b"x" * 100,
        "/empty/a.bin": b"",
        "/short/a.bin": PAYLOAD,
        "/good/a.bin": PAYLOAD,
    }
    path = fetch(remote(server, first, "good"), tmp_path)
    assert path.read_bytes() == PAYLOAD
    assert server.requests == [f"/{first}/a.bin", "/good/a.bin"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_no_server_and_no_mirror(server: Server, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/"
        with pytest.raises(DataError, match="refused") as error:
            fetch(RemoteFile("a.bin", MD5, (url,)), tmp_path / "new" / "raw")
    assert one_line(error).count(url) == 1 and "Max retries" not in one_line(error)
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataError, match="no address is known") as error:
        fetch(RemoteFile("a.bin", MD5, ()), tmp_path)
    one_line(error)


def test_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="must be writable.*BSNN_THA_DATA") as error:
        fetch(remote(server, "good"), tmp_path / "file" / "raw")
    assert str(tmp_path / "file" / "raw" / "a.bin") in one_line(error)
    assert server.requests == []


def test_interrupt_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.contents["/good/a.bin"] = PAYLOAD
    level = pooch.get_logger().level

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.core, "hash_matches", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(remote(server, "good"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert pooch.get_logger().level == level


def test_download_is_logged_once_and_pooch_is_silent(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.contents["/good/a.bin"] = PAYLOAD
    file = remote(server, "good")
    pooch.get_logger().addHandler(caplog.handler)  # it has no parent to hand records to
    try:
        with caplog.at_level(logging.INFO, logger="bsnn_tha"):
            fetch(file, tmp_path)
    finally:
        pooch.get_logger().removeHandler(caplog.handler)
    messages = [r.getMessage() for r in caplog.records if r.name.startswith(("bsnn_tha", "pooch"))]
    assert messages == [f"downloading {file.urls[0]} to {tmp_path / 'a.bin'}"]


@pytest.mark.parametrize("tqdm", [True, False], ids=["tqdm", "no tqdm"])
def test_progress_bar_on_a_terminal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tqdm: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    if tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    server.contents["/good/a.bin"] = PAYLOAD
    fetch(remote(server, "none", "good"), tmp_path)
    assert ("a.bin:" in terminal.getvalue()) is tqdm
    assert ("1.05M" in terminal.getvalue()) is tqdm


def test_mnist_is_downloaded_once_and_equals_files_in_place(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = write_mnist(tmp_path / "placed", tiny_files())
    sums = {}
    for path in (placed / "MNIST" / "raw").iterdir():
        server.contents[f"/second/{path.name}"] = path.read_bytes()
        sums[path.name.split("-idx")[0]] = hashlib.md5(path.read_bytes()).hexdigest()
    fake = replace(
        images.MNIST,
        mirrors=mirrors(server, "first", "second"),
        train_images=sums["train-images"],
        train_labels=sums["train-labels"],
        test_images=sums["t10k-images"],
        test_labels=sums["t10k-labels"],
    )
    monkeypatch.setattr(images, "MNIST", fake)
    fetched = load_mnist(tmp_path / "fetched", validation=0.25, seed=0)
    assert len(server.requests) == 8  # four files, the first mirror has none
    by_hand = load_mnist(placed, validation=0.25, seed=0)
    assert len(server.requests) == 8
    assert all(same(fetched, by_hand, part) for part in ("train", "validation", "test"))

    # A damaged file that is deleted, as the message says, comes back.
    damaged = tmp_path / "fetched" / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte.gz is damaged.*delete it"):
        load_mnist(tmp_path / "fetched", validation=0.25, seed=0)
    damaged.unlink()
    repaired = load_mnist(tmp_path / "fetched", validation=0.25, seed=0)
    assert same(repaired, by_hand, "test")


def test_mnist_missing_and_offline(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MNIST", replace(images.MNIST, mirrors=mirrors(server, "gone")))
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz") as error:
        load_mnist(tmp_path, validation=0, seed=0)
    by_hand = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    assert one_line(error).endswith(f"place the file by hand at {by_hand}")
    assert len(server.requests) == 1


def test_real_files_may_be_decompressed(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    if not source.exists():
        pytest.skip(f"no {source}")
    plain = tmp_path / source.stem
    with gzip.open(source) as packed, plain.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    assert torch.equal(read_idx(plain), read_idx(source))
