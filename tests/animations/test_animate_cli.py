"""``bsnn-tha animate``: films of runs, and what cannot be one."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from event_files import bin_bytes, hdf5_bytes, write
from film_runs import arrays_of, assert_refused, command, everything_in, temporal, trained
from PIL import Image
from places import ROOT
from training_runs import MACHINE, train_tiny

import bsnn_tha.cli.animate
import bsnn_tha.training.run
from animations.runs import window_film
from animations.style import BLUE, VERMILION
from bsnn_tha.observe.recording import Recording
from bsnn_tha.presets import load_preset
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

SMALL = ["--dpi", "40"]
SIZE = 384, 216
VIEWS = ["training", "response", "surrogate"]


@pytest.fixture
def runs(tmp_path_factory):
    return trained(tmp_path_factory)


@pytest.fixture
def animate(tmp_path, monkeypatch, capfd):
    """The command, in an empty folder."""

    def run(*arguments):
        return command(["animate", *arguments], tmp_path, monkeypatch, capfd)

    return run


@pytest.fixture
def film(animate, tmp_path, monkeypatch):
    """The film that a command would write: most of the time goes into writing."""

    def made(*arguments):
        films = []
        with monkeypatch.context() as patch:
            patch.setattr(bsnn_tha.cli.animate, "_write", lambda film, *_: films.append(film))
            assert animate(*arguments, "-o", "film.gif") == (0, "", "")
        assert not list(tmp_path.iterdir())
        return films.pop()

    return made


def images_of(film, *frames):
    """Some frames, the last if none are named, small."""
    return list(film.images(frames or [film.frames - 1], dpi=30))


def gif_frames(path):
    with Image.open(path) as image:
        assert image.size == SIZE
        frames = []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.array(image.convert("RGB")))
    return frames


# Films of any run

FRAMES = {  # snapshots of the run, but time steps where the response is shown
    "annealed": (4, 5),
    "fixed": (3, 5),
    "deep": (2, 5),
    "bsnn": (3, 100),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", FRAMES)
def test_every_run_has_every_film(name, view, runs, film):
    snapshots, steps = FRAMES[name]
    assert len(Recording.open(runs[name])) == snapshots
    made = film("run", runs[name], "--view", view, "--frames", "7")
    assert made.frames == (min(steps, 7) if view == "response" else snapshots)
    first, last = images_of(made, 0, made.frames - 1)
    assert not np.array_equal(first, last)
    assert min(first.std(), last.std()) > 5


@pytest.mark.parametrize("view", ["response", "surrogate"])
def test_a_film_is_written(view, runs, animate, tmp_path):
    options = ["--view", view, "--frames", "3", "-o", "film.gif", *SMALL]
    status, output, errors = animate("run", runs["annealed"], *options)
    assert (status, errors) == (0, "")
    assert re.fullmatch(r"written to film\.gif: 3 frames, 384 × 216, \d+\.\d MB\n", output)
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]
    assert len(gif_frames(tmp_path / "film.gif")) == 3


@pytest.mark.parametrize("extension", [".html", ".mp4", ".webm"])
def test_other_formats(extension, runs, animate, tmp_path):
    if extension != ".html" and not has_ffmpeg():
        pytest.skip("no ffmpeg; install bsnn-tha[video]")
    target = tmp_path / "new" / f"film{extension.upper()}"
    options = ["--view", "surrogate", "--frames", "2", "-o", target, *SMALL]
    status, output, errors = animate("run", runs["annealed"], *options)
    assert (status, errors) == (0, "")
    assert f"written to {target}: 2 frames" in output
    start = {".html": b"<!doctype html>", ".mp4": b"ftyp", ".webm": b"webm"}[extension]
    assert start in target.read_bytes()[:40].lower()
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def has_ffmpeg():
    from animations.formats import video
    from bsnn_tha.errors import FilmError

    try:
        video.ffmpeg()
    except FilmError:
        return False
    return True


def test_as_a_process_into_the_run_folder(runs, tmp_path):
    run = shutil.copytree(runs["annealed"], tmp_path / "run")
    result = subprocess.run(
        [sys.executable, "-m", "bsnn_tha", "animate", "run", "run", *SMALL],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"written to {Path('run', 'training.gif')}: 4 frames")
    assert len(gif_frames(run / "training.gif")) == 4


def test_options_choose_what_is_shown(runs, film):
    run = runs["annealed"]
    neuron = Recording.open(run).probe.layers[0].neurons[5]
    films = [
        film("run", run),
        film("run", run, "--layer", "1", "--neuron", neuron),
        film("run", run, "--sample", "2"),
        film("run", run, "--theme", "dark"),
        film("run", run, "--view", "response"),
        film("run", run, "--view", "response", "--iteration", "1"),
        film("run", run, "--view", "surrogate", "--layer", "2"),
    ]
    last = [images_of(film)[0] for film in films]
    for i, one in enumerate(last):
        assert not any(np.array_equal(one, other) for other in last[:i])
    two = film("run", run, "--frames", "2")
    assert two.frames == 2
    shown = [two.still(frame).get_suptitle() for frame in (0, 1)]
    assert shown == ["training iteration 1 of 6", "training iteration 6 of 6"]


def test_frames_per_second(runs, animate, tmp_path):
    options = ["--view", "surrogate", "--frames", "2", "--fps", "4", "-o", "film.gif", *SMALL]
    status, *_ = animate("run", runs["annealed"], *options)
    assert status == 0
    with Image.open(tmp_path / "film.gif") as image:
        assert image.info["duration"] == 250


def test_a_film_that_is_there_is_replaced(runs, animate, tmp_path):
    (tmp_path / "film.gif").write_text("old")
    status, *_ = animate("run", runs["annealed"], "-o", "film.gif", "--frames", "1", *SMALL)
    assert status == 0
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF89a")


def test_a_run_that_is_still_training(runs, film, animate, tmp_path, tmp_path_factory):
    run = shutil.copytree(runs["annealed"], tmp_path_factory.mktemp("training") / "run")
    for name in ("summary.json", "activity.npz", "metrics.csv", "best.ckpt", "last.ckpt"):
        (run / name).unlink()
    snapshots = sorted((run / "snapshots").glob("iteration-*"))
    for path in snapshots[2:]:
        path.unlink()
    (run / "snapshots" / f".{snapshots[2].name}.123.tmp").write_bytes(b"half")
    for view, frames in (("training", 2), ("response", 5), ("surrogate", 2)):
        made = film("run", run, "--view", view)
        assert made.frames == frames
        images_of(made)
    for path in snapshots[:2]:
        path.unlink()
    before = everything_in(tmp_path)
    result = animate("run", run)
    assert_refused(result, "has no snapshot yet; wait for the first", tmp_path, before)


# Events


def bars(part, samples):
    """A bar that moves to the right, on at its front and off behind it, as N-MNIST has them."""
    for sample in range(samples):
        label, events = sample % 10, []
        for step in range(10):
            for y in range(34):
                # At most two steps of three milliseconds are between them.
                events.append((step + 2, y, 1, 3000 * step + 10 * y))
                events.append((step, y, 0, 3000 * step + 10 * y + 1000))
        folder = Path("data") / "SaccadeDigits" / part / str(label)
        write(folder / f"{sample:05d}.bin", bin_bytes(sorted(events, key=lambda event: event[3])))


def test_a_film_of_event_frames(tmp_path, monkeypatch, film):
    home = tmp_path.parent / f"{tmp_path.name}-data"
    home.mkdir()
    monkeypatch.chdir(home)
    bars("Train", 20)
    bars("Test", 10)
    config = load_preset("saccade-digits", "tha").with_changes(
        {
            "network.notation": "2C5-AP4-10",
            "data.num_steps": 12,
            "data.validation": 0.0,
            "threshold.theta_0": 1.0,
            "threshold.theta_inf": 2.0,
            "threshold.alpha": 0.1,
            "training.epochs": 1,
            "snapshots.count": 2,
        }
    )
    machine = Machine(home / "data", home / "cache", "cpu", 1)
    run = train(config, output=home / "run", machine=machine, verbose=False).folder.path
    assert film("run", run, "--view", "response").frames == 12
    # Blue in front of red, moving to the right.
    recording = Recording.open(run)
    assert recording.probe.step_ms == 3.0
    panel = window_film(recording).panels[0]
    for step in (0, 4, 9):
        picture, title = panel.update(step)
        seen = np.asarray(picture.get_array())
        on, off = (near(seen, colour) for colour in (BLUE, VERMILION))
        assert title.get_text() == f"input, step {step}, {3 * step} ms"
        front, behind = np.nonzero(on.all(0))[0], np.nonzero(off.all(0))[0]
        assert front.max() == step + 2
        assert behind.max() <= step
        assert behind.min() == max(0, step - 4)  # what five steps add up to
    images_of(film("run", run))


def near(picture, colour):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    # Faint where there are few: more like this colour than like the ground.
    tint = (1 - picture) / np.maximum((1 - picture).max(-1, keepdims=True), 1e-9)
    own = (1 - wanted) / (1 - wanted).max()
    return (np.abs(tint - own) < 0.05).all(-1) & ((1 - picture).max(-1) > 0.05)


def test_a_film_of_a_spectrogram(tmp_path, film):
    home = tmp_path.parent / f"{tmp_path.name}-data"
    times = [np.arange(12) * 0.003 + 0.001] * 10
    units = [np.arange(12) * 20] * 10  # rising
    for part in ("train", "test"):
        content = hdf5_bytes(times, units, list(range(10)))
        write(home / "SpokenDigits" / f"shd_{part}.h5", content)
    config = load_preset("spoken-digits", "tha").with_changes(
        {
            "network.notation": "700Dense6Dense20",
            "network.dropout": 0.0,
            "data.num_steps": 15,
            "data.validation": 0.0,
            "data.options.partial": True,  # ten of the twenty words
            "threshold.theta_0": 1.0,
            "threshold.theta_inf": 2.0,
            "threshold.alpha": 0.1,
            "training.epochs": 1,
            "snapshots.count": 1,
        }
    )
    machine = Machine(home, home / "cache", "cpu", 1)
    run = train(config, output=home / "run", machine=machine, verbose=False).folder.path
    made = film("run", run, "--view", "response")
    assert made.frames == 15
    (image,) = made.figure.axes[0].images
    assert image.origin == "lower"
    channels, steps = np.nonzero(np.asarray(image.get_array()))
    assert np.all(np.diff(channels[np.argsort(steps, kind="stable")]) >= 0)
    assert channels.max() == 220


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "notation", "steps"),
    [("saccade-digits", "4C5-AP2-6C5-AP2-10", 60), ("spoken-digits", "700Dense30Dense20", 100)],
)
def test_films_of_real_events(name, notation, steps, shared_data, tmp_path, film):
    title = {"saccade-digits": "SaccadeDigits", "spoken-digits": "SpokenDigits"}[name]
    if not (shared_data / title).is_dir():
        pytest.skip(f"no {title} in {shared_data}")
    home = tmp_path.parent / f"{tmp_path.name}-data"
    config = load_preset(name, "tha").with_changes(
        {
            "network.notation": notation,
            "network.dropout": 0.0,
            "threshold.theta_0": 1.0,
            "threshold.theta_inf": 2.0,
            "threshold.alpha": 0.1,
            "data.num_steps": steps,
            "data.subset": 16,
            "data.batch_size": 8,
            "training.epochs": 1,
            "snapshots.count": 2,
        }
    )
    machine = Machine(shared_data, home / "cache", "cpu", 1)
    run = train(config, output=home / "run", machine=machine, verbose=False).folder.path
    probe = Recording.open(run).probe
    assert probe.inputs.max() >= 1
    for view in VIEWS:
        made = film("run", run, "--view", view)
        assert made.frames == (steps if view == "response" else 2)
        images = images_of(made, 0, made.frames // 2, made.frames - 1)
        assert not np.array_equal(images[0], images[2])


# Films of temporal coding


def test_given_runs_side_by_side_and_one_alone(runs, film):
    three = film("temporal-coding", runs["tha"], runs["tha-2"], runs["bsnn"])
    assert three.frames == 20
    titles = [axes.get_title() for axes in three.figure.axes if axes.get_visible()]
    assert [title.split(", θ")[0] for title in titles] == ["tha", "tha-2", "binary"]
    one = film("temporal-coding", runs["tha"], "--frames", "5", "--pace", "early")
    assert one.frames == 5
    last = arrays_of(runs["tha"] / "recording.npz")["membranes"][:, :, 0, 0]
    one.still(-1)
    membrane = one.figure.axes[0].lines[1]
    assert np.array_equal(membrane.get_ydata(), last[-1])
    smooth = film("temporal-coding", runs["tha"], "--average-iterations", "500")
    smooth.still(-1)
    np.testing.assert_allclose(smooth.figure.axes[0].lines[1].get_ydata(), last.mean(0), atol=1e-4)
    smooth = film("temporal-coding", runs["tha"], "--average-steps", "500")
    smooth.still(-1)
    middle = smooth.figure.axes[0].lines[1].get_ydata()[50]
    assert middle == pytest.approx(last[-1].mean(), rel=1e-4)


def presets_of(monkeypatch, **changes):
    import bsnn_tha.presets

    original = bsnn_tha.presets.load_preset

    def small(dataset, variant):
        original(dataset, variant)  # refuses what it would refuse
        return temporal(variant, **changes)

    monkeypatch.setattr(bsnn_tha.presets, "load_preset", small)


def counted(monkeypatch):
    """How often a network is trained."""
    calls = []
    original = bsnn_tha.training.run._keep

    def keep(session, folder, *rest, **named):
        calls.append(folder.path.name)
        return original(session, folder, *rest, **named)

    monkeypatch.setattr(bsnn_tha.training.run, "_keep", keep)
    return calls


def test_without_runs_they_are_trained_once_and_gone_on_with(animate, tmp_path, monkeypatch):
    presets_of(monkeypatch)
    trainings = counted(monkeypatch)
    arguments = ["temporal-coding", "--variants", "flt32, bsnn,tha", "--frames", "3", *SMALL]
    arguments += ["--threads", "1", "--device", "cpu"]
    with monkeypatch.context() as patch:  # Ctrl-C in the first epoch of the second
        steps, original = [], SpikingModule.training_step

        @functools.wraps(original)  # how it is called depends on its arguments' names
        def interrupted(*args, **kwargs):
            steps.append(1)
            if len(steps) == 24:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        patch.setattr(SpikingModule, "training_step", interrupted)
        status, _, errors = animate(*arguments)
    assert status == 130
    assert "interrupted" in errors
    assert not (tmp_path / "temporal-coding.gif").exists()
    folder = tmp_path / "runs" / "temporal-coding-film"
    assert (folder / "flt32" / "summary.json").exists()
    assert not (folder / "bsnn" / "last.ckpt").exists()
    assert trainings == ["flt32", "bsnn"]
    status, output, errors = animate(*arguments)
    assert (status, errors) == (0, ""), errors
    assert trainings == ["flt32", "bsnn", "bsnn", "tha"]
    assert "written to temporal-coding.gif: 3 frames" in output
    assert sorted(path.name for path in folder.iterdir()) == ["bsnn", "flt32", "tha"]
    for variant in ("flt32", "bsnn", "tha"):
        assert len(arrays_of(folder / variant / "recording.npz")["loss"]) == 20
    first = (tmp_path / "temporal-coding.gif").read_bytes()
    before = everything_in(folder)
    status, output, _ = animate(*arguments)
    assert status == 0
    assert output.count("\n") == 1
    assert everything_in(folder) == before
    assert len(trainings) == 4
    assert "written to temporal-coding-2.gif" in output  # the first may be of other runs
    assert (tmp_path / "temporal-coding-2.gif").read_bytes() == first


def test_networks_trained_with_other_presets_are_not_passed_off_as_todays(
    animate, tmp_path, monkeypatch
):
    arguments = ["temporal-coding", "--variants", "tha", "--frames", "2", *SMALL]
    presets_of(monkeypatch)
    assert animate(*arguments)[0] == 0
    presets_of(monkeypatch, **{"neuron.beta": 0.5})
    before = everything_in(tmp_path)
    assert_refused(animate(*arguments), "trained with other settings", tmp_path, before)


# Refusals; each gets the runs and returns arguments

NOWHERE = ["-o", "file/film.gif"]  # below what is no folder
REFUSED = {
    "no_such_run": (lambda _: ["run", "absent"], "absent is not a run folder"),
    "a_file": (lambda _: ["run", "file"], "file is not a run folder"),
    "no_snapshots": (
        lambda runs: ["run", runs["bare"]],
        "has no recording; make one with bsnn-tha train ... --set snapshots.count=50",
    ),
    "no_such_layer": (
        lambda runs: ["run", runs["annealed"], "--layer", "3"],
        "layers are 1 to 2 (4C3, 10), but got 3",
    ),
    "layer_zero": (lambda runs: ["run", runs["annealed"], "--layer", "0"], "but got 0"),
    "no_such_neuron": (
        lambda runs: ["run", runs["annealed"], "--layer", "2", "--neuron", "10"],
        "neuron 10 of layer 2 was not recorded; recorded are 0, 1, 2, ",
    ),
    "neuron_of_which_layer": (
        lambda runs: ["run", runs["annealed"], "--neuron", "1"],
        "choose it with --layer",
    ),
    "no_such_sample": (
        lambda runs: ["run", runs["annealed"], "--sample", "4"],
        "sample must be from 0 to 3, but got 4",
    ),
    "negative_sample": (
        lambda runs: ["run", runs["annealed"], "--view=response", "--sample=-1"],
        "sample must be from 0 to 3, but got -1",
    ),
    "no_such_iteration": (
        lambda runs: ["run", runs["annealed"], "--view=response", "--iteration", "7"],
        "iteration must be from 1 to 6, but got 7",
    ),
    "iteration_zero": (
        lambda runs: ["run", runs["annealed"], "--view=response", "--iteration", "0"],
        "iteration must be from 1 to 6, but got 0",
    ),
    "response_has_no_pace": (
        lambda runs: ["run", runs["annealed"], "--view=response", "--pace=early"],
        "--view response has no use for --pace",
    ),
    "surrogate_has_no_sample": (
        lambda runs: ["run", runs["annealed"], "--view=surrogate", "--neuron=1", "--sample=0"],
        "--view surrogate has no use for --neuron, --sample",
    ),
    "training_has_no_iteration": (
        lambda runs: ["run", runs["annealed"], "--iteration=1"],
        "--view training has no use for --iteration",
    ),
    "view": (
        lambda runs: ["run", runs["annealed"], "--view=respones"],
        "unknown view 'respones'; did you mean 'response'? Yours is given as module:function",
    ),
    "a_view_that_is_no_film": (
        lambda runs: ["run", runs["annealed"], "--view=os:getcwd"],
        "view 'os:getcwd' must return an animations.film.Film, but returned ",
    ),
    "no_frames": (
        lambda runs: ["run", runs["annealed"], "--frames", "0"],
        "frames must be at least 1, but got 0",
    ),
    "negative_frames": (
        lambda runs: ["temporal-coding", runs["tha"], "--frames=-3"],
        "frames must be at least 1, but got -3",
    ),
    "no_frames_of_a_response": (
        lambda runs: ["run", runs["annealed"], "--view", "response", "--frames", "0"],
        "frames must be at least 1, but got 0",
    ),
    "no_speed": (
        lambda runs: ["run", runs["annealed"], "--fps", "0"],
        "frames per second are above 0",
    ),
    "no_pixels": (
        lambda runs: ["run", runs["annealed"], "--dpi=-100"],
        "dpi must be from 10 to 1000, but got -100",
    ),
    "too_many_pixels": (
        lambda runs: ["run", runs["annealed"], "--dpi", "100000"],
        "dpi must be from 10 to 1000, but got 100000",
    ),
    "too_fast_for_gif": (
        lambda runs: ["run", runs["annealed"], "--fps", "60"],
        "GIF players show at most 50",
    ),
    "unknown_extension": (
        lambda runs: ["run", runs["annealed"], "-o", "film.avi"],
        "films are written as .gif, .html, .mp4 or .webm, got 'film.avi'",
    ),
    "no_extension": (lambda runs: ["run", runs["annealed"], "-o", "film"], "got 'film'"),
    "unwritable": (
        lambda runs: ["run", runs["annealed"], *NOWHERE],
        "cannot write file/film.gif",
    ),
    "a_folder": (
        lambda runs: ["run", runs["annealed"], "-o", "folder.gif"],
        "cannot write folder.gif: it is a folder; choose another place",
    ),
    "outputs_not_recorded": (
        lambda runs: ["temporal-coding", runs["annealed"]],
        "--set training.record_output=true",
    ),
    "only_spikes_recorded": (
        lambda runs: ["temporal-coding", runs["spikes"]],
        "recorded spikes only",
    ),
    "one_of_several_runs": (
        lambda runs: ["temporal-coding", runs["tha"], "absent"],
        "absent is not a run folder",
    ),
    "runs_of_two_lengths": (
        lambda runs: ["temporal-coding", runs["tha"], runs["longer"]],
        "recordings of one length",
    ),
    "no_average": (
        lambda runs: ["temporal-coding", runs["tha"], "--average-steps", "0"],
        "an average over time steps needs at least 1 of them, got 0",
    ),
    "no_average_over_iterations": (
        lambda runs: ["temporal-coding", "--average-iterations=-1"],
        "an average over iterations needs at least 1 of them, got -1",
    ),
    # Without runs, before any is trained.
    "unknown_variant": (
        lambda _: ["temporal-coding", "--variants", "tha,thaa"],
        "temporal-coding has no variant 'thaa'; did you mean 'tha'?",
    ),
    "no_variant": (lambda _: ["temporal-coding", "--variants", ""], "has no variant ''"),
    "frames_before_training": (lambda _: ["temporal-coding", "--frames", "0"], "at least 1"),
    "place_before_training": (lambda _: ["temporal-coding", *NOWHERE], "cannot write file"),
    "format_before_training": (lambda _: ["temporal-coding", "-o", "film.png"], "got 'film.png'"),
    "damaged": (lambda runs: ["run", runs["damaged"]], "is not a readable recording"),
}


@pytest.fixture(scope="module")
def poor_runs(tmp_path_factory, done):
    """Runs that lack something, beside those that do not."""
    runs = trained(tmp_path_factory)
    folder = tmp_path_factory.mktemp("poor")
    config = temporal("tha", **{"data.options.iterations": 21, "snapshots.count": 0})
    train(config, output=folder / "longer", machine=MACHINE, verbose=False)
    train_tiny(
        folder / "spikes",
        **{"training.epochs": 1, "training.record_output": True, "data.subset": 32},
    )
    shutil.copytree(runs["annealed"], folder / "damaged")
    path = sorted((folder / "damaged" / "snapshots").glob("iteration-*"))[1]
    path.write_bytes(path.read_bytes()[:500])
    return runs | {"bare": done.folder.path} | {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_input_is_refused_in_one_line(case, poor_runs, animate, tmp_path):
    (tmp_path / "file").write_text("a regular file")
    (tmp_path / "folder.gif").mkdir()
    arguments, because = REFUSED[case]
    arguments = arguments(poor_runs)
    own = Path(arguments[1]) if arguments[0] == "run" else tmp_path
    before, inside = everything_in(tmp_path), everything_in(own)
    assert_refused(animate(*arguments), because, tmp_path, before)
    assert everything_in(own) == inside  # films are written into run folders
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.gif"]


@pytest.mark.parametrize("arguments", [["run"], ["temporal-coding"]], ids=["run", "coding"])
def test_without_ffmpeg(arguments, runs, animate, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    given = [runs["annealed"]] if arguments == ["run"] else []  # refused before training
    result = animate(*arguments, *given, "-o", "film.mp4")
    assert_refused(result, "need ffmpeg, which is not installed; install it with", tmp_path, {})


@pytest.mark.parametrize("pace", ["--pace=fast", "--theme=sepia", "--frames=many"])
def test_misuse_is_explained(pace, runs, animate, tmp_path):
    status, output, errors = animate("run", runs["annealed"], pace)
    assert (status, output) == (2, "")
    assert "Usage:" in errors
    assert not list(tmp_path.iterdir())
