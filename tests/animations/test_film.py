"""Films draw the right pixels, keep nothing, and leave nothing half-written."""

from __future__ import annotations

import errno
import os
import sys
import weakref

import films
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from random_figures import RandomPanel

from animations import formats
from animations.film import Film
from animations.layout import lay_out
from animations.style import THEMES, theme
from bsnn_tha.cli import animate
from bsnn_tha.errors import BsnnThaError, FilmError, InvalidValueError


def drawn(figure):
    """The whole figure drawn as it is now."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class Everything:
    """What is hard to blit: things above, beside, around and within each other."""

    def __init__(self, figure):
        self.figure = figure
        upper, lower = figure.subplots(2, 1)
        self.waves = films.Wave(upper, films.rows(9))
        self.image = lower.imshow(np.zeros((4, 5)), vmin=0, vmax=1, aspect="auto")
        lower.grid(True)
        lower.set_xlabel("under the image")
        self.scatter = lower.scatter([1, 2], [1, 2], s=200, alpha=0.5, zorder=1.2)
        twin = upper.twinx()
        twin.plot([0, 19], [1, 0], color="black", lw=5, alpha=0.4)
        twin.set_ylabel("twin")
        inset = lower.inset_axes([0.6, 0.1, 0.3, 0.8])
        inset.set_xlim(0, 9)
        (self.inner,) = inset.plot([0], [0], "s", ms=10)
        inset.text(0.1, 0.4, "over", transform=inset.transAxes, alpha=0.5)
        self.zoomed = upper.inset_axes([0.7, 0.6, 0.28, 0.35])
        (self.zoom,) = self.zoomed.plot([0, 1, 5], [0, 1, 0])
        # Wanders over all of it, unclipped.
        self.text = figure.text(0.1, 0.1, "wanderer", fontsize=20, color="C3", alpha=0.7)
        figure.text(0.5, 0.5, "STILL, ABOVE", fontsize=18, alpha=0.5, zorder=9)
        box = {"facecolor": "yellow", "alpha": 0.3, "boxstyle": "round,pad=3"}
        figure.text(0.8, 0.9, "boxed", bbox=box)
        glow = [patheffects.withStroke(linewidth=30, foreground="orange", alpha=0.4)]
        figure.text(0.3, 0.3, "glowing", path_effects=glow)
        self.late = upper.annotate("late", (3, 0), (9, 2), arrowprops={"arrowstyle": "->"})
        upper.spines[["top", "right"]].set_linewidth(3)

    def update(self, frame):
        changed = self.waves.update(frame)
        self.image.set_data(np.random.default_rng(frame).random((4, 5)))
        self.scatter.set_offsets([[frame / 3, 1], [2, frame / 4]])
        self.inner.set_data([frame], [0])
        self.zoomed.set_xlim(0, 1 + frame)
        self.text.set_position((0.1 * frame, 0.09 * frame))
        self.late.set_text("later" * (frame % 3))
        parts = [self.image, self.scatter, self.inner, self.text, self.late]
        return [*changed, *parts, self.zoomed.xaxis, self.zoom]


@pytest.mark.parametrize("order", [range(9), [8, 3, 3, 0, 5]], ids=["in order", "any order"])
def test_a_frame_is_the_figure_drawn_anew(order):
    def fresh():
        figure = Figure(figsize=(5, 4), dpi=80)
        return figure, Everything(figure)

    film = Film(*(lambda figure, panel: (figure, [panel]))(*fresh()), frames=9)
    for frame, image in zip(order, film.images(order), strict=True):
        figure, panel = fresh()
        panel.update(frame)
        assert np.array_equal(image, drawn(figure)), frame


@pytest.mark.parametrize("seed", range(12))
def test_a_frame_of_any_figure_is_the_figure_drawn_anew(seed):
    def fresh():
        figure = Figure(figsize=(5, 3), dpi=60)
        return figure, RandomPanel(figure, seed)

    figure, panel = fresh()
    for frame, image in enumerate(Film(figure, [panel], frames=4).images()):
        figure, again = fresh()
        again.update(frame)
        assert np.array_equal(image, drawn(figure)), frame


def test_only_what_changes_is_drawn_again(monkeypatch):
    film = films.film(frames=6)
    axis = film.figure.axes[0].yaxis.label
    calls = []
    monkeypatch.setattr(axis, "draw", lambda renderer: calls.append(1))
    film.figure.axes[0].xaxis.set_visible(False)
    film.panels[0].bars = []  # bars lie below the axis, which then is drawn with them
    film.panels[0].update = lambda frame: [film.panels[0].line]
    list(film.images())
    few = len(calls)
    list(film.images([*range(6)] * 4))
    assert few == len(calls) - few  # as often for four times the frames


def test_an_artist_named_later_is_drawn_from_then_on():
    class Late(films.Wave):
        def update(self, frame):
            changed = super().update(frame)
            return changed if frame else changed[1:]  # not the line, at first

    def fresh():
        figure = Figure(figsize=(3, 2))
        return figure, Late(figure.subplots(), films.rows(3))

    figure, panel = fresh()
    for frame, image in enumerate(Film(figure, [panel], frames=3).images()):
        figure, again = fresh()
        again.update(frame)
        assert np.array_equal(image, drawn(figure)), frame


def test_parts_of_a_legend_and_whole_axes_may_change():
    class Parts:
        def __init__(self, figure):
            self.one, self.two = figure.subplots(1, 2)
            self.one.plot([0, 1], label="label")
            self.legend = self.one.legend(loc="center")
            (self.line,) = self.two.plot([0, 1])

        def update(self, frame):
            self.legend.get_texts()[0].set_text("x" * frame)
            self.two.set_ylim(0, frame + 1)
            self.line.set_ydata([0, frame])
            return [self.legend.get_texts()[0], self.two, self.line]

    def fresh():
        figure = Figure(figsize=(4, 2))
        return figure, Parts(figure)

    figure, panel = fresh()
    for frame, image in enumerate(Film(figure, [panel], frames=3).images()):
        figure, again = fresh()
        again.update(frame)
        assert np.array_equal(image, drawn(figure)), frame


def test_hidden_axes_stay_hidden_and_come_back():
    class Blinking:
        def __init__(self, figure):
            self.axes, _ = figure.subplots(1, 2)
            (self.line,) = self.axes.plot([0, 1])
            self.axes.set_facecolor("yellow")
            figure.text(0.3, 0.5, "above", alpha=0.5)

        def update(self, frame):
            self.axes.set_visible(frame % 2 == 0)
            self.line.set_ydata([0, frame / 9])
            return [self.line, self.axes][: 1 + (frame > 0)]

    def fresh():
        figure = Figure(figsize=(4, 2))
        return figure, Blinking(figure)

    figure, panel = fresh()
    for frame, image in enumerate(Film(figure, [panel], frames=4).images()):
        figure, again = fresh()
        again.update(frame)
        assert np.array_equal(image, drawn(figure)), frame


@pytest.mark.parametrize("projection", ["polar", "3d"])
def test_axes_that_draw_in_their_own_way(projection):
    class Turning:
        def __init__(self, figure):
            one, two = (figure.add_subplot(1, 2, i + 1, projection=projection) for i in range(2))
            two.plot([0, 1], [0, 1])
            parts = [[0, 1], [0, 1], [0, 1]][: 3 if projection == "3d" else 2]
            (self.line,) = one.plot(*parts)
            figure.text(0.2, 0.5, "above", alpha=0.5)

        def update(self, frame):
            self.line.set_color(f"C{frame}")
            return [self.line]

    def fresh():
        figure = Figure(figsize=(4, 2))
        return figure, Turning(figure)

    figure, panel = fresh()
    for frame, image in enumerate(Film(figure, [panel], frames=3).images()):
        figure, again = fresh()
        again.update(frame)
        assert np.array_equal(image, drawn(figure)), frame


def test_a_layout_is_made_once():
    def fresh():
        figure = Figure(figsize=(4, 3), layout="constrained")
        return figure, films.Wave(figure.subplots(), films.rows(4))

    figure, panel = fresh()
    images = list(Film(figure, [panel], frames=4).images())
    figure, panel = fresh()
    panel.update(0)
    drawn(figure)
    figure.set_layout_engine("none")
    for frame in range(4):
        panel.update(frame)
        assert np.array_equal(images[frame], drawn(figure)), frame


@pytest.mark.parametrize(("label", "columns"), [("θ", 5), ("layer 4, 64C3", 4), ("a" * 60, 1)])
def test_a_legend_has_as_many_columns_as_fit(label, columns):
    with theme("light"):
        figure = Figure(figsize=(9.6, 5.4))
        axes = figure.subplots()
        for number in range(6):
            axes.plot([0, 1], label=f"{label}{number}")
        lay_out(figure, axes)
    (legend,) = figure.legends
    assert legend._ncols == columns
    assert 0 < legend.get_window_extent().x0 < legend.get_window_extent().x1 < figure.bbox.width


def test_a_see_through_figure_is_on_white():
    film = films.film(frames=2)
    film.figure.set_facecolor("none")
    film.figure.axes[0].set_facecolor("none")
    shown = list(film.images())
    film.figure.set_facecolor("white")
    for one, other in zip(shown, film.images(), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 4  # blended twice, in eight bits
    assert (shown[0][0, 0] == 255).all()


def test_two_inputs_are_two_films_and_the_same_input_is_the_same_film():
    one, same, other = (list(films.film(seed=seed).images()) for seed in (0, 0, 1))
    assert all(map(np.array_equal, one, same))
    assert not any(map(np.array_equal, one, other))
    assert not np.array_equal(one[0], one[1])


def test_colours_are_those_of_the_moment_the_film_was_made():
    def fresh():
        figure = Figure(figsize=(4, 3))
        return figure, films.Wave(figure.subplots(), films.rows(2))

    with theme("dark"):
        figure, panel = fresh()
        film = Film(figure, [panel], frames=2)
        again, other = fresh()
        other.update(0)
        expected = drawn(again)
    images = film.images()
    assert np.array_equal(next(images), expected)
    assert mpl.rcParams["text.color"] == "black"  # also while the film is being drawn
    images.close()
    # The ground, and text on it, by its brightest pixel.
    assert tuple(expected[0, 0]) == (0x16, 0x18, 0x1D)
    assert expected[-40:].max() > 200


def test_the_figure_is_left_as_it_was():
    film = films.film()
    figure = film.figure
    before, canvas = film.still(2).dpi, figure.canvas
    expected = drawn(figure)
    figure.set_canvas(canvas)
    images = film.images(dpi=50)
    next(images)
    images.close()
    assert (figure.dpi, figure.canvas) == (before, canvas)
    assert not any(artist.get_animated() for artist in figure.findobj())
    film.still(2)
    assert np.array_equal(drawn(figure), expected)


def test_an_interactive_session_does_not_draw_along(monkeypatch):
    figure, axes = plt.subplots(figsize=(3, 2))
    film = Film(figure, [films.Wave(axes, films.rows(20))], frames=20)
    draws = []
    original = FigureCanvasAgg.draw
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda self: (draws.append(1), original(self)))
    with plt.ion():
        list(film.images())
    plt.close(figure)
    assert len(draws) < 10


def test_sizes_follow_dpi():
    film = films.film(frames=1)
    assert film.size() == (320, 240)
    assert film.size(dpi=50) == (160, 120)
    assert next(film.images(dpi=50)).shape == (120, 160, 3)


def test_images_are_not_kept():
    alive, most = [], 0
    for image in films.film(frames=30).images():
        alive.append(weakref.ref(image.base if image.base is not None else image))
        most = max(most, sum(one() is not None for one in alive))
    assert most <= 2


@pytest.mark.parametrize("frames", [0, -1])
def test_no_frames(frames):
    with pytest.raises(InvalidValueError, match=f"at least one frame, got {frames}"):
        Film(Figure(), [], frames=frames)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_no_rate(fps, tmp_path):
    with pytest.raises(InvalidValueError, match="frames per second"):
        Film(Figure(), [], frames=1, fps=fps)
    with pytest.raises(InvalidValueError, match="frames per second"):
        films.film().save(tmp_path / "film.gif", fps=fps)


def test_no_such_frame():
    with pytest.raises(InvalidValueError, match="frames 0 to 4, there is no frame 5"):
        films.film(frames=5).still(5)
    assert films.film(frames=5).still(-1).axes[0].get_title() == "FRAME 4"


def test_an_artist_of_another_figure():
    film = films.film()
    stranger = Figure().text(0, 0, "stranger")
    film.panels[0].update = lambda frame: [stranger]
    with pytest.raises(InvalidValueError, match="artists of its film's figure"):
        next(film.images())


@pytest.fixture
def undrawn(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a frame was drawn")

    monkeypatch.setattr(Film, "images", refuse)


@pytest.mark.parametrize("name", ["film.avi", "film", "film.gif.part"])
def test_an_unknown_extension(name, tmp_path, undrawn):
    with pytest.raises(InvalidValueError, match=r"\.gif, \.html, \.mp4 or \.webm") as caught:
        films.film().save(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path, undrawn):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.gif").mkdir()
    for place in ("file/film.gif", "folder.gif"):
        with pytest.raises(FilmError, match="cannot write .*choose another place"):
            films.film().save(tmp_path / place)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.gif"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_permission(tmp_path, undrawn):
    tmp_path.chmod(0o500)
    with pytest.raises(FilmError, match="Permission denied"):
        films.film().save(tmp_path / "film.gif")


def test_folders_above_are_made(tmp_path):
    assert films.film(frames=1).save(tmp_path / "a" / "b.gif") == tmp_path / "a" / "b.gif"
    assert (tmp_path / "a" / "b.gif").exists()


@pytest.mark.parametrize("extension", list(formats.FORMATS))
@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("there", [False, True], ids=["new", "replacing"])
def test_a_failure_midway_leaves_nothing_new(extension, error, there, tmp_path):
    film = films.film(frames=40)
    update = film.panels[0].update
    calls = []

    def failing(frame):
        calls.append(frame)
        if len(calls) == 20:  # past the sample that the palette is chosen from
            raise error
        return update(frame)

    film.panels[0].update = failing
    path = tmp_path / f"film{extension}"
    if there:
        path.write_text("an older film")
    with pytest.raises(type(error)):
        film.save(path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == (
        [(path.name, "an older film")] if there else []
    )
    assert not any(artist.get_animated() for artist in film.figure.findobj())


def test_a_full_disk(tmp_path, monkeypatch):
    def full(clip, path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(formats.FORMATS, ".gif", formats.Format(lambda clip: None, full))
    with pytest.raises(FilmError, match="No space left on device; make room"):
        films.film().save(tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


def test_a_film_replaces_an_older_one(tmp_path):
    path = tmp_path / "film.gif"
    path.write_text("an older film")
    films.film(frames=2).save(str(path))
    assert path.read_bytes().startswith(b"GIF89a")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_command_shows_a_bar_only_on_a_terminal(terminal, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    animate._write(films.film(frames=3), tmp_path / "film.gif", None, 100)
    out, err = capsys.readouterr()
    assert out.startswith("written to ") and out.count("\n") == 1
    assert ("drawing" in err) == terminal


def test_whoever_saves_a_film_can_watch_it_being_drawn(tmp_path):
    seen = []

    def watch(images, total):
        for image in images:
            seen.append((image.shape[-1], total))
            yield image

    films.film(frames=3).save(tmp_path / "film.html", watch=watch)
    assert seen and {total for _, total in seen} == {3}


def test_matplotlibs_own_animation(tmp_path):
    film = films.film(frames=3)
    animation = film.animation()
    animation.save(tmp_path / "film.gif", writer="pillow")
    assert animation._save_count == 3  # type: ignore[attr-defined]


def test_in_a_notebook():
    shown = films.film(frames=2, title='"a" < b')._repr_html_()
    assert shown.count("<iframe") == 1
    assert 'title="&quot;a&quot; &lt; b"' in shown


def test_themes():
    with pytest.raises(BsnnThaError, match="light and dark, got 'sepia'"), theme("sepia"):
        pass

    def luminance(colour):
        parts = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    def contrast(one, other):
        high, low = sorted([luminance(one), luminance(other)], reverse=True)
        return (high + 0.05) / (low + 0.05)

    for settings in THEMES.values():
        ground = settings["axes.facecolor"]
        assert contrast(settings["text.color"], ground) > 10
        assert contrast(settings["axes.edgecolor"], ground) > 4.5
        for colour in settings["axes.prop_cycle"].by_key()["color"]:
            assert contrast(colour, ground) > 2.2
        first = settings["axes.prop_cycle"].by_key()["color"][0]
        assert contrast(first, ground) > 4.5
    assert all(contrast(c, THEMES["dark"]["axes.facecolor"]) > 3 for c in ("C0", "C1", "C2", "C3"))
