"""``bsnn-tha animate`` and ``bsnn-tha figure``: films and figures of runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bsnn_tha.cli.options import Device, Threads, machine, one_line_at_ctrl_c
from bsnn_tha.words import counted

FILM_FOLDER = Path("runs/temporal-coding-film")
"""Where ``animate temporal-coding`` keeps what it trains."""


class Pace(StrEnum):
    """How frames are spread over the iterations."""

    EVEN = "even"
    EARLY = "early"


class Theme(StrEnum):
    """Colours."""

    LIGHT = "light"
    DARK = "dark"


Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The extension chooses: .gif, .html, .mp4 or .webm."),
]
Frames = Annotated[int, typer.Option(help="Of the film, at most.")]
Paces = Annotated[Pace, typer.Option(help="Frames spread evenly, or dense at first.")]
Fps = Annotated[float | None, typer.Option(help="Frames per second.")]
Dpi = Annotated[int, typer.Option(help="Pixels per inch; 100 gives 960 × 540.")]
Themes = Annotated[Theme, typer.Option(help="Colours.")]

app = typer.Typer(no_args_is_help=True, help="Films of membrane potentials: GIF, HTML, MP4, WebM.")


@app.command("temporal-coding")
def temporal_coding(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders with training.record_output; trained if left out."),
    ] = None,
    variants: Annotated[
        str, typer.Option(help="What is trained if no run is given; see bsnn-tha presets.")
    ] = "flt32,bsnn-unit,bsnn,solved",
    output: Output = None,
    frames: Frames = 100,
    pace: Paces = Pace.EVEN,
    fps: Fps = None,
    dpi: Dpi = 100,
    average_steps: Annotated[
        int, typer.Option(help="Draw u averaged over so many time steps.")
    ] = 1,
    average_iterations: Annotated[
        int, typer.Option(help="Draw u averaged over so many iterations.")
    ] = 1,
    theme: Themes = Theme.LIGHT,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Output neurons learning to fire on time, side by side (THA, Section 4.1).

    Without RUNS four networks are trained first, or gone on with, in
    runs/temporal-coding-film: full precision, binary with thresholds of 1 and of
    50, and annealed. One run alone is shown with its spikes over all iterations.

    \b
    bsnn-tha animate temporal-coding                      a minute, then temporal-coding.gif
    bsnn-tha animate temporal-coding -o film.html --theme dark
    bsnn-tha animate temporal-coding --variants tha,solved
    bsnn-tha animate temporal-coding runs/temporal-coding-tha-1 -o tha.mp4
    """
    from animations.figures import output_recordings
    from animations.place import free_place
    from animations.smoothing import check_window
    from animations.temporal_coding import temporal_coding_film

    path = output or free_place(Path("temporal-coding.gif"))
    _check_film(path, frames, fps, dpi)
    check_window("time steps", average_steps)
    check_window("iterations", average_iterations)
    with one_line_at_ctrl_c():
        folders = runs or _trained(variants.split(","), path, device, threads)
        film = temporal_coding_film(
            output_recordings(folders),
            frames,
            pace,
            average_steps,
            average_iterations,
            theme,
        )
        _write(film, path, fps, dpi)


@app.command()
def run(
    run: Annotated[Path, typer.Argument(help="Run folder, finished or still training.")],
    view: Annotated[
        str,
        typer.Option(
            help="training: membranes, thresholds, rates over iterations; response: input and "
            "membranes over time steps; surrogate: the gradient and the membranes it meets; "
            "detection: true and found boxes over iterations; or your own as module:function."
        ),
    ] = "training",
    layer: Annotated[
        list[int] | None, typer.Option(help="From 1; repeatable. Default: up to three.")
    ] = None,
    neuron: Annotated[
        list[int] | None,
        typer.Option(help="Flat index in the layer; repeatable. Default: those that fire most."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(help="Of the recorded samples, from 0.", show_default="0"),
    ] = None,
    iteration: Annotated[
        int | None, typer.Option(help="Which the response is of. Default: the last recorded.")
    ] = None,
    output: Output = None,
    frames: Frames = 100,
    pace: Annotated[
        Pace | None,
        typer.Option(help="Frames spread evenly, or dense at first.", show_default="even"),
    ] = None,
    fps: Fps = None,
    dpi: Dpi = 100,
    theme: Themes = Theme.LIGHT,
) -> None:
    """What a network does while it trains, from the snapshots in its run folder.

    \b
    bsnn-tha animate run runs/digits-tha-1
    bsnn-tha animate run runs/spoken-digits-tha-1 --view response --sample 2 -o word.html
    bsnn-tha animate run runs/mnist-tha-1 --view surrogate --layer 2 --theme dark
    bsnn-tha animate run runs/moving-boxes-lt-snn-1 --view detection
    """
    from animations.views import check_view, draw
    from bsnn_tha.observe.recording import Recording

    settings = {"pace": pace, "neurons": neuron, "sample": sample, "iteration": iteration}
    written = {"neurons": "--neuron"}
    check_view(
        view,
        {
            name: written.get(name, f"--{name}")
            for name, value in settings.items()
            if value is not None
        },
    )
    path = output or run / f"{view.rpartition(':')[2]}.gif"
    _check_film(path, frames, fps, dpi)
    with one_line_at_ctrl_c():
        recording = Recording.open(run)
        film = draw(view, recording, frames=frames, layers=layer, style=theme, **settings)
        _write(film, path, fps, dpi)


def figure(
    name: Annotated[str, typer.Argument(help="One of those above.")],
    runs: Annotated[list[Path], typer.Argument(help="Run folders, drawn together.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=".png, .pdf or .svg. Default: NAME.png."),
    ] = None,
) -> None:
    """Draw a figure of the papers from runs of your own.

    \b
    temporal-coding    membrane, target and spikes (THA, Fig. 4)
    activity           spikes per neuron over the test set (THA, Fig. 5)
    activity-at-start  the same for the first training batch (THA, Fig. 7)
    loss               loss with the output threshold over it (THA, Fig. 6)
    surrogate          membranes under the surrogate gradient (THA, Fig. 3)
    dead, rates        dead neurons, firing rates by epoch (Rouser, Fig. 4, 5)
    membranes          traces, thresholds and rates of one run
    response           an input and what it causes in one run

    \b
    bsnn-tha figure activity runs/shd-tha-1 runs/shd-bsnn-1 -o activity.pdf
    """
    from animations.figures import draw_figure
    from animations.place import free_place
    from animations.stills import check_extension, save_figure

    path = output or free_place(Path(f"{name}.png"))
    check_extension(path)
    with one_line_at_ctrl_c():
        print(f"written to {save_figure(draw_figure(name, runs), path)}")


def _check_film(path: Path, frames: int, fps: float | None, dpi: int) -> None:
    """Refuse at once what would be refused after a minute of training or drawing."""
    from matplotlib.figure import Figure

    from animations.clock import iterations_of
    from animations.film import Film
    from animations.formats import Clip, format_of
    from bsnn_tha.errors import InvalidValueError

    chosen = format_of(path)
    iterations_of(1, frames)
    if not 10 <= dpi <= 1000:
        raise InvalidValueError(f"dpi must be from 10 to 1000, but got {dpi}")
    film = Film(Figure(), [], 1, 20 if fps is None else fps)
    chosen.check(Clip(1, film.fps, (1, 1), film.title, lambda frames: iter(())))


def _trained(variants: list[str], film: Path, device: str, threads: int | None) -> list[Path]:
    """Run folders of temporal coding, one per variant: finished ones, or trained here.

    Args:
        variants: of the preset.
        film: that is to show them; refused before training where it cannot be written.
        device, threads: to train on.
    """
    from animations.place import check_place
    from bsnn_tha.config import RunConfig
    from bsnn_tha.errors import RunError
    from bsnn_tha.presets import load_preset
    from bsnn_tha.run_folder import RunFolder
    from bsnn_tha.training.run import resume, train

    here = machine(None, None, device, threads)
    names = [name.strip() for name in variants]
    configs = {name: load_preset("temporal-coding", name) for name in names}
    check_place(film)
    folders = []
    for name, config in configs.items():
        folder = RunFolder(FILM_FOLDER / name)
        if folder.config.exists() and RunConfig.from_file(folder.config) != config:
            raise RunError(
                f"{folder.path} was trained with other settings than the preset has now; "
                "remove it to train anew, or name it as one of RUNS"
            )
        # Of an epoch that was not finished nothing is left but its folder.
        if folder.config.exists():
            resume(folder.path, machine=here)
        else:
            train(config, output=folder.path, machine=here)
        folders.append(folder.path)
    return folders


def _write(film: Any, path: Path, fps: float | None, dpi: int) -> None:
    written = film.save(path, fps=fps, dpi=dpi, watch=_with_bar if sys.stderr.isatty() else None)
    width, height = film.size(dpi)
    print(
        f"written to {written}: {counted(film.frames, 'frame')}, {width} × {height}, "
        f"{written.stat().st_size / 1e6:.1f} MB"
    )


def _with_bar(images: Iterator[Any], total: int) -> Iterator[Any]:
    """The same images, with a bar on standard error while they are drawn."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("drawing"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        yield from bar.track(images, total=total)
