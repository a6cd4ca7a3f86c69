"""Films are decoded again and compared with what was drawn."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import films
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from animations.formats import FORMATS, Clip, gif, page, video
from animations.formats.palette import COLOURS, TOLERANCE, Palette, palette_of, paletted
from bsnn_tha.errors import FilmError, InvalidValueError

WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (213, 94, 0), (0, 114, 178)


def clip_of(images, fps=20.0):
    images = list(images)
    height, width = images[0].shape[:2]
    return Clip(
        len(images), fps, (width, height), "film", lambda frames: (images[i] for i in frames)
    )


def flat(*colours, size=(4, 6)):
    """One frame per colour."""
    return [np.full((*size, 3), colour, dtype=np.uint8) for colour in colours]


def decoded(path):
    """Frames and their delays in milliseconds."""
    with Image.open(path) as film:
        parts = [
            (np.array(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(film)
        ]
    return [image for image, _ in parts], [delay for _, delay in parts]


def shown_at(path, times):
    """What a GIF shows at times, in milliseconds."""
    images, delays = decoded(path)
    ends = np.cumsum(delays)
    return [images[int(np.searchsorted(ends, time, side="right"))] for time in times]


def raw_frames(path):
    """Delay, box and whether there is an own palette, of a GIF's frames as stored."""
    data = path.read_bytes()
    at, found, delay = 13 + 768, [], None
    while data[at] != 0x3B:
        if data[at] == 0x21:
            if data[at + 1] == 0xF9:
                delay = struct.unpack_from("<H", data, at + 4)[0]
            at += 2
        else:
            box = struct.unpack_from("<HHHH", data, at + 1)
            own = bool(data[at + 9] & 0x80)
            found.append((delay, box, own))
            at += 10 + 768 * own + 1
        while data[at]:
            at += data[at] + 1
        at += 1
    assert at == len(data) - 1
    return found


# GIF ---------------------------------------------------------------------------------


def test_a_gif_shows_what_was_drawn(tmp_path):
    film = films.film(frames=12)
    path = film.save(tmp_path / "film.gif")
    drawn = list(film.images())
    shown = shown_at(path, [50 * frame + 25 for frame in range(12)])
    for one, other in zip(shown, drawn, strict=True):
        difference = np.abs(one.astype(int) - other)
        assert difference.max() <= TOLERANCE
        assert difference.mean() < 0.2
    with Image.open(path) as opened:
        assert opened.size == (320, 240)
        assert opened.info["loop"] == 0
    images, delays = decoded(path)
    assert (len(images), sum(delays)) == (12, 600)


def test_rectangles_and_transparency_compose_exactly(tmp_path):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (40, 3), dtype=np.uint8)
    images = [colours[rng.integers(0, 40, (30, 50))]]
    for _ in range(20):
        image = images[-1].copy()
        top, left = rng.integers(0, 25), rng.integers(0, 45)
        part = image[top : top + 5, left : left + 5]
        scattered = rng.random((5, 5)) < 0.3
        part[scattered] = colours[rng.integers(0, 40, (5, 5))][scattered]
        images.append(image)
    path = tmp_path / "film.gif"
    FORMATS[".gif"].write(clip_of(images), path)
    shown = shown_at(path, [50 * frame + 25 for frame in range(21)])
    assert all(map(np.array_equal, shown, images))
    assert all(width <= 5 and height <= 5 for _, (_, _, width, height), _ in raw_frames(path)[1:])


def test_equal_frames_become_a_longer_delay(tmp_path):
    path = tmp_path / "film.gif"
    gif.write(clip_of(flat(WHITE, WHITE, BLACK, BLACK, BLACK, WHITE), fps=10), path)
    images, delays = decoded(path)
    assert delays == [200, 300, 100]
    assert [tuple(int(c) for c in image[0, 0]) for image in images] == [WHITE, BLACK, WHITE]


@pytest.mark.parametrize("fps", [0.5, 7, 24, 30, 29.97, 50])
def test_the_duration_is_exact(fps, tmp_path):
    path = tmp_path / "film.gif"
    gif.write(clip_of(flat(*[WHITE, BLACK] * 50), fps=fps), path)
    _, delays = decoded(path)
    assert len(delays) == 100
    assert sum(delays) == 10 * round(100 * 100 / fps)
    assert max(delays) - min(delays) <= 10
    ends = np.cumsum(delays)
    assert np.abs(ends - 1000 * np.arange(1, 101) / fps).max() <= 5.01


def test_a_delay_longer_than_the_format_knows(tmp_path):
    path = tmp_path / "film.gif"
    gif.write(clip_of(flat(WHITE, BLACK, BLACK), fps=0.001), path)
    assert sum(delay for delay, _, _ in raw_frames(path)) == 300_000
    images, _ = decoded(path)
    assert (images[0] == 255).all() and (images[-1] == 0).all()


def test_a_colour_that_no_sample_had_is_still_shown(tmp_path):
    images = flat(*[WHITE] * 40, size=(10, 10))
    images[5] = images[5].copy()  # the palette is chosen from frames 0, 4, 7, ...
    images[5][2, 3] = RED
    path = tmp_path / "film.gif"
    gif.write(clip_of(images), path)
    assert tuple(shown_at(path, [275])[0][2, 3]) == RED
    assert [own for _, _, own in raw_frames(path)] == [False, True, False]


def test_gif_is_not_for_fast_films(tmp_path):
    with pytest.raises(InvalidValueError, match="at most 50 frames per second, got 60"):
        films.film().save(tmp_path / "film.gif", fps=60)
    assert not list(tmp_path.iterdir())


def test_two_inputs_are_two_files(tmp_path):
    paths = [films.film(seed=seed).save(tmp_path / f"{seed}.gif") for seed in (0, 1)]
    again = films.film(seed=0).save(tmp_path / "again.gif")
    assert paths[0].read_bytes() == again.read_bytes()
    one, other = (decoded(path)[0] for path in paths)
    assert not any(map(np.array_equal, one, other))


@pytest.mark.parametrize("extension", [".gif", ".html"])
def test_neither_frames_nor_what_they_became_is_kept(extension, tmp_path):
    alive = []

    def images(frames):
        for frame in frames:
            rng = np.random.default_rng(frame)
            image = rng.choice(np.array([WHITE, BLACK, RED], np.uint8), (200, 300))
            alive.append(weakref.ref(image))
            yield image

    def peak(frames):
        tracemalloc.start()
        FORMATS[extension].write(Clip(frames, 20, (300, 200), "film", images), tmp_path / "film")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak(12)
    written = (tmp_path / "film").stat().st_size
    many = peak(60)
    assert (tmp_path / "film").stat().st_size > 4.5 * written > 4.5 * 100_000
    # 48 more frames: 8.6 MB as drawn, over 1 MB as written.
    assert many < few + 300_000
    assert sum(one() is not None for one in alive) == 0


# Palettes ----------------------------------------------------------------------------


@given(st.integers(1, COLOURS), st.integers(0, 2**32 - 1))
def test_few_colours_are_kept_exactly(count, seed):
    rng = np.random.default_rng(seed)
    # One per cell of the lookup table.
    cells = rng.choice(64**3, count, replace=False)
    colours = np.stack([cells >> 12, cells >> 6 & 63, cells & 63], 1).astype(np.uint8) * 4
    colours += rng.integers(0, 4, colours.shape, dtype=np.uint8)
    image = colours[rng.integers(0, count, (8, 9))]
    palette = palette_of([image])
    assert np.array_equal(palette.colours[palette.indices(image)], image)


def test_many_colours_are_near_and_frequent_ones_exact():
    # Soft edges between flat colours, as in a drawing.
    rng = np.random.default_rng(0)
    pure = np.array([WHITE, BLACK, RED, BLUE, (0, 158, 115), (230, 159, 0)])
    one, other = pure[rng.integers(0, 6, (2, 100, 100))]
    share = rng.random((100, 100, 1))
    image = (share * one + (1 - share) * other).round().astype(np.uint8)
    image[:50] = np.array(WHITE, np.uint8)
    palette = palette_of([image])
    shown = palette.colours[palette.indices(image)]
    assert np.array_equal(shown[:50], image[:50])
    difference = np.abs(shown.astype(int) - image)
    assert difference.max() <= TOLERANCE
    assert difference[50:].mean() < 3


def test_an_image_gets_its_own_colours_if_the_palette_is_far():
    palette = Palette(np.array([WHITE, BLACK], dtype=np.uint8))
    near = np.full((2, 2, 3), 255 - TOLERANCE, dtype=np.uint8)
    indices, colours = paletted(near, palette)
    assert colours is palette.colours and (indices == 0).all()
    far = near.copy()
    far[1, 1, 2] -= 1
    indices, colours = paletted(far, palette)
    assert np.array_equal(colours[indices], far)


# Video -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ffmpeg():
    try:
        return video.ffmpeg()
    except FilmError as error:
        pytest.skip(str(error))


def video_frames(ffmpeg, path, size):
    """Decoded frames, and what ffmpeg says about the file."""
    command = [ffmpeg, "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    width, height = size
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3), done.stderr.decode()


@pytest.mark.parametrize("extension, codec", [(".mp4", "h264"), (".webm", "vp9")])
@pytest.mark.parametrize("size, even", [((3.2, 2.4), (320, 240)), ((3.21, 2.41), (322, 242))])
def test_videos_show_what_was_drawn(extension, codec, size, even, ffmpeg, tmp_path):
    film = films.film(frames=30, size=size, fps=25)
    path = film.save(tmp_path / f"film{extension}")
    shown, said = video_frames(ffmpeg, path, even)
    assert len(shown) == 30
    assert codec in said and "yuv420p" in said and "25 fps" in said
    hours, minutes, seconds = re.search(r"Duration: (\d+):(\d+):([\d.]+)", said).groups()
    assert int(hours) == int(minutes) == 0 and float(seconds) == pytest.approx(1.2, abs=0.045)
    width, height = film.size()
    for one, other in zip(shown, film.images(), strict=True):
        difference = np.abs(one[:height, :width].astype(int) - other)
        assert difference.mean() < 3
        assert np.median(difference[..., 0]) <= 1
    assert not np.array_equal(shown[0], shown[1])


def test_colours_survive(ffmpeg, tmp_path):
    for name, write in (("a.mp4", video.write_mp4), ("a.webm", video.write_webm)):
        write(clip_of(flat(BLUE, RED, size=(64, 64)) * 2), tmp_path / name)
        shown, said = video_frames(ffmpeg, tmp_path / name, (64, 64))
        assert np.abs(shown[0].astype(int) - BLUE).max() <= 6
        assert np.abs(shown[1].astype(int) - RED).max() <= 6
        assert "bt709" in said


def test_an_mp4_plays_before_it_is_there_completely(ffmpeg, tmp_path):
    data = films.film(frames=5).save(tmp_path / "film.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a script in ffmpeg's place; films go to another folder."""
    if os.name != "posix":
        pytest.skip("needs shell scripts")

    def place(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "ffmpeg").chmod(0o755)
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        (tmp_path / "films").mkdir()
        return tmp_path / "films" / "film.mp4"

    return place


@pytest.mark.parametrize(
    "script, message",
    [
        ("cat > /dev/null; echo one >&2; echo two >&2; echo >&2; exit 1", "two"),
        ("echo no such codec >&2; exit 3", "no such codec"),
        ("exit 3", "exit status 3, no message"),
        ("kill -9 $$", "exit status -9, no message"),
        ("exit 0", "exit status 0, no message"),  # read nothing, wrote nothing
        ("echo deaf >&2; exec <&-; sleep 60", "deaf"),
        ("sleep 60 & echo orphan >&2; exit 2", "orphan"),
        ("yes flood | head -c 3000000 >&2; cat > /dev/null; echo last >&2; exit 1", "last"),
        ("printf '\\377\\376' >&2; exit 1", "\ufffd\ufffd"),
    ],
    ids=["late", "early", "silent", "killed", "idle", "deaf", "orphan", "flood", "binary"],
)
def test_a_failing_ffmpeg_is_one_line(script, message, program, monkeypatch):
    # Those two would keep it waiting for so long; all others end.
    monkeypatch.setattr(video, "PATIENCE", 3.0 if message in ("deaf", "orphan") else 300.0)
    path = program(script)
    film = films.film(frames=20)
    with pytest.raises(FilmError, match=r"ffmpeg could not write the film: ") as caught:
        film.save(path)
    text = str(caught.value)
    assert message in text and "\n" not in text
    assert not list(path.parent.iterdir())
    assert not any(artist.get_animated() for artist in film.figure.findobj())


def test_an_ffmpeg_that_says_much_and_works(program):
    path = program(
        "yes flood | head -c 3000000 >&2; cat > /dev/null; for last; do :; done; "
        'echo film > "${last#file:}"'
    )
    assert films.film(frames=20).save(path).read_text() == "film\n"
    assert list(path.parent.iterdir()) == [path]


def test_an_ffmpeg_that_writes_nothing(program):
    path = program("cat > /dev/null")
    with pytest.raises(FilmError, match="wrote no film"):
        films.film().save(path)
    assert not list(path.parent.iterdir())


def test_an_ffmpeg_that_cannot_be_started(program):
    path = program("")
    (path.parents[1] / "bin" / "ffmpeg").write_bytes(b"\x7fELF nonsense")
    with pytest.raises(FilmError, match="cannot start .*; install ffmpeg"):
        films.film().save(path)
    assert not list(path.parent.iterdir())


def test_a_bug_in_a_panel_does_not_wait_for_ffmpeg(program):
    path = program("cat > /dev/null; sleep 60")
    film = films.film()
    film.panels[0].update = lambda frame: 1 / 0
    with pytest.raises(ZeroDivisionError):
        film.save(path)
    assert not list(path.parent.iterdir())


def test_no_ffmpeg_at_all(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    film = films.film()
    monkeypatch.setattr(type(film), "images", lambda *_, **__: pytest.fail("a frame was drawn"))
    with pytest.raises(FilmError, match=r"bsnn-tha\[video\].*\.gif or \.html"):
        film.save(tmp_path / "film.webm")
    assert not list(tmp_path.iterdir())


def test_the_systems_ffmpeg_without_the_package(monkeypatch, program):
    program("")
    assert Path(video.ffmpeg()).name == "ffmpeg"


# Pages -------------------------------------------------------------------------------


def test_a_page_has_every_frame(tmp_path):
    film = films.film(frames=7)
    text = film.save(tmp_path / "film.html").read_text()
    found = re.findall(r'^"([A-Za-z0-9+/=]+)",$', text, re.M)
    assert len(found) == 7
    for data, image in zip(found, film.images(), strict=True):
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            shown = np.array(picture.convert("RGB"))
        assert np.abs(shown.astype(int) - image).max() <= TOLERANCE
    assert "://" not in text
    assert "{{" not in text and page.FRAMES not in text
