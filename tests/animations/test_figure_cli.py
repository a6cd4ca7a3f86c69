"""``bsnn-tha figure``: figures of runs show the numbers that the runs wrote."""

from __future__ import annotations

import csv
import errno
import itertools
import shutil

import numpy as np
import pytest
from film_runs import (
    arrays_of,
    assert_refused,
    command,
    epochs_of,
    everything_in,
    trained,
)
from matplotlib.figure import Figure
from PIL import Image

from animations.figures import FIGURES, draw_figure, labels_of, output_recordings
from animations.place import free_place
from animations.run_arrays import OutputRecording, label_of, read_epochs
from bsnn_tha.errors import InvalidValueError, RunError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

RUNS = {
    "temporal-coding": ["tha", "bsnn"],
    "activity": ["annealed", "fixed", "deep"],
    "activity-at-start": ["annealed", "fixed", "deep"],
    "loss": ["annealed", "fixed", "tha"],
    "surrogate": ["deep"],
    "dead": ["annealed", "fixed", "deep"],
    "rates": ["annealed", "fixed", "deep"],
    "membranes": ["annealed"],
    "response": ["fixed"],
}
"""What each figure is drawn of here."""
LABELS = {
    "annealed": "binary, annealed",
    "fixed": "binary, θ = 1",
    "deep": "binary, annealed (surrogate moving)",
    "tha": "binary, annealed",
    "bsnn": "binary, θ = 50",
}
START = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture
def runs(tmp_path_factory):
    return trained(tmp_path_factory)


@pytest.fixture
def figure(tmp_path, monkeypatch, capfd):
    """The command, in an empty folder."""

    def run(*arguments):
        return command(["figure", *arguments], tmp_path, monkeypatch, capfd)

    return run


def lines_of(axes, label):
    """Points of the line with a label."""
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return list(line.get_xdata()), list(line.get_ydata())


def legend_of(owner):
    return [text.get_text() for text in owner.get_legend().get_texts()]


# The command


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_written(name, runs, figure, tmp_path):
    given = [runs[run] for run in RUNS[name]]
    assert figure(name, *given) == (0, f"written to {name}.png\n", "")
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.png"]
    with Image.open(tmp_path / f"{name}.png") as image:
        width, height = image.size
        pixels = np.array(image.convert("L"))
    assert pixels.std() > 10
    expected = draw_figure(name, given).get_size_inches() * 150
    assert (width, height) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("extension", START)
def test_every_format(extension, runs, figure, tmp_path):
    path = tmp_path / "new" / f"figure{extension.upper()}"
    assert figure("dead", runs["annealed"], "-o", path) == (0, f"written to {path}\n", "")
    assert path.read_bytes().startswith(START[extension])
    assert [path.name for path in path.parent.iterdir()] == [path.name]


# Numbers


def test_activity_is_that_of_the_test_set(runs):
    names = ["annealed", "fixed", "deep"]
    drawn = draw_figure("activity", [runs[name] for name in names])
    assert [axes.get_title() for axes in drawn.axes] == [f"layer {i}" for i in range(1, 6)]
    for layer, axes in enumerate(drawn.axes, start=1):
        counts = {
            name: arrays[f"mean_counts_{layer}"].ravel()
            for name in names
            if f"mean_counts_{layer}" in (arrays := arrays_of(runs[name] / "activity.npz"))
        }
        assert legend_of(axes) == [
            f"{LABELS[name]}: {100 * np.mean(values == 0):.1f}% dead"
            for name, values in counts.items()
        ]
        largest = max(values.max() for values in counts.values())
        outlines = [patch for patch in axes.patches if not patch.get_fill()]
        for outline, values in zip(outlines, counts.values(), strict=True):
            heights, edges, _ = outline.get_data()
            assert edges[0] == 0
            assert edges[-1] == pytest.approx(largest)
            for height, (low, high) in zip(heights, itertools.pairwise(edges), strict=True):
                last = high == edges[-1]
                inside = (values > 0) & (values >= low) & ((values < high) | last)
                assert height == pytest.approx(100 * inside.mean(), abs=1e-9)
            assert heights.sum() == pytest.approx(100 * np.mean(values > 0))
        assert axes.get_xlabel() == "spikes per test sample"


def test_activity_at_the_start_is_that_of_the_first_batch(runs):
    run = runs["annealed"]
    drawn = draw_figure("activity-at-start", [run])
    first = arrays_of(run / "snapshots" / "iteration-000000000.npz")
    for layer, axes in enumerate(drawn.axes, start=1):
        values = 5 * first[f"rates_{layer}"].astype(np.float32)  # time steps
        (outline,) = [patch for patch in axes.patches if not patch.get_fill()]
        heights, edges, _ = outline.get_data()
        assert edges[-1] == pytest.approx(max(values.max(), 1e-9))
        assert heights.sum() == pytest.approx(100 * np.mean(values > 0))
        assert legend_of(axes) == [f"binary, annealed: {100 * np.mean(values == 0):.1f}% dead"]


def test_losses_and_thresholds_are_those_of_the_table(runs):
    names = ["annealed", "fixed"]
    drawn = draw_figure("loss", [runs[name] for name in names])
    axes, *rights = drawn.axes
    for name, right, layer in zip(names, rights, (2, 1), strict=True):
        table = epochs_of(runs[name])
        at = table["iteration"]
        assert lines_of(axes, f"{LABELS[name]}, training") == (at, table["train_loss"])
        (threshold,) = right.lines
        assert list(threshold.get_xdata()) == at
        assert list(threshold.get_ydata()) == table[f"threshold_{layer}"]  # of the output
    table = epochs_of(runs["annealed"])
    assert lines_of(axes, "binary, annealed, validation")[1] == table["val_loss"]
    # The run without a validation split has no such line.
    shown = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert "binary, annealed, validation" in shown
    assert "binary, θ = 1, validation" not in shown
    # One scale for all thresholds, from nothing; its numbers are written once.
    assert len({right.get_ylim() for right in rights}) == 1
    low, high = rights[0].get_ylim()
    assert low == 0
    assert high > epochs_of(runs["annealed"])["threshold_2"][-1]
    assert len(rights[0].get_yticks())
    assert not len(rights[1].get_yticks())


@pytest.mark.parametrize(("name", "column"), [("dead", "dead"), ("rates", "rate")])
def test_shares_by_epoch_are_those_of_the_table(name, column, runs):
    names = ["annealed", "fixed", "deep"]
    drawn = draw_figure(name, [runs[run] for run in names])
    assert len(drawn.axes) == 5
    for layer, axes in enumerate(drawn.axes, start=1):
        having = [run for run in names if layer <= {"annealed": 2, "fixed": 1, "deep": 5}[run]]
        assert [line.get_label() for line in axes.lines] == [LABELS[run] for run in having]
        for run in having:
            table = epochs_of(runs[run])
            epochs, values = lines_of(axes, LABELS[run])
            assert epochs == [epoch + 1 for epoch in table["epoch"]]
            assert values == pytest.approx([100 * v for v in table[f"{column}_{layer}"]])
        low, high = axes.get_ylim()
        assert low == 0
        assert high >= max(max(line.get_ydata()) for line in axes.lines)
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == [LABELS[run] for run in names]
    what = {"dead": "dead neurons, %", "rates": "firing rate, %"}
    assert drawn.axes[0].get_ylabel() == what[name]


def test_output_traces_are_those_recorded(runs):
    drawn = draw_figure("temporal-coding", [runs["tha"], runs["bsnn"]])
    assert len(drawn.axes) == 2  # of twenty iterations only the first is one of the paper's
    for axes, name in zip(drawn.axes, ("tha", "bsnn"), strict=True):
        arrays = arrays_of(runs[name] / "recording.npz")
        target, membrane, threshold, *_ = axes.lines
        assert np.array_equal(target.get_ydata(), arrays["target"][:, 0, 0])
        assert np.array_equal(membrane.get_ydata(), arrays["membranes"][0, :, 0, 0])
        assert set(threshold.get_ydata()) == {float(arrays["thresholds"][0, -1])}
        assert axes.get_ylabel().replace("\n", ", ") == LABELS[name]


@pytest.mark.parametrize("name", ["surrogate", "membranes", "response"])
def test_figures_of_one_run_are_the_end_of_its_film(name, runs):
    drawn = draw_figure(name, [runs["annealed"]])
    last = arrays_of(sorted((runs["annealed"] / "snapshots").glob("iter*"))[-1])
    titles = [axes.get_title() for axes in drawn.axes]
    if name == "surrogate":
        mass = last["surrogate_masses"][0]
        assert titles[0].startswith(f"layer 1, 4C3: mean gradient {mass:.2g} (")
    else:
        assert f"layer 1, 4C3, θ = {last['thresholds'][0]:.3g}" in " ".join(titles)
    if name == "response":
        bars = drawn.axes[1].patches
        assert [bar.get_height() for bar in bars] == last["spikes_2"][:, 0].sum(0).tolist()


def test_an_output_is_read_from_its_run(runs):
    arrays = arrays_of(runs["tha"] / "recording.npz")
    output = OutputRecording.of_run(runs["tha"])
    assert len(output) == 20
    assert np.array_equal(output.spikes, arrays["spikes"][:, :, 0, 0])
    assert np.array_equal(output.threshold, arrays["thresholds"][:, 1])  # of the output layer
    with pytest.raises(InvalidValueError, match="output neuron must be from 0 to 0, but got 1"):
        OutputRecording.of_run(runs["tha"], output=1)


def test_a_run_of_one_epoch_is_seen(runs):
    for name in ("loss", "dead", "rates"):
        drawn = draw_figure(name, [runs["deep"]])
        assert all(line.get_marker() == "o" for axes in drawn.axes for line in axes.lines)


def test_a_table_with_gaps(runs, tmp_path):
    run = shutil.copytree(runs["annealed"], tmp_path / "run")
    with (run / "metrics.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    rows[0][header.index("val_loss")] = ""
    with (run / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    values = read_epochs(run)["val_loss"]
    assert np.isnan(values[0])
    assert values[1] == epochs_of(runs["annealed"])["val_loss"][1]
    draw_figure("loss", [run])


# Labels


@pytest.mark.parametrize(("name", "label"), LABELS.items())
def test_a_run_in_a_few_words(name, label, runs):
    assert label_of(runs[name]) == label


def test_runs_that_are_alike_are_told_apart_by_their_folders(runs, tmp_path, monkeypatch):
    alike = [runs["annealed"], runs["alike"]]
    assert labels_of([*alike, runs["fixed"]]) == ["annealed", "alike", "binary, θ = 1"]
    # In folders of one name, too.
    others = [tmp_path / "one" / "run", tmp_path / "two" / "run"]
    for run, other in zip(alike, others, strict=True):
        shutil.copytree(run, other)
    assert labels_of(others) == [str(other) for other in others]
    drawn = draw_figure("activity", others)
    assert len(legend_of(drawn.axes[0])) == 2
    monkeypatch.chdir(others[0])
    assert labels_of([others[0].relative_to(others[0]), runs["alike"]]) == ["run", "alike"]
    # A run given twice is one.
    assert list(output_recordings([runs["tha"], runs["tha"], runs["bsnn"]])) == [
        "tha",
        "binary, θ = 50",
    ]


# Refusals

REFUSED = {
    "unknown_name": (
        lambda runs: ["deaths", runs["annealed"]],
        "figure must be one of temporal-coding, activity, activity-at-start, loss, surrogate, "
        "dead, rates, membranes, response, but got 'deaths'",
    ),
    "misspelt_name": (lambda runs: ["surrogat", runs["annealed"]], "; did you mean 'surrogate'?"),
    "no_such_run": (lambda _: ["loss", "absent"], "absent is not a run folder"),
    "one_of_several": (
        lambda runs: ["dead", runs["annealed"], "absent"],
        "absent is not a run folder",
    ),
    "no_activity": (
        lambda runs: ["activity", runs["annealed"], runs["tha"]],
        "has no activity.npz: it is written when a run with a test set ends",
    ),
    "no_recording": (
        lambda runs: ["temporal-coding", runs["annealed"]],
        "--set training.record_output=true",
    ),
    **{
        f"no_snapshots_for_{name}": (
            lambda runs, name=name: [name, runs["bare"]],
            "--set snapshots.count=50",
        )
        for name in ("activity-at-start", "surrogate", "membranes", "response")
    },
    "no_epoch_yet": (lambda runs: ["loss", runs["young"]], "no epoch has ended"),
    "empty_table": (lambda runs: ["rates", runs["empty"]], "metrics.csv is empty"),
    "foreign_table": (lambda runs: ["dead", runs["foreign"]], "has no column dead_1"),
    "several_for_one": (
        lambda runs: ["membranes", runs["annealed"], runs["deep"]],
        "is of one run, but got 2",
    ),
    "unknown_extension": (
        lambda runs: ["loss", runs["annealed"], "-o", "loss.gif"],
        "must be one of .png, .pdf, .svg, but got 'loss.gif'",
    ),
    "no_extension": (lambda runs: ["loss", runs["annealed"], "-o", "loss"], "but got 'loss'"),
    "unwritable": (
        lambda runs: ["loss", runs["annealed"], "-o", "file/loss.png"],
        "cannot write file/loss.png",
    ),
    "a_folder": (
        lambda runs: ["loss", runs["annealed"], "-o", "folder.png"],
        "cannot write folder.png: it is a folder",
    ),
    "damaged_activity": (
        lambda runs: ["activity", runs["damaged"]],
        "is not a readable recording",
    ),
    "damaged_configuration": (lambda runs: ["loss", runs["broken"]], "config.toml"),
}


@pytest.fixture(scope="module")
def poor_runs(tmp_path_factory, done):
    """Runs that lack something, beside those that do not."""
    runs = trained(tmp_path_factory)
    folder = tmp_path_factory.mktemp("poor")
    for name in ("young", "empty", "foreign", "damaged", "broken"):
        shutil.copytree(done.folder.path, folder / name)
    (folder / "young" / "metrics.csv").unlink()
    (folder / "empty" / "metrics.csv").write_text("epoch,train_loss\n")
    (folder / "foreign" / "metrics.csv").write_text("epoch,train_loss\n0,1.0\n")
    (folder / "damaged" / "activity.npz").write_bytes(b"PK")
    (folder / "broken" / "config.toml").write_text("[data\n")
    return runs | {"bare": done.folder.path} | {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_input_is_refused_in_one_line(case, poor_runs, figure, tmp_path):
    (tmp_path / "file").write_text("a regular file")
    (tmp_path / "folder.png").mkdir()
    arguments, because = REFUSED[case]
    before = everything_in(tmp_path)
    assert_refused(figure(*arguments(poor_runs)), because, tmp_path, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_no_run_is_misuse(figure, tmp_path):
    status, output, errors = figure("loss")
    assert (status, output) == (2, "")
    assert "Usage:" in errors
    with pytest.raises(InvalidValueError, match="needs at least one run folder"):
        draw_figure("loss", [])


def test_a_figure_that_cannot_be_written_leaves_the_old_one(runs, figure, tmp_path, monkeypatch):
    (tmp_path / "loss.png").write_text("old")

    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    before = everything_in(tmp_path)
    result = figure("loss", runs["annealed"], "-o", "loss.png")
    assert_refused(result, "cannot write figure loss.png: No space left", tmp_path, before)
    assert (tmp_path / "loss.png").read_text() == "old"


def test_help_names_every_figure(figure):
    status, output, _ = figure("--help")
    assert status == 0
    assert all(name in output for name in FIGURES)


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(RunError, match="absent is not a run folder"):
        labels_of([tmp_path / "absent"])


def test_a_default_name_never_takes_the_place_of_another_figure(tmp_path):
    figure = tmp_path / "loss.png"
    assert free_place(figure) == figure
    figure.write_text("of other runs")
    assert free_place(figure) == tmp_path / "loss-2.png"
    (tmp_path / "loss-2.png").touch()
    assert free_place(figure) == tmp_path / "loss-3.png"
