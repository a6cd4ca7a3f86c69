"""Figures of random artists in random order, some of which move."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Circle


class RandomPanel:
    """Draws on a new figure; the same seed draws the same."""

    def __init__(self, figure, seed):
        self.seed, self.moving = seed, []
        rng = np.random.default_rng(seed)

        def chance(share):
            return bool(rng.random() < share)

        axes = list(figure.subplots(1, int(rng.integers(1, 4)), squeeze=False)[0])
        if chance(0.4):
            axes.append(axes[0].twinx())
        if chance(0.3):
            axes.append(axes[-1].twiny())
        if chance(0.3):
            axes.append(axes[0].inset_axes([0.3, 0.3, 0.6, 0.6]))
        for each in axes:
            each.grid(chance(0.3))
            each.tick_params(direction=str(rng.choice(["in", "out", "inout"])), length=9)
            if chance(0.2):
                each.set_axisbelow(chance(0.5))
            if chance(0.1):
                each.axis("off")
            if chance(0.3):
                each.set_title("beside", loc=str(rng.choice(["left", "right"])))
            each.set(xlim=(0, 1), ylim=(0, 1))
            for _ in range(rng.integers(1, 7)):
                kind = str(rng.choice(list(MOVES)))
                artist = self.add(each, kind, rng)
                if chance(0.7):
                    artist.set_zorder(float(rng.choice([0, 1, 1.5, 2.3, 2.7, 5])))
                artist.set_clip_on(chance(0.7))
                artist.set_alpha(float(rng.choice([0.4, 1])))
                if chance(0.5):
                    self.moving.append((kind, artist))
            if chance(0.3):
                each.plot([], [], label="legend")
                each.legend(loc="upper right", shadow=chance(0.3))
            if chance(0.2):
                self.moving.append(("words", each.title))
        if chance(0.3):
            self.moving.append(("words", figure.text(0.3, 0.3, "figure", fontsize=30)))
        figure.suptitle("above all")

    @staticmethod
    def add(axes, kind, rng):
        x, y = rng.random(5), rng.random(5) * 1.3 - 0.15
        if kind == "line":
            return axes.plot(x, y, lw=rng.integers(1, 8))[0]
        if kind == "points":
            return axes.scatter(x, y, s=100)
        if kind == "text":
            size, angle = rng.integers(8, 30), rng.integers(0, 90)
            return axes.text(x[0], y[0], "text gjÅ", fontsize=size, rotation=angle)
        if kind == "image":
            return axes.imshow(rng.random((3, 4)), extent=(0, 0.7, 0.2, 1), aspect="auto")
        if kind == "circle":
            return axes.add_patch(Circle((x[0], y[0]), 0.2, lw=4, ec="black"))
        if kind == "band":
            return axes.axvspan(x[0], x[1])
        arrow = {"arrowstyle": "->"}
        return axes.annotate("note", (x[0], y[0]), (x[1], y[1]), arrowprops=arrow)

    def update(self, frame):
        for index, (kind, artist) in enumerate(self.moving):
            rng = np.random.default_rng([self.seed, frame, index])
            MOVES[kind](artist, rng)
            if kind != "words":
                artist.set_visible(bool(rng.random() < 0.8))
        return [artist for _, artist in self.moving]


def _wide(rng, *shape):
    """Within the axes mostly, and a little beside them."""
    return rng.random(shape) * 1.3 - 0.15


MOVES = {
    "line": lambda artist, rng: artist.set_data(_wide(rng, 5), _wide(rng, 5)),
    "points": lambda artist, rng: artist.set_offsets(_wide(rng, 5, 2)),
    "text": lambda artist, rng: artist.set_position(_wide(rng, 2)),
    "image": lambda artist, rng: artist.set_data(rng.random((3, 4))),
    "circle": lambda artist, rng: artist.set_center(rng.random(2)),
    "band": lambda artist, rng: artist.set_color(f"C{rng.integers(0, 9)}"),
    "note": lambda artist, rng: artist.set_text("a" * rng.integers(0, 5)),
    "words": lambda artist, rng: artist.set_text("gjM\n" * rng.integers(1, 3)),
}
