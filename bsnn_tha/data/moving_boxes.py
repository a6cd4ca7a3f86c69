"""``moving-boxes``: shapes that move before an event camera, in Prophesee's automotive layout.

Made up and seeded, so that detection can be tried without a download. Rectangles (``box``)
and ellipses (``disc``) of the same range of sizes, brighter or darker than the ground, cross a
frame of 80 × 64 pixels in straight lines, before and behind each other and behind fixed bars.
Thin crosses move among them and are nothing to be found. A pixel has an event when the
logarithm of its brightness has moved by a step (Gallego et al. 2020), each pixel some more by
chance, and a few fire all the time. Every 200 ms there are boxes for what can be seen, at
times none.

The boxes are those of whole objects: what reaches out of the frame is for the reader to cut,
as with real files.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from bsnn_tha.data.binning import Invalid
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.gen1 import PARTS, BoxOptions, BoxSet, Width
from bsnn_tha.data.gen1_files import BOXES, EVENT, EVENTS
from bsnn_tha.errors import DataError, InvalidValueError

MOVING_BOXES = BoxSet("moving-boxes", "MovingBoxes", (80, 64), ("box", "disc"))
CLIPS = (400, 100, 100)
"""Of each part."""

VERSION = 1
"""Of what is made: a change makes all earlier sets unknown."""
DURATION_S, LABEL_S, STEP_S = 0.8, 0.2, 0.004
"""Length of a clip, time between labels, time between two pictures."""
CONTRAST_STEP = 0.2
"""Of the logarithm of brightness, for an event."""
NOISE_HZ = 1.0
"""Events of each pixel by chance, per second."""
VISIBLE = 0.3
"""Least share of an object that must be seen for it to have a box."""

_BOX = np.dtype(
    [("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1"),
     ("confidence", "<f4"), ("track_id", "<u4")]
)  # fmt: skip
_CROSS = 2
"""Kind of a shape that is not to be found; 0 and 1 are the classes."""


class Clip(NamedTuple):
    """One recording."""

    events: np.ndarray
    """Records of time in µs and place, as the file has them."""
    boxes: np.ndarray
    """Records as the file has them."""


class _Shape(NamedTuple):
    kind: int
    size: np.ndarray
    """Width and height."""
    start: np.ndarray
    """Centre at time 0."""
    speed: np.ndarray
    """In pixels per second."""
    brightness: float

    def centre(self, time: np.ndarray) -> np.ndarray:
        return self.start + np.multiply.outer(time, self.speed)

    def cover(self, time: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How much of each pixel it covers at each time, ``[times, rows, columns]``."""
        centre = self.centre(time)
        across = np.abs(x - centre[:, 0, None])[:, None, :]
        down = np.abs(y - centre[:, 1, None])[:, :, None]
        half = self.size / 2
        if self.kind == 1:
            reach = np.sqrt((across / half[0]) ** 2 + (down / half[1]) ** 2)
            return np.clip(0.5 + (1 - reach) * half.min(), 0, 1)
        if self.kind == _CROSS:
            return np.maximum(_bar(across, down, half[0], 1.0), _bar(across, down, 1.0, half[1]))
        return _bar(across, down, *half)


def _bar(across: np.ndarray, down: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.clip(0.5 + width - across, 0, 1) * np.clip(0.5 + height - down, 0, 1)


def moving_clip(seed: Sequence[int]) -> Clip:
    """One clip; the same seed gives the same clip.

    Example:
        >>> clip = moving_clip([0, 0, 1])
        >>> bool((np.diff(clip.events["time"].astype(int)) >= 0).all())
        True
    """
    draw = np.random.default_rng(list(seed))
    width, height = MOVING_BOXES.frame
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    times = np.arange(round(DURATION_S / STEP_S) + 1) * STEP_S
    shapes = [_drawn(draw, kind) for kind in _kinds(draw)]
    hidden = np.zeros((height, width), bool)
    for _ in range(draw.integers(0, 3)):  # fixed bars, before everything
        left = draw.integers(0, width - 6)
        hidden[:, left : left + draw.integers(3, 7)] = True

    ground = 0.5 + 0.03 * draw.standard_normal((height, width))
    picture = np.broadcast_to(ground, (len(times), height, width)).copy()
    covers = [shape.cover(times, x, y) for shape in shapes]
    for shape, cover in zip(shapes, covers, strict=True):
        picture += cover * (shape.brightness - picture)
    picture = np.where(hidden, ground, picture)
    events = _events(draw, np.log(picture))

    labels = np.round(np.arange(LABEL_S, DURATION_S + 1e-9, LABEL_S) / STEP_S).astype(int)
    boxes = []
    for index in labels:
        for number, shape in enumerate(shapes):
            if shape.kind == _CROSS:
                continue
            seen = (covers[number][index] > 0.5) & ~hidden
            for cover in covers[number + 1 :]:  # later ones are in front
                seen &= cover[index] <= 0.5
            area = shape.size.prod() * (np.pi / 4 if shape.kind == 1 else 1)
            if seen.sum() < VISIBLE * area:
                continue
            corner = shape.centre(times[index : index + 1])[0] - shape.size / 2
            when = round(times[index] * 1e6)
            boxes.append((when, *corner, *shape.size, shape.kind, 1.0, number))
    return Clip(events, np.array(boxes, _BOX))


def _kinds(draw: np.random.Generator) -> list[int]:
    """What is in a clip, from back to front: no to four objects, no to two crosses."""
    objects = draw.integers(0, 2, draw.choice([0, 1, 1, 2, 2, 3, 3, 4])).tolist()
    kinds = objects + [_CROSS] * int(draw.integers(0, 3))
    return [kinds[index] for index in draw.permutation(len(kinds))]


def _drawn(draw: np.random.Generator, kind: int) -> _Shape:
    frame = np.array(MOVING_BOXES.frame, float)
    size = draw.uniform((10, 8), (26, 22))
    angle, pace = draw.uniform(0, 2 * np.pi), draw.uniform(35, 110)
    speed = pace * np.array([np.cos(angle), np.sin(angle)])
    # Somewhere in the frame at some time of the clip; before and after, perhaps outside.
    start = draw.uniform(0, frame) - speed * draw.uniform(0, DURATION_S)
    brightness = draw.choice([draw.uniform(0.12, 0.3), draw.uniform(0.8, 1.2)])
    return _Shape(kind, size, start, speed, float(brightness))


def _events(draw: np.random.Generator, log: np.ndarray) -> np.ndarray:
    """What a camera gives for a film of logarithmic brightness, ``[times, rows, columns]``."""
    # Each pixel's steps begin somewhere else.
    level = np.floor(log / CONTRAST_STEP + draw.uniform(0, 1, log.shape[1:])).astype(np.int64)
    change = np.diff(level, axis=0)
    step, row, column = np.nonzero(change)
    moved = change[step, row, column]
    times_each = np.abs(moved)
    step, row, column = (values.repeat(times_each) for values in (step, row, column))
    on = (moved > 0).repeat(times_each)
    height, width = log.shape[1:]
    rate = np.full((height, width), NOISE_HZ)
    rate.flat[draw.choice(rate.size, 5, replace=False)] = 60.0  # hot pixels
    noise = draw.poisson(rate * DURATION_S)
    noise_row, noise_column = np.unravel_index(
        np.arange(noise.size).repeat(noise.ravel()), noise.shape
    )
    steps = len(log) - 1
    row, column = np.r_[row, noise_row], np.r_[column, noise_column]
    step = np.r_[step, draw.integers(0, steps, len(noise_row))]
    on = np.r_[on, draw.integers(0, 2, len(noise_row)).astype(bool)]
    times = ((step + draw.uniform(0, 1, len(step))) * STEP_S * 1e6).astype(np.int64)
    events = np.empty(len(times), EVENT)
    events["time"] = times
    events["place"] = on.astype(np.int64) << 28 | row << 14 | column
    return events[np.argsort(times, kind="stable")]


def make_moving_boxes(
    folder: Path, *, seed: int = 0, clips: Sequence[int] = CLIPS
) -> dict[str, int]:
    """Write the set: ``train``, ``val`` and ``test`` with an event file and a box file a clip.

    Args:
        folder: to be made; it must not be there yet. It is there whole or not at all.
        seed: of everything.
        clips: of each part. A clip does not depend on how many there are.

    Returns:
        Boxes of each part.

    Raises:
        InvalidValueError: not three numbers of clips, or one below 1.
        DataError: the folder is there already or cannot be written.
    """
    whole = isinstance(clips, list | tuple) and all(isinstance(count, int) for count in clips)
    if not whole or len(clips) != len(PARTS) or min(clips) < 1:
        raise InvalidValueError(
            f"clips must be three numbers of at least 1, for {', '.join(PARTS)}, but got {clips}"
        )
    if not isinstance(seed, int) or seed < 0:
        raise InvalidValueError(f"made_from must be a whole number of at least 0, but got {seed}")
    if folder.exists():
        raise DataError(f"{folder} is there already; nothing is overwritten: name another folder")
    counts = {}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for number, (part, count) in enumerate(zip(PARTS, clips, strict=True)):
                (temporary / part).mkdir()
                made = (moving_clip([VERSION, seed, number, clip]) for clip in range(count))
                counts[part] = _write(temporary / part, made)
            temporary.chmod(0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from error
    return counts


def _write(folder: Path, clips: Iterable[Clip]) -> int:
    width, height = MOVING_BOXES.frame
    header = (
        f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n"
    ).encode() + bytes([0x0C, 8])
    boxes = 0
    for number, clip in enumerate(clips):
        name = f"clip_{number:04d}"
        (folder / (name + EVENTS)).write_bytes(header + clip.events.tobytes())
        np.save(folder / (name + BOXES), clip.boxes)
        boxes += len(clip.boxes)
    return boxes


def load_moving_boxes(
    root: Path,
    *,
    cache: Path,
    num_steps: int,
    bin_ms: Width = 10.0,
    downsample: Annotated[int, Field(ge=1)] = 1,
    counted: bool = False,
    invalid: Invalid = "refuse",
    clips: list[int] | None = None,
    made_from: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """The made-up set: from ``MovingBoxes`` below the data root, or made once, in the cache.

    Args:
        root: data root.
        cache: folder for the binned windows, and for the set if it is made.
        num_steps: T.
        bin_ms: width of a time bin, in ms.
        downsample: so many neighbouring rows and columns become one; it divides 80 and 64.
        counted: several events of a pixel in one bin add up; otherwise they are one spike.
        invalid: ``"refuse"`` recordings with events outside the sensor, or ``"drop"`` such
            events.
        clips: of each part, if it is made; by default 400, 100 and 100.
        made_from: seed, if it is made.
    """
    options = BoxOptions(num_steps, bin_ms, downsample, counted, invalid)
    folder = root / MOVING_BOXES.title
    default = clips is None and made_from == 0
    if not (default and folder.is_dir()):
        folder = _made(cache, tuple(clips or CLIPS), made_from)
    return MOVING_BOXES.load(folder, cache, options)


def _made(cache: Path, clips: tuple[int, ...], seed: int) -> Path:
    """The folder of the set in the cache; made if it is not there."""
    from filelock import FileLock

    name = f"moving-boxes-{VERSION}-{seed}-{'-'.join(map(str, clips))}"
    folder = cache / name
    if not folder.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            lock = FileLock(cache / f".{name}.lock")
            with lock:
                if not folder.is_dir():  # another process may have made it meanwhile
                    make_moving_boxes(folder, seed=seed, clips=clips)
        except OSError as error:
            raise DataError(
                f"the cache folder {cache} must be writable, but got {error.strerror or error}; "
                "choose another one, for example with the environment variable BSNN_THA_CACHE"
            ) from error
    return folder
