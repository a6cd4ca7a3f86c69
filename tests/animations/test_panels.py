"""What films show is what was recorded: pixels, and the artists that make them."""

from __future__ import annotations

import itertools
import re

import matplotlib as mpl
import numpy as np
import pytest
import torch
from made_recordings import (
    RISE,
    SLOPE,
    THETA_0,
    CountedRecording,
    made,
    output_recording,
    pixels_like,
    place_of,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from animations.clock import PACES, iterations_of
from animations.inputs import InputPanel, SpikeCountPanel
from animations.layers import LayerCurves
from animations.membranes import LayerOverTime, LayerOverTraining
from animations.overview import Overview, SnapshotFrames, chosen_layers
from animations.run_arrays import OutputRecording
from animations.runs import surrogate_film, training_film, window_film
from animations.smoothing import over_iterations, over_time
from animations.style import BLUE, GREEN, ORANGE, SKY, VERMILION, theme
from animations.surrogate import SurrogatePanel
from animations.temporal_coding import OutputPanel, SpikeHistoryPanel, temporal_coding_film
from bsnn_tha.equations.surrogate import ArcTan, FastSigmoid
from bsnn_tha.errors import InvalidValueError

FILMS = {
    "training": training_film,
    "response": window_film,
    "surrogate": surrogate_film,
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return made(tmp_path_factory.mktemp("recording"))


def in_order(recording, frames=None):
    frames = len(recording) if frames is None else frames
    return SnapshotFrames(recording, np.arange(frames))


@pytest.fixture(scope="module")
def films(recording):
    """One film of each kind; making one takes longer than drawing it."""
    made = {view: film(recording) for view, film in FILMS.items()}
    return made | {"temporal coding": temporal_coding_film({"case": output_recording()})}


def film_of(view, recording):
    """A film of another recording."""
    if view == "temporal coding":
        return temporal_coding_film({"case": recording})
    return FILMS[view](recording)


def images_of(film):
    return list(film.images(dpi=40))


# The threshold


def row_of(image, colour, axes):
    """Row of a horizontal line, by its pixels: their mean, which must be near one row."""
    rows, counts = np.unique(pixels_like(image, colour, axes)[:, 0], return_counts=True)
    line = rows[counts > 0.5 * axes.bbox.width]
    assert 1 <= len(line) <= 4, (rows, counts)
    return line.mean()


def test_the_threshold_is_a_line_at_its_value_in_every_frame_of_temporal_coding():
    recording = output_recording()
    film = temporal_coding_film({"one": recording, "two": output_recording(1)})
    axes = [a for a in film.figure.axes if a.get_visible()]
    for frame, image in enumerate(film.images()):
        for own in axes:
            expected, _ = place_of(film.figure, own, 0, recording.threshold[frame])
            assert abs(row_of(image, ORANGE, own) + 0.5 - expected) <= 1
    moved = [place_of(film.figure, axes[0], 0, theta)[0] for theta in recording.threshold]
    assert moved[0] - moved[-1] > 20  # it is seen to move


def test_the_threshold_is_a_line_at_its_value_in_every_frame_of_a_training(films):
    film = films["training"]
    axes = film.figure.axes[:2]
    for frame, image in enumerate(film.images()):
        for layer, own in enumerate(axes, start=1):
            theta = (THETA_0 + RISE * frame) * layer
            expected, _ = place_of(film.figure, own, 0, theta)
            assert abs(row_of(image, ORANGE, own) + 0.5 - expected) <= 1
            assert own.get_title().endswith(f", θ = {theta:.3g}")


# Spikes


def clusters(columns, gap=3):
    """Mean of each run of neighbouring numbers."""
    columns = np.unique(columns)
    return [part.mean() for part in np.split(columns, np.nonzero(np.diff(columns) > gap)[0] + 1)]


def test_spikes_are_at_the_recorded_steps_in_pixels():
    recording = output_recording(spikes=[[3], [], [0, 17, 39], [20, 22], [38], [8]])
    film = temporal_coding_film({"one": recording})
    axes = film.figure.axes[0]
    for frame, image in enumerate(film.images()):
        seen = pixels_like(image, VERMILION, axes)
        expected = [
            place_of(film.figure, axes, step, 0)[1]
            for step in np.nonzero(recording.spikes[frame])[0]
        ]
        found = clusters(seen[:, 1]) if len(seen) else []
        assert len(found) == len(expected)
        assert np.abs(np.array(found) + 0.5 - expected).max(initial=0) <= 1.5
        if len(seen):  # below the trace
            low, _ = place_of(film.figure, axes, 0, np.percentile(recording.membranes, 1))
            assert seen[:, 0].min() > low


def one_step_per_neuron(place, arrays):
    """Neuron at place p of the first layer fires at step 2p + 1 + snapshot, for sample 1 only."""
    spikes = np.zeros_like(arrays["spikes_1"])
    for neuron in range(spikes.shape[2]):
        spikes[2 * neuron + 1 + place, 1, neuron] = 1
    arrays["spikes_1"] = spikes
    arrays["spikes_2"][:] = 0


@pytest.mark.parametrize("view", ["training", "response"])
def test_spikes_are_in_the_row_of_their_neuron(view, tmp_path):
    recording = made(tmp_path, change=one_step_per_neuron)
    chosen = {"layers": [1], "neurons": [14, 5], "sample": 1}  # places 3 and 1
    film = FILMS[view](recording, **chosen)
    last = film.frames - 1
    (image,) = film.images([last])
    (axes,) = [a for a in film.figure.axes if a.get_title().startswith("layer 1")]
    seen = pixels_like(image, VERMILION, axes)
    marks = []
    for neuron in range(4):
        step = 2 * neuron + 1 + 2  # of the last snapshot
        _, column = place_of(film.figure, axes, step, 0)
        own = seen[np.abs(seen[:, 1] + 0.5 - column) <= 2]
        assert len(own) >= 4, f"no spike of neuron {neuron} at step {step}"
        marks.append((own[:, 0].mean(), neuron, len(own)))
    assert len(seen) == sum(count for *_, count in marks)  # and nowhere else
    # The drawn neurons first, as they were asked for; the others below, one row each.
    assert [neuron for _, neuron, _ in sorted(marks)] == [3, 1, 0, 2]
    rows = np.sort([row for row, *_ in marks])
    assert np.allclose(np.diff(rows), np.diff(rows).mean(), atol=1.1)
    (image,) = FILMS[view](recording, **{**chosen, "sample": 0}).images([last])
    assert not len(pixels_like(image, VERMILION, axes))


def test_a_neuron_asked_for_twice_is_drawn_once(recording):
    film = training_film(recording, layers=[1, 1], neurons=[5, 5])
    membrane = film.panels[1].update(0)[0]
    assert np.array_equal(membrane.get_ydata(), recording[0].layers[0].trace.membranes[:, 0, 1])
    assert len(film.figure.axes) == 4  # of one layer, and three of curves


# Membranes


def test_output_membranes_are_those_recorded():
    recording = output_recording()
    panel = OutputPanel(Figure().subplots(), recording, [4, 0, 2], "case")
    for frame, iteration in enumerate([4, 0, 2]):
        membrane, *_ = panel.update(frame)
        assert np.array_equal(membrane.get_ydata(), recording.membranes[iteration])
        assert membrane.get_xdata().tolist() == list(range(40))


def test_membranes_over_training_are_those_of_the_neurons_asked_for(recording):
    places, sample = [2, 0], 1
    for layer in (1, 2):
        panel = LayerOverTraining(Figure().subplots(), in_order(recording), layer, places, sample)
        for frame in (2, 0, 1):
            *lines, _, _, _ = panel.update(frame)
            trace = recording[frame].layers[layer - 1].trace
            assert len(lines) == 2
            for line, place in zip(lines, places, strict=True):
                assert np.array_equal(line.get_ydata(), trace.membranes[:, sample, place])


def test_neurons_are_asked_for_by_their_index_in_the_layer(recording):
    film = training_film(recording, layers=[1], neurons=[6], sample=2)
    line, *_ = film.panels[1].update(1)
    assert np.array_equal(line.get_ydata(), recording[1].layers[0].trace.membranes[:, 2, 2])


def test_by_default_the_neurons_that_fire_most_are_drawn(tmp_path):
    def change(place, arrays):
        counts = [[3, 9, 6, 1], [9, 3, 1, 6]][place == 2]
        for neuron, count in enumerate(counts):
            arrays["spikes_1"][:, 0, neuron] = np.arange(12) < count

    recording = made(tmp_path, change=change)
    *lines, _, _, _ = training_film(recording).panels[1].update(2)
    membranes = recording[2].layers[0].trace.membranes[:, 0]
    for line, place in zip(lines, [0, 3, 1], strict=True):  # in the last snapshot
        assert np.array_equal(line.get_ydata(), membranes[:, place])


@pytest.mark.parametrize("step", [0, 5, 11])
def test_a_response_shows_nothing_of_the_future(recording, step):
    trace = recording[1].layers[0].trace
    panel = LayerOverTime(Figure().subplots(), trace, [3, 1], sample=2)
    panel.update(11)
    *lines, threshold, raster, _ = panel.update(step)
    for line, place in zip(lines, [3, 1], strict=True):
        shown = np.array(line.get_ydata())
        assert np.array_equal(shown[: step + 1], trace.membranes[: step + 1, 2, place])
        assert np.isnan(shown[step + 1 :]).all()
    assert set(threshold.get_ydata()) == {THETA_0 + RISE}
    steps = raster.get_xdata().reshape(-1, 3)[:, 0]
    fired = np.nonzero(trace.spikes[: step + 1, 2])[0]
    assert np.sort(steps).tolist() == np.sort(fired).tolist()


def test_a_response_is_of_the_snapshot_at_or_before_the_iteration(recording):
    for iteration, place in ((1, 0), (3, 0), (4, 1), (7, 1), (8, 2), (None, 2)):
        film = window_film(recording, iteration)
        assert f"after {recording.iterations[place] + 1} training" in film.figure.get_suptitle()
        *lines, _, _, _ = film.panels[2].update(11)
        membranes = recording[place].layers[0].trace.membranes[:, 0]
        assert any(np.array_equal(lines[0].get_ydata(), m) for m in membranes.T)


def test_neurons_without_numbers_are_drawn_where_they_have_some(tmp_path):
    def change(place, arrays):
        arrays["membranes_1"][:, 0, :] = np.nan  # all of a layer, for the sample that is shown
        arrays["membranes_2"][3:, :, 1] = np.inf
        arrays["membranes_2"][:, :, 2] = -np.inf
        if place == 1:
            arrays["membranes_2"][:] = np.nan
            arrays["histograms"][:] = 0
            arrays["surrogate_masses"][:] = np.nan
            arrays["loss"] = np.float32(np.nan)

    recording = made(tmp_path, change=change)
    for view in FILMS:
        images = images_of(film_of(view, recording))
        assert len(images) == (12 if view == "response" else 3)
    film = window_film(recording, layers=[2], neurons=[0])
    line, *_ = film.panels[2].update(11)
    assert np.array_equal(line.get_ydata(), recording[2].layers[1].trace.membranes[:, 0, 0])


def test_an_output_without_numbers_is_drawn():
    recording = output_recording()
    recording.membranes[2:] = np.nan
    recording.membranes[1, 3] = np.inf
    film = temporal_coding_film({"one": recording}, average_steps=3)
    assert len(list(film.images(dpi=30))) == 6
    low, high = film.figure.axes[0].get_ylim()
    assert np.isfinite([low, high]).all()
    assert high > recording.threshold.max()
    recording.membranes[:] = np.nan
    assert len(list(temporal_coding_film({"one": recording}).images(dpi=30))) == 6


# Moving averages


def slow_average(trace, window):
    """By the definition, step by step."""
    averages = []
    for step in range(len(trace)):
        start = step - window // 2
        values = [trace[t] for t in range(start, start + window) if 0 <= t < len(trace)]
        averages.append(sum(map(float, values)) / len(values))
    return averages


@pytest.mark.parametrize("window", [1, 2, 3, 7, 39, 40, 41, 500])
def test_averages_over_time(window):
    recording = output_recording()
    panel = OutputPanel(Figure().subplots(), recording, range(6), average_steps=window)
    for iteration in (3, 0):
        membrane, *_ = panel.update(iteration)
        expected = slow_average(recording.membranes[iteration], window)
        np.testing.assert_allclose(membrane.get_ydata(), expected, atol=1e-6)


@pytest.mark.parametrize("window", [1, 2, 5, 6, 100])
def test_averages_over_iterations_are_of_the_past(window):
    recording = output_recording()
    panel = OutputPanel(Figure().subplots(), recording, range(6), average_iterations=window)
    for iteration in (5, 0, 2):
        membrane, *_ = panel.update(iteration)
        past = [recording.membranes[i] for i in range(6) if iteration - window < i <= iteration]
        np.testing.assert_allclose(membrane.get_ydata(), sum(past) / len(past), atol=1e-6)


def test_averages_over_both():
    recording = output_recording()
    panel = OutputPanel(Figure().subplots(), recording, [4], average_steps=3, average_iterations=2)
    membrane, *_ = panel.update(0)
    mean = (recording.membranes[3] + recording.membranes[4]) / 2
    np.testing.assert_allclose(membrane.get_ydata(), slow_average(mean, 3), atol=1e-6)


def test_averages_keep_small_numbers_after_a_large_one():
    trace = np.array([1e9, *[1.25] * 9], dtype=np.float32)
    assert over_time(trace, 3)[5] == pytest.approx(1.25, abs=1e-6)


def test_averages_of_what_has_no_numbers_do_not_spread():
    trace = np.array([1.0, np.nan, 3.0, 4.0, 5.0, 6.0])
    shown = over_time(trace, 3)
    assert np.isnan(shown[:3]).all()
    assert shown[3:].tolist() == [4.0, 5.0, 5.5]


@pytest.mark.parametrize("window", [0, -3])
def test_an_average_over_nothing_is_refused(window):
    recording = output_recording()
    for option in ("average_steps", "average_iterations"):
        with pytest.raises(InvalidValueError, match=f"at least 1 of them, got {window}"):
            temporal_coding_film({"one": recording}, **{option: window})
    with pytest.raises(InvalidValueError):
        over_iterations(recording.membranes, 0, window)


# Frames depend on recordings and their number alone


@pytest.mark.parametrize("view", [*FILMS, "temporal coding"])
def test_two_recordings_are_two_films_and_one_is_one_film(view, films, recording, tmp_path):
    again, other = recording, made(tmp_path, seed=1)
    if view == "temporal coding":
        again, other = output_recording(), output_recording(seed=1)
    one = images_of(films[view])
    assert all(map(np.array_equal, one, images_of(film_of(view, again))))
    assert not any(map(np.array_equal, one, images_of(film_of(view, other))))
    assert not any(map(np.array_equal, one, one[1:]))


@pytest.mark.parametrize("view", [*FILMS, "temporal coding"])
def test_frames_may_be_asked_for_in_any_order(view, films):
    film = films[view]
    images = images_of(film)
    order = [2, 0, 1, 1, film.frames - 1, 0]
    for frame, image in zip(order, film.images(order, dpi=40), strict=True):
        assert np.array_equal(image, images[frame])


@pytest.mark.parametrize("view", [*FILMS, "temporal coding"])
def test_films_have_their_theme(view, films, recording):
    if view == "temporal coding":
        dark = temporal_coding_film({"case": output_recording()}, style="dark")
    else:
        dark = FILMS[view](recording, style="dark")
    assert next(films[view].images([1], dpi=40)).mean() > 180
    assert next(dark.images([1], dpi=40)).mean() < 90
    assert mpl.rcParams["figure.facecolor"] == "white"


# The clock


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("recorded", [1, 2, 3, 10, 57, 1000])
@pytest.mark.parametrize("frames", [1, 2, 5, 10, 100, 5000])
def test_the_clock(pace, recorded, frames):
    clock = iterations_of(recorded, frames, pace)
    assert clock[0] == 0
    assert len(clock) <= min(recorded, frames)
    assert (np.diff(clock) > 0).all()
    assert clock[-1] == recorded - 1 or frames == 1
    if pace == "even":
        assert len(clock) == min(recorded, frames)
        if len(clock) > 1:
            assert np.diff(clock).max() - np.diff(clock).min() <= 1
    elif len(clock) > 2:
        assert clock[len(clock) // 2] <= recorded / 2


@pytest.mark.parametrize(("recorded", "frames"), [(0, 5), (5, 0), (5, -1)])
def test_a_clock_without_time_is_refused(recorded, frames):
    what = "frames" if recorded else "recorded iterations"
    with pytest.raises(InvalidValueError, match=f"^{what} must be at least 1, but got"):
        iterations_of(recorded, frames)


def test_frames_show_the_iterations_of_the_clock(tmp_path):
    iterations = [0, 4, 5, 9, 30, 31]
    recording = made(tmp_path, iterations=iterations, planned_iterations=1234)
    film = training_film(recording, frames=3)
    for frame, place in enumerate(iterations_of(6, 3)):
        figure = film.still(frame)
        now = iterations[place] + 1
        assert figure.get_suptitle() == f"training iteration {now} of 1,234"
        for axes in figure.axes[2:]:
            assert list(axes.lines[-1].get_xdata()) == [now, now]  # the cursor
        *lines, _, _, _ = film.panels[1].update(frame)
        membranes = recording[place].layers[0].trace.membranes[:, 0]
        assert any(np.array_equal(lines[0].get_ydata(), m) for m in membranes.T)


# Output spikes over all iterations


def test_spikes_so_far_are_those_of_the_past():
    spikes = [[3], [], [0, 17], [20, 22], [38], [8]]
    recording = output_recording(spikes=spikes)
    axes = Figure().subplots()
    panel = SpikeHistoryPanel(axes, recording, [5, 0, 2, 3])
    for frame, now in enumerate([5, 0, 2, 3]):
        dots, line = panel.update(frame)
        expected = [(step, i + 1) for i in range(now + 1) for step in spikes[i]]
        assert list(zip(*dots.get_data(), strict=True)) == expected
        assert set(line.get_ydata()) == {now + 1}
    assert axes.yaxis_inverted()
    assert list(axes.lines[-1].get_xdata()) == [39, 39]  # where the target peaks


def test_spikes_so_far_in_pixels():
    recording = output_recording(spikes=[[3], [], [0, 17], [20, 22], [38], [8]])
    film = temporal_coding_film({"case": recording})
    axes = film.figure.axes[1]
    for frame, image in zip((5, 1, 3), film.images([5, 1, 3]), strict=True):
        seen = pixels_like(image, VERMILION, axes)
        for iteration in range(6):
            for step in np.nonzero(recording.spikes[iteration])[0]:
                row, column = place_of(film.figure, axes, step, iteration + 1)
                near = (np.abs(seen + 0.5 - [row, column]) <= 1.5).all(1).any()
                assert near == (iteration <= frame), (frame, iteration)


# Reading snapshots


@pytest.mark.parametrize("view", ["training", "surrogate"])
def test_a_frame_reads_its_snapshot_once_and_none_is_kept(view, tmp_path):
    iterations = tuple(range(9))
    layers = (("4C3", (4, 2, 2), (1, 5)), ("5", (5,), (0, 1)), ("3", (3,), (0, 1, 2)))
    made(tmp_path, iterations=iterations, layers=layers)
    recording = CountedRecording(tmp_path)
    film = FILMS[view](recording)
    assert film.frames == 9
    recording.reads.clear()
    for frame, _ in enumerate(film.images(dpi=30)):
        assert recording.reads == [*range(frame + 1)]  # when its turn comes, for all panels
    assert recording.most <= 2  # the one that is read, and the one before it


def test_the_latest_snapshot_is_the_one_that_is_asked_for(recording):
    snapshots = SnapshotFrames(recording, np.array([2, 0, 0, 1]))
    for frame, place in enumerate([2, 0, 0, 1]):
        assert snapshots.at(frame).iteration == recording.iterations[place]
        assert snapshots.iterations[frame] == recording.iterations[place]
    assert len(snapshots) == 4


# Curves


def test_curves_are_what_snapshots_say(recording, films):
    film = films["training"]
    thetas, rates, dead = film.figure.axes[2:]
    for layer in range(2):
        figures = [snapshot.layers[layer] for snapshot in recording]
        for axes, values in (
            (thetas, [THETA_0 + RISE * i for i in range(3)] * np.array(layer + 1)),
            (rates, [100 * f.rates.mean() for f in figures]),
            (dead, [100 * f.dead_share for f in figures]),
        ):
            line = axes.lines[layer]
            assert list(line.get_xdata()) == [1, 4, 8]
            np.testing.assert_allclose(line.get_ydata(), values, rtol=1e-6)
            low, high = axes.get_ylim()
            assert low == 0
            assert high > max(values)
    assert thetas.lines[0].get_label() == "layer 1, 4C3"
    assert thetas.lines[1].get_label() == "layer 2, 3 neurons"
    overview = Overview.of(recording)
    assert list(overview.loss) == [snapshot.loss for snapshot in recording]
    assert np.allclose(overview.masses[:, 1], [s.layers[1].surrogate_mass for s in recording])


def test_curves_of_nothing_but_gaps_have_axes():
    axes = Figure().subplots()
    LayerCurves(axes, np.arange(3), np.full((3, 1), np.nan), [0, 1, 2], ["layer 1"], "dead")
    assert axes.get_ylim()[1] > 0


@pytest.mark.parametrize(("known", "expected"), [(1, [1]), (5, [1, 3, 5])])
def test_by_default_three_layers_at_most_are_drawn(known, expected, tmp_path):
    layers = tuple((f"{5 + i}", (5 + i,), (0, 1, 2)) for i in range(known))
    recording = made(tmp_path, layers=layers)
    assert chosen_layers(recording.probe, None) == expected
    for view, count in (("training", len(expected) + 3), ("surrogate", len(expected))):
        film = FILMS[view](recording)
        assert len(film.figure.axes) == count
        assert len(list(film.images([2], dpi=30))) == 1
    film = window_film(recording)
    titles = [axes.get_title() for axes in film.figure.axes]
    assert sum(title.startswith("layer") for title in titles) == len(expected)
    assert all(f"layer {layer}, {4 + layer} neurons" in " ".join(titles) for layer in expected)


# The surrogate gradient


SHAPES = {"fast_sigmoid": FastSigmoid, "arctan": ArcTan}


@pytest.mark.parametrize("surrogate", SHAPES)
@pytest.mark.parametrize("centre", ["clamped", "moving"])
@pytest.mark.parametrize("layer", [1, 2])
def test_the_surrogate_is_drawn_where_it_is_and_where_it_is_not(surrogate, centre, layer, tmp_path):
    recording = made(tmp_path, surrogate=surrogate, surrogate_centre=centre)
    panel = SurrogatePanel(Figure().subplots(), in_order(recording), layer)
    shape = SHAPES[surrogate](slope=SLOPE)

    def at(u, centre):
        return shape(torch.as_tensor(u, dtype=torch.float64), torch.tensor(centre)).numpy()

    for frame in (2, 0, 1):
        bars, here, there, threshold, title = panel.update(frame)
        theta_0, theta = layer * THETA_0, layer * (THETA_0 + RISE * frame)
        centres = (theta_0, theta) if centre == "clamped" else (theta, theta_0)
        assert set(threshold.get_xdata()) == {theta}
        for line, middle in zip((here, there), centres, strict=True):
            u = np.array(line.get_xdata())
            np.testing.assert_allclose(
                line.get_ydata(), at(u, middle) / at([middle], middle), atol=1e-9
            )
            assert abs(u[np.argmax(line.get_ydata())] - middle) <= u[1] - u[0]
        recorded = recording[frame].layers[layer - 1]
        # The bars are the recorded shares, to the inner one that is largest.
        shares = recorded.histogram / recorded.histogram.sum()
        heights, edges, _ = bars.get_data()
        assert np.array_equal(edges, recorded.edges)
        np.testing.assert_allclose(heights, np.minimum(shares / shares[1:-1].max(), 1))
        middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
        instead = sum(
            share * at([u], centres[1])[0] for share, u in zip(shares, middles, strict=True)
        )
        where = "at θ" if centre == "clamped" else "at θ0"
        assert title.get_text().endswith(
            f"mean gradient {recorded.surrogate_mass:.2g} ({where}: {instead:.2g})"
        )
    assert there.get_label() == f"{where} instead"


def test_unequal_bins_and_open_ends_of_the_histogram(tmp_path):
    def change(place, arrays):
        arrays["histograms"] = np.array([[900, 10, 20, 20, 700]] * 2)
        arrays["edges"] = np.array([[-1.0, 0, 1, 2, 4, 5]] * 2)

    panel = SurrogatePanel(Figure().subplots(), in_order(made(tmp_path, change=change)), 1)
    bars, *_ = panel.update(0)
    assert bars.get_data().values == pytest.approx([1, 0.5, 1, 0.5, 1])


def test_thresholds_and_the_bulk_of_membranes_are_in_view(tmp_path):
    def change(place, arrays):
        arrays["histograms"][:] = 0
        arrays["histograms"][:, 8:12] = 10
        arrays["thresholds"] = np.array([3.5, 30.0])

    recording = made(tmp_path, change=change)
    for layer, theta in ((1, 3.5), (2, 30.0)):
        axes = Figure().subplots()
        SurrogatePanel(axes, in_order(recording), layer)
        low, high = axes.get_xlim()
        assert low <= recording[0].layers[layer - 1].edges[8]
        assert high > theta


def test_the_surrogate_in_pixels(recording):
    film = surrogate_film(recording, layers=[1])
    (axes,) = film.figure.axes
    for frame, image in enumerate(film.images()):
        columns, counts = np.unique(pixels_like(image, ORANGE, axes)[:, 1], return_counts=True)
        line = columns[counts > 0.4 * axes.bbox.height]
        _, expected = place_of(film.figure, axes, THETA_0 + RISE * frame, 0)
        assert abs(line.mean() + 0.5 - expected) <= 1
        # The peak of the gradient stays at θ0, while θ moves on.
        green = pixels_like(image, GREEN, axes)
        top = green[green[:, 0] <= green[:, 0].min() + 2, 1]
        if frame:
            _, expected = place_of(film.figure, axes, THETA_0, 0)
            assert abs(np.median(top) + 0.5 - expected) <= 2


# Input


def shown(axes):
    """A figure as it looks, and the place of a pixel of an image in it."""
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]

    def pixel(row, column):
        x, y = axes.transData.transform((column, row))
        return picture[int(picture.shape[0] - y), int(x)] / 255

    return pixel


@pytest.mark.parametrize("style", ["light", "dark"])
def test_an_image_is_upright_and_dark_on_light_or_light_on_dark(style):
    image = np.zeros((1, 4, 6), dtype=np.float32)
    image[0, 1, 5] = 1.0
    image[0, 3, 0] = 0.5
    with theme(style):
        axes = Figure(figsize=(3, 2), dpi=50).subplots()
        panel = InputPanel(axes, image)
        pixel = shown(axes)
    ink, ground = pixel(1, 5).mean(), pixel(0, 0).mean()
    assert (ink < 0.1 and ground > 0.9) if style == "light" else (ink > 0.9 and ground < 0.1)
    assert abs(pixel(3, 0).mean() - 0.5) < 0.1
    assert pixel(2, 1).mean() == pytest.approx(ground, abs=0.02)
    (title,) = panel.update(3)
    assert title.get_text() == "input, step 3"


def test_an_image_in_colour():
    image = np.zeros((3, 4, 6), dtype=np.float32)
    image[0, 1, 5], image[1, 2, 0], image[2, 3, 3] = 1, 1, 1
    axes = Figure(figsize=(3, 2), dpi=50).subplots()
    InputPanel(axes, image)
    pixel = shown(axes)
    for place, expected in (((1, 5), [1, 0, 0]), ((2, 0), [0, 1, 0]), ((3, 3), [0, 0, 1])):
        assert pixel(*place) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("channels", [2, 5])
def test_an_image_of_other_channels_is_their_mean(channels):
    image = np.zeros((channels, 4, 6), dtype=np.float32)
    image[:, 1, 5] = 1
    axes = Figure(figsize=(3, 2), dpi=50).subplots()
    InputPanel(axes, image)
    pixel = shown(axes)
    assert pixel(1, 5).mean() < 0.1
    assert pixel(0, 0).mean() > 0.9


@pytest.mark.parametrize(
    ("style", "on", "off"), [("light", BLUE, VERMILION), ("dark", SKY, ORANGE)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_events_have_the_colour_of_their_polarity_at_their_pixel(style, on, off, dtype):
    events = np.zeros((20, 2, 4, 6), dtype=dtype)
    events[10, 1, 1, 5] = 9  # on, in row 1
    events[3, 0, 2, 0] = 9  # off
    with theme(style):
        axes = Figure(figsize=(3, 2), dpi=50).subplots()
        panel = InputPanel(axes, events, step_ms=2.5)
        ground = to_rgb(mpl.rcParams["axes.facecolor"])
    for step in (0, 2, 3, 7, 8, 9, 10, 14, 15, 4):
        _, title = panel.update(step)
        with theme(style):
            pixel = shown(axes)
        # The events of the last five steps.
        assert pixel(1, 5) == pytest.approx(to_rgb(on) if 10 <= step < 15 else ground, abs=0.01)
        assert pixel(2, 0) == pytest.approx(to_rgb(off) if 3 <= step < 8 else ground, abs=0.01)
        assert pixel(1, 0) == pytest.approx(ground, abs=0.01)
        assert title.get_text() == f"input, step {step}, {step * 2.5:.0f} ms"


def test_events_of_several_steps_add_up():
    events = np.zeros((40, 1, 3, 3), dtype=np.uint8)
    events[:, 0, 0, :] = 2  # makes ten the brightest
    for step, (row, count) in enumerate([(1, 1), (1, 2), (1, 3), (2, 4)]):
        events[step, 0, row, 0] = count
    axes = Figure().subplots()
    (picture, _) = InputPanel(axes, events).update(3)
    picture = np.asarray(picture.get_array())
    ground, own = np.ones(3), np.array(to_rgb(BLUE))
    for place, strength in (((1, 0), 0.6), ((2, 0), 0.4), ((0, 1), 0.8), ((2, 2), 0)):
        expected = ground * (1 - strength) + own * strength
        np.testing.assert_allclose(picture[place], expected, atol=1e-6)


@pytest.mark.parametrize("time", [1, 4, 5, 6])
def test_events_of_a_few_steps_are_drawn(time):
    events = np.zeros((time, 2, 3, 3), dtype=np.uint8)
    events[0, 1, 2, 1] = 1
    axes = Figure().subplots()
    picture, _ = InputPanel(axes, events).update(0)
    seen = np.asarray(picture.get_array())
    assert seen[2, 1] == pytest.approx(to_rgb(BLUE))
    assert seen[0, 0] == pytest.approx([1, 1, 1])


def test_channels_are_drawn_from_below_and_the_cursor_is_at_the_step():
    spikes = np.zeros((20, 30), dtype=np.uint8)
    spikes[4:7, 0:3] = 1  # low channels, early
    spikes[15:18, 25:28] = 1
    axes = Figure(figsize=(6, 4), dpi=100).subplots()
    panel = InputPanel(axes, spikes, step_ms=3.0)
    line, title = panel.update(10)
    pixel = shown(axes)
    assert pixel(1.5, 5.5).mean() < 0.1  # (channel, step)
    assert pixel(26.5, 16.5).mean() < 0.1
    assert pixel(26.5, 5.5).mean() > 0.9
    assert pixel(1.5, 16.5).mean() > 0.9
    assert axes.get_ylim() == (0, 30)
    assert set(line.get_xdata()) == {10.5}  # in the middle of the step
    assert to_hex(pixel(12, 10.5)).upper() == ORANGE
    assert title.get_text() == "input, step 10, 30 ms"


@pytest.mark.parametrize(
    "shape", [(1, 4, 4), (20, 2, 4, 4), (20, 30)], ids=["image", "frames", "channels"]
)
def test_an_empty_input_is_an_empty_panel(shape):
    axes = Figure(figsize=(2, 2), dpi=40).subplots()
    InputPanel(axes, np.zeros(shape)).update(0)
    pixel = shown(axes)
    assert pixel(1, 3).min() > 0.95


# Output spikes by class


def test_bars_are_the_spikes_so_far():
    spikes = np.random.default_rng(0).integers(0, 2, (12, 3), dtype=np.uint8)
    axes = Figure().subplots()
    with theme("light"):
        panel = SpikeCountPanel(axes, spikes, target=1, names=("zero", "one", "two"))
    for step in (11, 0, 5):
        bars = panel.update(step)
        expected = [sum(int(s) for s in spikes[: step + 1, c]) for c in range(3)]
        assert [bar.get_height() for bar in bars] == expected
    # The sample's class has the colour the axis names.
    colours = [to_hex(bar.get_facecolor()).upper() for bar in bars]
    assert colours == [BLUE, GREEN, BLUE]
    assert axes.get_xlabel() == "class (green: one)"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["zero", "one", "two"]
    assert axes.get_ylim()[1] > spikes.sum(0).max()


def test_many_classes_have_some_of_their_names():
    axes = Figure().subplots()
    bars = SpikeCountPanel(axes, np.zeros((4, 35)), target=34).update(3)
    assert len(bars) == 35
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == [str(i) for i in range(0, 35, 4)]
    assert list(axes.get_xticks()) == list(range(0, 35, 4))


@pytest.mark.parametrize("sample", [0, 1, 2])
def test_the_response_is_of_the_sample(recording, sample):
    film = window_film(recording, sample=sample)
    image, bars, *_ = film.figure.axes
    picture = np.asarray(image.images[0].get_array())
    np.testing.assert_array_equal(picture, recording.probe.inputs[sample, 0])
    film.still(7)
    spikes = recording[-1].layers[1].trace.spikes[:8, sample]
    assert [bar.get_height() for bar in bars.patches] == spikes.sum(0).tolist()
    assert bars.get_xlabel() == f"class (green: {('zero', 'one', 'two')[sample]})"
    assert film.frames == 12


def test_the_response_of_a_trace_to_learn_has_no_classes(tmp_path):
    recording = made(
        tmp_path,
        samples=1,
        inputs=np.random.default_rng(0).integers(0, 2, (12, 1, 9)),
        static=False,
        targets=np.zeros((12, 1, 3)),
        class_names=np.array([], dtype=np.str_),
    )
    for view in FILMS:
        images = images_of(film_of(view, recording))
        assert len(images) == (12 if view == "response" else 3)
    assert len(window_film(recording).figure.axes) == 3  # input and two layers
    assert FILMS["training"](recording).figure.axes[1].get_xlabel() == "time step"


def test_outputs_of_which_only_some_were_recorded_are_not_counted(tmp_path):
    layers = (("9", (9,), (0, 1)), ("20", (20,), (3, 8, 11)))
    recording = made(tmp_path, layers=layers)
    titles = [axes.get_title() for axes in window_film(recording).figure.axes]
    assert "output spikes so far" not in titles


# Refusals


@pytest.mark.parametrize("view", FILMS)
def test_a_layer_that_is_not_there_is_refused(view, recording):
    for layer in (0, 3, -1):
        with pytest.raises(InvalidValueError, match=re.escape(f"1 to 2 (4C3, 3), but got {layer}")):
            FILMS[view](recording, layers=[1, layer])


@pytest.mark.parametrize("view", ["training", "response"])
def test_a_sample_or_neuron_that_was_not_recorded_is_refused(view, recording):
    for sample in (-1, 3):
        with pytest.raises(
            InvalidValueError, match=f"sample must be from 0 to 2, but got {sample}"
        ):
            FILMS[view](recording, sample=sample)
    with pytest.raises(InvalidValueError, match="neuron 7 of layer 1 .* recorded are 1, 5, 6, 14"):
        FILMS[view](recording, layers=[1], neurons=[1, 7])
    with pytest.raises(InvalidValueError, match="neurons 1 are of one layer; .*--layer"):
        FILMS[view](recording, neurons=[1])


def test_an_iteration_beyond_the_recorded_ones_is_refused(recording, tmp_path):
    for iteration in (0, 9, -1):
        with pytest.raises(InvalidValueError, match=f"from 1 to 8, but got {iteration}"):
            window_film(recording, iteration)
    late = made(tmp_path, iterations=(4, 6))
    with pytest.raises(InvalidValueError, match="from 5 to 7, but got 3"):
        window_film(late, 3)


def test_arrays_that_do_not_fit_are_refused():
    good = output_recording()
    for changes in (
        {"spikes": good.spikes[:, 1:]},
        {"threshold": good.threshold[1:]},
        {"target": good.target[1:]},
        {"membranes": good.membranes[:0]},
    ):
        with pytest.raises(InvalidValueError, match="membranes of shape"):
            OutputRecording(**{**vars(good), **changes})
    with pytest.raises(InvalidValueError, match="of one length, at least one, but got none"):
        temporal_coding_film({})
    with pytest.raises(InvalidValueError, match="one: 6, two: 5"):
        temporal_coding_film({"one": good, "two": output_recording(iterations=5)})
    with pytest.raises(InvalidValueError, match="iteration must be from 0 to 5, but got 6"):
        OutputPanel(Figure().subplots(), good, [0, 6])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_side_by_side_each_recording_has_its_panel(count):
    recordings = {f"case {i}": output_recording(i) for i in range(count)}
    film = temporal_coding_film(recordings)
    shown = [axes for axes in film.figure.axes if axes.get_visible()]
    assert len(shown) == max(count, 2)  # one alone has its spikes beside it
    film.still(4)
    assert film.figure.get_suptitle() == "training iteration 5 of 6"
    for axes, (title, recording) in zip(shown, recordings.items(), strict=False):
        assert axes.get_title() == f"{title}, θ = {recording.threshold[4]:.3g}"
        assert np.array_equal(axes.lines[1].get_ydata(), recording.membranes[4])
    labelled = [axes for axes in shown if axes.get_xlabel() == "time step"]
    assert len(labelled) == min(count, 2) if count > 1 else 2
