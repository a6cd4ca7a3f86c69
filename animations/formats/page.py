"""HTML: one file with all frames and a player, for a browser without a network.

Frames are complete paletted PNGs, so that any of them can be shown at once; they
are written to the file as they are drawn.
"""

from __future__ import annotations

import base64
import html
import io
import json
from importlib import resources
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image

from animations.formats.clip import Clip
from animations.formats.palette import Palette, palette_of, paletted

SAMPLES = 12
"""Frames that choose the palette."""
FRAMES = "/*FRAMES*/"
"""Where the player's script takes the frames, as strings of base64."""


def check(clip: Clip) -> None:
    """Any clip can be a page."""


def write(clip: Clip, path: Path) -> None:
    """Write a clip as one self-contained page."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        write_page(clip, file)


def write_page(clip: Clip, file: TextIO) -> None:
    """The same, to an open file."""
    before, after = _player(clip).split(FRAMES)
    file.write(before)
    palette = palette_of(clip.sample(SAMPLES))
    for image in clip.all_images():
        data = base64.b64encode(png(image, palette)).decode()
        file.write(f'"{data}",\n')
    file.write(after)


def embedded(clip: Clip) -> str:
    """The page within another one, for notebooks; it keeps to itself."""
    page = io.StringIO()
    write_page(clip, page)
    width, height = clip.size
    return (
        f'<iframe title="{html.escape(clip.title)}" srcdoc="{html.escape(page.getvalue())}" '
        f'style="border: 0; width: 100%; max-width: {width}px; '
        # The controls below the picture have at most two rows.
        f'height: calc(min(100vw, {width}px) * {height / width:.4f} + 7rem)"></iframe>'
    )


def png(image: np.ndarray, palette: Palette) -> bytes:
    """An image as a paletted PNG; with a palette of its own if this one is too far.

    Args:
        image: ``[height, width, 3]`` uint8.
        palette: to choose from.
    """
    indices, colours = paletted(image, palette)
    picture = Image.fromarray(indices)
    picture.putpalette(colours.tobytes())
    file = io.BytesIO()
    picture.save(file, format="png", compress_level=9)
    return file.getvalue()


def _player(clip: Clip) -> str:
    text = resources.files(__package__).joinpath("player.html").read_text(encoding="utf-8")
    width, height = clip.size
    values = {
        "{{title}}": html.escape(clip.title),
        "{{width}}": str(width),
        "{{height}}": str(height),
        "{{last}}": str(clip.frames - 1),
        "{{frames}}": str(clip.frames),
        "{{fps}}": json.dumps(clip.fps),
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text
