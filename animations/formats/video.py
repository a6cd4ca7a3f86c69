"""MP4 and WebM: raw frames through a pipe to ffmpeg."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from animations.formats.clip import Clip
from bsnn_tha.errors import FilmError

H264 = ["-c:v", "libx264", "-preset", "medium", "-crf", "20", "-movflags", "+faststart"]
VP9 = ["-c:v", "libvpx-vp9", "-crf", "28", "-b:v", "0", "-deadline", "good", "-cpu-used", "4"]
# Colours as players take them who are told nothing, and said aloud for the others.
COLOURS = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
FILTER = "scale=out_color_matrix=bt709:out_range=tv"
PATIENCE = 3.0
"""Seconds until a program that reads no more is ended, and for its last words."""


def ffmpeg() -> str:
    """The program: imageio-ffmpeg's where that is installed, else the system's.

    Raises:
        FilmError: there is none.
    """
    with contextlib.suppress(ImportError, RuntimeError):  # installed without a program
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    found = shutil.which("ffmpeg")
    if found is None:
        raise FilmError(
            "films as .mp4 and .webm need ffmpeg, which is not installed; "
            'install it with pip install "bsnn-tha[video]", or write .gif or .html'
        )
    return found


def check(clip: Clip) -> None:
    """Raises: FilmError: there is no ffmpeg."""
    ffmpeg()


def write_mp4(clip: Clip, path: Path) -> None:
    """H.264 with colours at half resolution, which every player shows."""
    _write(clip, path, "mp4", H264)


def write_webm(clip: Clip, path: Path) -> None:
    """VP9, for pages."""
    _write(clip, path, "webm", VP9)


def _write(clip: Clip, path: Path, container: str, codec: Sequence[str]) -> None:
    # Both codecs halve the resolution of colours: sides are even.
    width, height = (side + side % 2 for side in clip.size)
    command = [
        *(ffmpeg(), "-y", "-nostdin", "-loglevel", "error"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"),
        *("-framerate", str(Fraction(clip.fps).limit_denominator(1001)), "-i", "pipe:0"),
        *("-vf", FILTER, "-pix_fmt", "yuv420p", *COLOURS),
        *(*codec, "-f", container, f"file:{path}"),
    ]
    with Pipe(command) as pipe:
        for image in clip.all_images():
            extra = (height - image.shape[0], width - image.shape[1])
            if any(extra):
                image = np.pad(image, ((0, extra[0]), (0, extra[1]), (0, 0)), mode="edge")
            pipe.write(np.ascontiguousarray(image))
    if not path.exists():
        raise FilmError(f"{command[0]} wrote no film; try .gif or .html")


class Pipe:
    """A program that reads its input from us; its last words are the error.

    Leaving it waits for the program; leaving it with an error kills it.

    Raises:
        FilmError: the program cannot be started, or fails.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._said = b""
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is ours to pass on
            )
        except OSError as error:
            raise FilmError(
                f"cannot start {command[0]}: {error.strerror}; "
                "install ffmpeg, or write .gif or .html"
            ) from None
        assert self._process.stdin is not None and self._process.stderr is not None
        self._input: IO[bytes] = self._process.stdin
        # A program whose messages nobody reads stops, sooner or later.
        self._reader = threading.Thread(
            target=self._listen, args=(self._process.stderr,), daemon=True
        )
        self._reader.start()

    def __enter__(self) -> Pipe:
        return self

    def write(self, data: np.ndarray) -> None:
        """Pass on contiguous bytes."""
        try:
            self._input.write(data.data)
        except OSError:  # it has gone, or at least it reads no more
            self._finish(broken=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish()
        else:
            self._kill()
            self._close()

    def _finish(self, broken: bool = False) -> None:
        """Wait for the end of the program, which may have stopped reading before it."""
        broken = self._close(broken) or broken
        if self._process.returncode != 0 or broken:
            lines = self._said.decode(errors="replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            why = said[-1] if said else f"exit status {self._process.returncode}, no message"
            raise FilmError(f"ffmpeg could not write the film: {why}; try .gif or .html")

    def _close(self, broken: bool = False) -> bool:
        try:
            self._input.close()
        except OSError:
            broken = True
        try:
            self._process.wait(timeout=PATIENCE if broken else None)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._reader.join(timeout=PATIENCE)
        return broken

    def _kill(self) -> None:
        # With what it may have started itself, which holds our pipes open.
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            while part := stream.read1(1 << 16):  # type: ignore[attr-defined]
                self._said = (self._said + part)[-4096:]
