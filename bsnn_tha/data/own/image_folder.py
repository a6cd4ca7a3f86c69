"""A folder of images, one folder a class: ``pets/cat/1.png``.

Or with a test part of its own: ``pets/train/cat/1.png`` and ``pets/test/cat/9.png``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.data.folders import is_system_file
from bsnn_tha.data.holding_out import check_validation
from bsnn_tha.data.images import assemble
from bsnn_tha.data.own.array_cache import cached_array
from bsnn_tha.data.own.parts import TEST_SHARE, TestShare, drawn_for_test, located
from bsnn_tha.data.recordings import stamp
from bsnn_tha.errors import DataError

logger = logging.getLogger(__name__)

Colour = Literal["grey", "rgb"]
_MODES: dict[Colour, str] = {"grey": "L", "rgb": "RGB"}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
PARTS = ("train", "test")


def load_image_folder(
    root: Path,
    *,
    cache: Path,
    validation: float,
    seed: int,
    path: str,
    size: Annotated[int, Field(ge=1, le=1024)] | None = None,
    colour: Colour = "rgb",
    test_share: TestShare = TEST_SHARE,
) -> Dataset:
    """Images by class, as bytes in memory and [0, 1] in batches.

    Args:
        root: data root, where ``path`` is looked for as well.
        cache: folder for the decoded images.
        validation: share of the training images to hold out, in [0, 1).
        seed: of the draw of the validation part.
        path: of the folder.
        size: rows and columns; images of other shapes are cut to a centred square first.
            Needed if the images differ in size.
        colour: ``"grey"`` (1 channel) or ``"rgb"`` (3).
        test_share: of each class, where there is no folder ``test``.

    Returns:
        Images ``[samples, channels, height, width]`` in [0, 1]; classes are the folders in
        alphabetical order.

    Raises:
        DataError: no images, one that cannot be read, of another size, or of a class that
            training lacks; the message names the file.
    """
    check_validation(validation)
    folder = located(path, root)
    parts = [folder / name for name in PARTS]
    whole = not all(part.is_dir() for part in parts)
    files = [_files(part) for part in ([folder] if whole else parts)]
    names = sorted({file.parent.name for file in files[0]})
    splits = []
    for number, found in enumerate(files):
        labels = torch.tensor([_label(file, names) for file in found])
        key = {
            "files": [[str(f.relative_to(folder)), *stamp(f)] for f in found],
            "size": size,
            "colour": colour,
        }
        name = folder.name if whole else f"{folder.name}-{PARTS[number]}"
        pixels = cached_array(cache, name, key, partial(_decode, found, size, colour))
        splits.append(TensorSplit(torch.from_numpy(pixels), labels, scale=1 / 255))
    if whole:
        kept, held = drawn_for_test(splits[0].targets, test_share, str(folder))
        train, test = splits[0].select(kept), splits[0].select(held)
    else:
        train, test = splits
        if train.inputs.shape[1:] != test.inputs.shape[1:]:
            raise DataError(
                f"training and test images of {folder} must have one size, but have "
                f"{list(train.inputs.shape[2:])} and {list(test.inputs.shape[2:])}; set "
                "data.options.size"
            )
    title = f"images in {folder}"
    dataset = assemble(folder.name, title, train, test, len(names), validation, seed)
    return dataset.with_class_names(names)


def is_image_folder(folder: Path) -> bool:
    """Whether a folder has images in folders of classes."""
    below = [path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES]
    return bool(below) or any(
        path.suffix.lower() in SUFFIXES for path in folder.glob(f"{PARTS[0]}/*/*")
    )


def first_images(folder: Path, most: int = 200) -> tuple[set[tuple[int, int]], set[str]]:
    """Sizes and kinds of pixels (``"L"``, ``"RGB"``, ...) of the first images, not decoded."""
    from PIL import Image

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    sizes, kinds = set(), set()
    for file in files[:most]:
        try:
            with Image.open(file) as image:
                sizes.add(image.size)
                kinds.add(image.mode)
        except OSError:
            continue  # whoever loads them names it
    return sizes, kinds


def _files(folder: Path) -> list[Path]:
    inside = [
        path
        for group in sorted(folder.iterdir())
        if group.is_dir() and not is_system_file(group)
        for path in sorted(group.iterdir())
        if path.is_file() and not is_system_file(path)
    ]
    files = [path for path in inside if path.suffix.lower() in SUFFIXES]
    if not files:
        raise DataError(
            f"{folder} must hold a folder of images for each class, but there is no image in its "
            f"folders ({', '.join(SUFFIXES)})"
        )
    if others := [path for path in inside if path not in set(files)]:
        more = f" and {len(others) - 1:,} others" if len(others) > 1 else ""
        logger.warning("left out what is no image: %s%s", others[0], more)
    return files


def _label(file: Path, names: Sequence[str]) -> int:
    if file.parent.name not in names:
        raise DataError(
            f"{file} is of a class that the training images lack: {file.parent.name!r}; known are "
            f"{', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        )
    return names.index(file.parent.name)


def _decode(files: Sequence[Path], size: int | None, colour: Colour) -> np.ndarray:
    """``[images, channels, height, width]``, uint8."""
    images: list[np.ndarray] = []
    for file in files:
        pixels = _read(file, size, colour)
        if images and pixels.shape != images[0].shape:
            first, other = (f"{a.shape[-1]} × {a.shape[-2]}" for a in (images[0], pixels))
            raise DataError(
                f"images must have one size, but {files[0]} has {first} pixels and {file} "
                f"{other}; set data.options.size, e.g. 32"
            )
        images.append(pixels)
    return np.stack(images)


def _read(file: Path, size: int | None, colour: Colour) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            plain: Any = image.convert(_MODES[colour])
            if size is not None:
                plain = ImageOps.fit(plain, (size, size))
            pixels = np.asarray(plain)
    except Exception as error:  # Pillow raises many kinds for a damaged file
        reason = " ".join(str(error).split())
        raise DataError(
            f"{file} is not a readable image ({reason}); replace or delete it"
        ) from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
