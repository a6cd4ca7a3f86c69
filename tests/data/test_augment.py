"""Augmentation: what moves where, independently per sample, alike over time, seeded."""

from __future__ import annotations

import pytest
import torch
from training_runs import MACHINE, network_weights, train_tiny

from bsnn_tha.data.augment import Augmentation
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.training.run import resume


def shifted(image, down, right):
    """One image moved with zeros moving in, written with slices alone."""
    moved = torch.zeros_like(image)
    height, width = image.shape[-2:]
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                moved[..., y, x] = image[..., y - down, x - right]
    return moved


def test_shifts_are_translations_of_all_kinds():
    torch.manual_seed(0)
    image = torch.rand(2, 5, 6)
    batch = Augmentation(shift=2)(image.expand(300, -1, -1, -1), static=True)
    places = {(y, x): shifted(image, y, x) for y in range(-2, 3) for x in range(-2, 3)}
    seen = {next(k for k, v in places.items() if torch.equal(v, sample)) for sample in batch}
    assert seen == set(places)


def test_rows_are_drawn_before_columns():
    """A seed gives the copies that it always gave."""
    torch.manual_seed(0)
    batch = torch.rand(20, 3, 5, 7)
    torch.manual_seed(1)
    moved = Augmentation(shift=2)(batch, static=True)
    torch.manual_seed(1)
    down, right = (torch.randint(-2, 3, (20,)).tolist() for _ in range(2))
    expected = [shifted(*given) for given in zip(batch, down, right, strict=True)]
    assert torch.equal(moved, torch.stack(expected))


def test_time_steps_of_a_sample_move_alike():
    torch.manual_seed(0)
    window = torch.rand(1, 8, 1, 4, 4).expand(3, -1, -1, -1, -1)
    moved = Augmentation(shift=1, flip=True, cutout=2)(window, static=False)
    assert torch.equal(moved[0], moved[1]) and torch.equal(moved[0], moved[2])
    assert not torch.equal(moved, window)


def test_channels_without_an_image_move_along_their_axis():
    torch.manual_seed(0)
    window = torch.eye(6)[None, 2:4].expand(4, -1, -1)  # [time, batch, channels]
    moved = Augmentation(shift=1)(window, static=False)
    assert moved.shape == window.shape
    assert all(abs(moved[0, i].argmax() - window[0, i].argmax()) <= 1 for i in range(2))


def test_half_of_the_images_are_mirrored():
    torch.manual_seed(0)
    batch = torch.rand(400, 1, 3, 3)
    flipped = Augmentation(flip=True)(batch, static=True)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, batch, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, batch, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True))
    assert 150 < sum(mirrored) < 250


def test_a_square_is_cut_out():
    torch.manual_seed(0)
    cut = Augmentation(cutout=3)(torch.ones(200, 2, 8, 8), static=True)
    missing = (cut == 0).sum((2, 3))
    assert torch.equal(missing[:, 0], missing[:, 1])  # of all channels
    # Whole in the middle, cut off at borders: 2 × 2 in a corner is the least.
    assert set(missing.flatten().tolist()) <= {4, 6, 9} and (missing == 9).any()


def test_events_are_dropped_and_windows_moved_in_time():
    torch.manual_seed(0)
    window = torch.ones(10, 50, 4)
    dropped = Augmentation(drop=0.25)(window, static=False)
    assert dropped.mean().item() == pytest.approx(0.75, abs=0.03)
    late = Augmentation(jitter=2)(torch.arange(1.0, 11).view(10, 1, 1).expand(10, 50, 1), False)
    starts = set(late[0, :, 0].tolist())
    assert starts == {0.0, 1.0, 2.0, 3.0}
    assert torch.equal(late[2:8].diff(dim=0)[1:4], torch.ones(3, 50, 1))


def test_the_generators_seed_decides():
    batch = torch.rand(5, 1, 6, 6)
    augment = Augmentation(shift=2, flip=True, cutout=2)
    one, two, other = [(torch.manual_seed(s), augment(batch, True))[1] for s in (1, 1, 2)]
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(Augmentation()(batch, True), batch)


@pytest.mark.parametrize(
    ("settings", "shape", "static", "message"),
    [
        ({"flip": True}, (700,), False, "flip is for images"),
        ({"cutout": 2}, (700,), False, "cutout is for images"),
        ({"jitter": 2}, (1, 8, 8), True, "jitter is for events"),
        ({"drop": 0.1}, (1, 8, 8), True, "drop is for events"),
        ({"mixup": 0.2}, (1, 8, 8), False, "mixup is for still images.* 0.2; leave it out"),
        ({"shift": 9}, (1, 8, 12), True, "shift must be at most 8 for samples of"),
        ({"cutout": 9}, (1, 12, 8), True, "cutout must be at most 8 for samples of"),
        ({"shift": 701}, (700,), False, "shift must be at most 700 for samples of"),
    ],
)
def test_what_cannot_be_done_is_refused(settings, shape, static, message):
    with pytest.raises(InvalidValueError, match=message):
        Augmentation(**settings).check(shape, static)


@pytest.mark.parametrize(
    "settings",
    [{"shift": -1}, {"cutout": -2}, {"drop": 1.0}, {"mixup": -0.1}, {"mixup": float("inf")}],
)
def test_values_outside_their_range_are_refused(settings):
    with pytest.raises(InvalidValueError, match=f"augment.{next(iter(settings))} must be"):
        Augmentation(**settings)


@pytest.mark.parametrize("change", [{"augment__shift": 2}, {"augment__mixup": 1.0}])
def test_training_sees_changed_samples_and_measurements_do_not(tmp_path, change):
    # Nothing is learned and nothing is normalised, so that only the samples can differ.
    settings = {"network__notation": "12-10", "optimizer__lr": 1e-30, "training__epochs": 1}
    moved = train_tiny(tmp_path / "moved", **settings, **change)
    still = train_tiny(tmp_path / "still", **settings)
    assert moved.summary["train"] != still.summary["train"]
    assert moved.summary["test"] == still.summary["test"]
    assert moved.summary["validation"] == still.summary["validation"]


@pytest.mark.parametrize("change", [{"flip": True, "cutout": 2}, {"mixup": 0.5}])
def test_a_resumed_run_sees_the_same_copies(tmp_path, change):
    settings = {"augment__shift": 1} | {f"augment__{name}": its for name, its in change.items()}
    whole = train_tiny(tmp_path / "whole", **settings, training__epochs=2)
    train_tiny(tmp_path / "half", **settings, training__epochs=1)
    resumed = resume(tmp_path / "half", epochs=2, machine=MACHINE, verbose=False)
    one, two = (network_weights(r.folder.path / "last.ckpt") for r in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
