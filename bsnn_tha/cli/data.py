"""``bsnn-tha data``: what is there, whether it can be what it says, and data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bsnn_tha.cli.options import CacheRoot, DataRoot, Sets, settings
from bsnn_tha.errors import InvalidValueError, RunError

if TYPE_CHECKING:
    from bsnn_tha.data.dataset import Dataset
    from bsnn_tha.data.own.detect import Source

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Data sets: what is there, whether it is sound, and your own.",
)

Given = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder of images, an .npz file, a folder of .npy files, a table of event files, "
        "tonic:NAME, module:function, or the name of a known set.",
    ),
]
MADE_UP = "moving-boxes"
"""A known set whose files can be written."""
Steps = Annotated[int | None, typer.Option(help="data.num_steps, T.")]


@app.command("list")
def list_(data_root: DataRoot = None) -> None:
    """List the known data sets: which are here, where, and how to get the others."""
    from bsnn_tha.data.inventory import inventory
    from bsnn_tha.data.root import data_root as root_of

    root = root_of(data_root)
    print(f"data root: {root}")
    for entry in inventory(root):
        where = "" if entry.path is None else str(entry.path)
        print(f"  {entry.name:16} {entry.presence:9} {entry.obtain or where}")
    print("yours: bsnn-tha data make SOURCE -o my.toml")


@app.command()
def check(
    source: Given,
    num_steps: Steps = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw a few samples: .png, .pdf or .svg.")
    ] = None,
    set_: Sets = None,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
) -> None:
    """Read a data set and say what it holds: counts, ranges, and what cannot be meant.

    \b
    bsnn-tha data check mnist
    bsnn-tha data check pets/ --picture pets.png
    bsnn-tha data check recordings.csv --set sensor=[2,128,128] --set time_unit=us
    """
    from bsnn_tha.data.own.detect import detect

    dataset, _, _ = _loaded(detect(source), num_steps, set_, data_root, cache_root)
    _show(dataset)
    if picture is not None:
        _draw(dataset, picture)


@app.command()
def make(
    source: Given,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The configuration, a new .toml file; for moving-boxes the folder. "
            "[default: for moving-boxes MovingBoxes in the data root]",
        ),
    ] = None,
    num_steps: Steps = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw a few samples: .png, .pdf or .svg.")
    ] = None,
    set_: Sets = None,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
) -> None:
    """Read data of your own, check it, and write a configuration that trains on it.

    What --set gives are options of the data set, as in data.options. Of moving-boxes, which is
    made up, this writes the recordings themselves; clips and made_from can be set.

    \b
    bsnn-tha data make moving-boxes
    bsnn-tha data make pets/ -o pets.toml --set size=32
    bsnn-tha data make measurements.npz -o measurements.toml
    bsnn-tha data make recordings.csv -o recordings.toml --set sensor=[2,128,128] --set time_unit=us
    bsnn-tha data make tonic:POKERDVS -o poker.toml --set bin_ms=1.0
    bsnn-tha train --config pets.toml
    """
    from bsnn_tha.data.own.detect import detect
    from bsnn_tha.presets.beginning import beginning
    from bsnn_tha.run_folder import replace_atomically

    if source == MADE_UP:
        _make_up(output, settings({}, set_), data_root)
        return
    if output is None:
        raise InvalidValueError(f"data make {source} needs --output, the configuration; add it")
    if output.exists():
        raise RunError(f"{output} is there already; nothing is overwritten: choose another name")
    found = detect(source)
    dataset, steps, options = _loaded(found, num_steps, set_, data_root, cache_root)
    if dataset.num_classes is None:
        has = "boxes" if dataset.boxes else "a target trace"
        raise InvalidValueError(f"{source} must have classes, but has {has}")
    config = beginning(found.name, options, dataset).with_changes({"data.num_steps": steps})
    network = config.build_network(dataset.input_shape)
    config.build_loss(network)
    _show(dataset)
    if picture is not None:
        _draw(dataset, picture)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(output) as temporary:
            temporary.write_text(config.to_toml(), encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from None
    code = " --allow-code" if config.code_named() else ""
    print(f"written to {output}; now: bsnn-tha train --config {output}{code}")


def _make_up(output: Path | None, options: dict[str, Any], data_root: Path | None) -> None:
    """Write the recordings of moving-boxes."""
    from bsnn_tha.data.moving_boxes import CLIPS, MOVING_BOXES, make_moving_boxes
    from bsnn_tha.data.root import data_root as root_of
    from bsnn_tha.suggest import did_you_mean

    given = {key.removeprefix("data.options."): value for key, value in options.items()}
    for key in given.keys() - {"clips", "made_from"}:
        near = did_you_mean(key, ["clips", "made_from"])
        raise InvalidValueError(f"what is made of {MADE_UP} has no setting {key!r}{near}")
    folder = output or root_of(data_root) / MOVING_BOXES.title
    counts = make_moving_boxes(
        folder, seed=given.get("made_from", 0), clips=given.get("clips", CLIPS)
    )
    boxes = ", ".join(f"{count:,} {part}" for part, count in counts.items())
    print(f"written to {folder}; boxes: {boxes}")


def _loaded(
    source: Source,
    num_steps: int | None,
    set_: list[str] | None,
    data_root: Path | None,
    cache_root: Path | None,
) -> tuple[Dataset, int, dict[str, Any]]:
    from bsnn_tha.data import load_dataset
    from bsnn_tha.data.missing_options import MissingOptionsError
    from bsnn_tha.data.root import cache_root as cache_of
    from bsnn_tha.data.root import data_root as root_of
    from bsnn_tha.presets.beginning import window_of

    given = settings({}, set_)
    prefix = "data.options."
    options = source.options | {k.removeprefix(prefix): v for k, v in given.items()}
    steps, options = window_of(source.name, options)
    try:
        dataset = load_dataset(
            source.name,
            root=root_of(data_root),
            cache=cache_of(cache_root),
            seed=0,
            validation=0.1,
            num_steps=num_steps or steps,
            options=options,
        )
    except MissingOptionsError as error:
        what = options.get("path", source.name)
        keys = " and ".join(error.keys)
        raise InvalidValueError(f"{what} needs {keys}; add {error.to_type()}") from None
    return dataset, num_steps or steps, options


def _show(dataset: Dataset) -> None:
    from bsnn_tha.data.inspect import inspect

    facts = inspect(dataset)
    shape = " × ".join(map(str, dataset.input_shape))
    kind = "still" if dataset.static else "sequences"
    print(dataset.source)
    print(f"a sample is {shape}, {kind}; {dataset.num_classes or 'no'} classes")
    for split in facts.splits:
        print(
            f"  {split.name:10} {split.samples:7,} samples, values {split.low:.3g} to "
            f"{split.high:.3g}, mean {split.mean:.3g}, {split.active:.2%} not zero"
        )
    for number, counts in enumerate(zip(*(s.per_class for s in facts.splits), strict=True)):
        name = dataset.class_names[number] if dataset.class_names else str(number)
        print(f"  class {name:20} " + " / ".join(f"{count:,}" for count in counts))
    for note in facts.notes:
        print(f"! {note}")
    if not facts.notes:
        print("nothing stands out")


def _draw(dataset: Dataset, picture: Path) -> None:
    from animations.samples import samples_figure
    from animations.stills import check_extension, save_figure

    check_extension(picture)
    print(f"samples drawn in {save_figure(samples_figure(dataset), picture)}")
