"""Data of one's own: what is read is what files hold; what cannot be meant names its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bsnn_tha.data import load_dataset
from bsnn_tha.data.inspect import inspect
from bsnn_tha.data.own.detect import detect
from bsnn_tha.errors import BsnnThaError, DataError, InvalidValueError


def load(name, root, num_steps=4, **options):
    return load_dataset(
        name,
        root=root,
        cache=root / "cache",
        seed=0,
        validation=0.2,
        num_steps=num_steps,
        options=options,
    )


def batch(split):
    inputs, targets = split[[*range(len(split))]]
    return (inputs.dense() if hasattr(inputs, "dense") else inputs), targets


class TestImages:
    @pytest.fixture
    def pets(self, tmp_path):
        """Ten images a class; the red channel is the image's number."""
        for number in range(20):
            folder = tmp_path / "pets" / ("cat", "dog")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.zeros((6, 8, 3), np.uint8)
            pixels[..., 0] = number
            pixels[0, 0] = 255
            Image.fromarray(pixels).save(folder / f"{number}.png")
        (tmp_path / "pets/cat/.DS_Store").write_bytes(b"x")
        return tmp_path

    def test_every_image_is_in_one_part_with_its_class_and_pixels(self, pets):
        dataset = load("image-folder", pets, path="pets")
        assert dataset.input_shape == (3, 6, 8) and dataset.class_names == ("cat", "dog")
        seen = {}
        for split in (dataset.train, dataset.validation, dataset.test):
            images, targets = batch(split)
            assert (images[:, :, 0, 0] == 1).all()
            assert (images[:, 1:, 1:] == 0).all()
            numbers = (images[:, 0, 3, 3] * 255).round().int().tolist()
            seen |= dict(zip(numbers, targets.tolist(), strict=True))
        assert seen == {number: number % 2 for number in range(20)}
        assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [12, 4, 4]

    def test_a_test_folder_is_used_as_it_is_and_sizes_are_cut_to_squares(self, pets):
        for part, numbers in (("train", range(16)), ("test", range(16, 20))):
            for number in numbers:
                name = ("cat", "dog")[number % 2]
                (pets / "own" / part / name).mkdir(parents=True, exist_ok=True)
                (pets / "pets" / name / f"{number}.png").rename(
                    pets / "own" / part / name / f"{number}.png"
                )
        dataset = load("image-folder", pets, path="own", size=4, colour="grey")
        images, targets = batch(dataset.test)
        assert images.shape == (4, 1, 4, 4)
        grey = (images[:, 0, 2, 2] * 255).round().int().tolist()
        assert grey == [round(0.299 * n) for n in (16, 18, 17, 19)]
        assert targets.tolist() == [0, 0, 1, 1]

    def test_the_cache_follows_the_files(self, pets, monkeypatch):
        first = load("image-folder", pets, path="pets")
        monkeypatch.setattr(Image, "open", None)  # nothing is decoded again
        again = load("image-folder", pets, path="pets")
        assert torch.equal(batch(first.test)[0], batch(again.test)[0])
        monkeypatch.undo()
        Image.fromarray(np.full((6, 8, 3), 7, np.uint8)).save(pets / "pets/cat/0.png")
        changed = load("image-folder", pets, path="pets")
        whole = torch.cat([batch(s)[0] for s in (changed.train, changed.validation, changed.test)])
        assert ((whole * 255).round() == 7).flatten(1).all(1).sum() == 1

    @pytest.mark.parametrize(
        ("break_it", "said"),
        [
            (
                lambda pets: (pets / "cat/2.png").write_bytes(b"no image"),
                r"cat/2\.png is not a read",
            ),
            (
                lambda pets: Image.fromarray(np.zeros((3, 3), np.uint8)).save(pets / "dog/1.png"),
                r"8 × 6 pixels and .*dog/1\.png 3 × 3; set data.options.size",
            ),
            (lambda pets: [p.unlink() for p in pets.rglob("*.png")], "there is no image"),
        ],
    )
    def test_what_cannot_be_meant_names_its_file(self, pets, break_it, said):
        break_it(pets / "pets")
        with pytest.raises(DataError, match=said):
            load("image-folder", pets, path="pets")
        assert not [*pets.glob("cache/*")]

    def test_other_files_are_left_out_and_named(self, pets, caplog):
        (pets / "pets/dog/notes.docx").write_text("x")
        load("image-folder", pets, path="pets")
        assert "notes.docx" in caplog.text


class TestArrays:
    def save(self, folder, **arrays):
        np.savez(folder / "a.npz", **arrays)
        return folder

    def test_still_samples_and_bytes(self, tmp_path):
        x = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
        dataset = load("arrays", self.save(tmp_path, x=x, y=np.arange(40) % 4), path="a.npz")
        assert dataset.input_shape == (1, 2, 3) and dataset.num_classes == 4
        images, targets = batch(dataset.train)
        numbers = (images[:, 0, 1, 2] * 255).round().long()
        assert torch.equal(numbers % 4, targets)

    def test_sequences_walk_through_time_and_parts_of_ones_own_stay(self, tmp_path):
        x = np.arange(30.0).reshape(5, 3, 2)
        for name, value in {
            "x_train": x, "y_train": np.array([0, 1, 0, 1, 0]),
            "x_test": -x[:2], "y_test": np.array([1, 0]), "classes": np.array(["a", "b"]),
        }.items():  # fmt: skip
            (tmp_path / "own").mkdir(exist_ok=True)
            np.save(tmp_path / "own" / f"{name}.npy", value)
        dataset = load("arrays", tmp_path, num_steps=2, path="own", sequences=True, scale=0.5)
        inputs, targets = batch(dataset.test)
        assert inputs.shape == (2, 2, 2) and targets.tolist() == [1, 0]
        assert torch.equal(inputs[1, 0], torch.tensor([-1.0, -1.5]))  # step 1 of sample 0
        assert dataset.class_names == ("a", "b") and not dataset.static

    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ({"x": np.zeros((4, 2))}, "lacks y; it has x"),
            ({"x": np.zeros((4, 2)), "y": np.zeros(3, int)}, "each of the 4 samples of x"),
            ({"x": np.full((4, 2), np.nan), "y": np.arange(4) % 2}, r"x\[0\] has NaN"),
            ({"x": np.zeros((4, 8, 8, 3)), "y": np.arange(4) % 2}, "np.moveaxis"),
            ({"x": np.zeros((4, 2)), "y": np.array([0, 1, 0, -1])}, r"y\[3\] in .* is -1"),
            ({"x": np.array(["a"] * 4), "y": np.arange(4)}, "must be numbers"),
            ({"x": np.zeros((3, 2)), "y": np.array([0, 0, 1])}, "class 1 has one"),
        ],
    )
    def test_what_cannot_be_meant_names_its_array(self, tmp_path, arrays, said):
        with pytest.raises(DataError, match=said):
            load("arrays", self.save(tmp_path, **arrays), path="a.npz")

    def test_objects_are_not_read(self, tmp_path):
        objects = np.array([{"a": 1}, None], dtype=object)
        np.savez(tmp_path / "a.npz", x=objects, y=np.array([0, 1]))
        with pytest.raises(DataError, match="not a readable array file"):
            load("arrays", tmp_path, path="a.npz")


class TestEvents:
    @pytest.fixture
    def table(self, tmp_path):
        """Recording n: one event in ms n, at x = n % 4, ON if n is odd."""
        lines = ["file;label;split"]
        for number in range(20):
            event = np.array([[number % 4, 1, number % 2, number * 1000]])
            np.save(tmp_path / f"{number}.npy", event)
            part = "test" if number % 5 == 0 else "train"
            lines.append(f"{number}.npy;{('off', 'on')[number % 2]};{part}")
        (tmp_path / "table.csv").write_text("\n".join(lines))
        return tmp_path

    OPTIONS = {"path": "table.csv", "sensor": [2, 2, 4], "bin_ms": 1.0, "time_unit": "us"}  # noqa: RUF012

    def test_events_are_where_and_when_the_files_say(self, table):
        dataset = load("event-table", table, num_steps=20, **self.OPTIONS)
        frames, targets = batch(dataset.test)
        assert frames.shape == (20, 4, 2, 2, 4) and dataset.class_names == ("off", "on")
        for place, number in enumerate((0, 5, 10, 15)):
            assert frames[:, place].nonzero().tolist() == [[number, number % 2, 1, number % 4]]
            assert targets[place] == number % 2

    def test_without_a_split_parts_are_drawn_by_class(self, table):
        path = table / "table.csv"
        path.write_text(
            "\n".join(line.rpartition(";")[0] for line in path.read_text().splitlines())
        )
        dataset = load("event-table", table, num_steps=20, **self.OPTIONS)
        assert torch.bincount(dataset.test.targets).tolist() == [2, 2]

    @pytest.mark.parametrize(
        ("break_it", "said"),
        [
            (lambda t: (t / "3.npy").unlink(), r"line 5 of .*table\.csv names .*3\.npy"),
            (
                lambda t: np.save(t / "3.npy", np.array([[9, 0, 0, 0]])),
                r"3\.npy must have x from 0",
            ),
            (lambda t: (t / "table.csv").write_text("name,class\na,b"), "columns file and label"),
            (
                lambda t: (t / "table.csv").write_text("file,label,split\n3.npy,a,dev"),
                "line 2 of .*train or test, but is 'dev'",
            ),
            (lambda t: (t / "table.csv").write_text("file,label\n3.npy,"), "line 2 .* no label"),
        ],
    )
    def test_what_cannot_be_meant_names_file_or_line(self, table, break_it, said):
        break_it(table)
        with pytest.raises(DataError, match=said):
            load("event-table", table, num_steps=20, **self.OPTIONS)

    @pytest.mark.parametrize("option", ["bin_ms", "start_ms"])
    @pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300])
    def test_times_that_no_recording_has_are_refused(self, table, option, value):
        with pytest.raises(InvalidValueError, match=rf"data\.options\.{option} must be"):
            load("event-table", table, num_steps=20, **{**self.OPTIONS, option: value})

    def test_a_set_of_tonic_by_name(self, tmp_path, monkeypatch):
        from tonic import Dataset, datasets

        class Clicks(Dataset):
            sensor_size = (5, 1, 1)
            dtype = np.dtype([("t", int), ("x", int), ("p", int)])

            def __init__(self, save_to, train=True):
                super().__init__(save_to)
                self.targets = ["low", "high"] * (6 if train else 2)

            def __len__(self):
                return len(self.targets)

            def __getitem__(self, index):
                event = (1000 * (index % 2), index % 5, 1)
                return np.array([event], self.dtype), self.targets[index]

        monkeypatch.setattr(datasets, "Clicks", Clicks, raising=False)
        dataset = load("tonic", tmp_path, num_steps=3, dataset="Clicks", bin_ms=1.0)
        assert dataset.class_names == ("high", "low") and dataset.input_shape == (5,)
        frames, targets = batch(dataset.test)
        assert targets.tolist() == [1, 0, 1, 0]
        assert frames[:, 3].nonzero().tolist() == [[1, 3]]
        with pytest.raises(BsnnThaError, match="did you mean 'Clicks'"):
            load("tonic", tmp_path, dataset="Click", bin_ms=1.0)


class TestDoubts:
    def test_what_stands_out_is_said(self, tmp_path):
        labels = np.array([0] * 60 + [1] * 4)
        x = np.where(labels[:, None] == 0, 100.0, 0.0) * np.ones((64, 3))
        np.savez(tmp_path / "a.npz", x=x, y=labels, classes=["a", "b", "c"])
        notes = " / ".join(inspect(load("arrays", tmp_path, path="a.npz")).notes)
        assert "no sample of c" in notes and "of a, " in notes and "data.options.scale" in notes

    def test_detect_tells_paths_apart(self, tmp_path):
        (tmp_path / "x.npy").touch()
        assert detect(str(tmp_path)).name == "arrays"
        (tmp_path / "t.csv").touch()
        assert detect(str(tmp_path / "t.csv")).name == "event-table"
        assert detect("my_data:load").name == "my_data:load"
        for wrong, said in (
            (tmp_path / "cache", "there is no"),
            (Path(__file__), "must be a folder"),
        ):
            with pytest.raises(BsnnThaError, match=said):
                detect(str(wrong))
