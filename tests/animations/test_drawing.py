"""Figures as parts of a page: where their points lie, and what they leave to the page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from animations.drawing import Point, drawing, on_page, tips
from animations.style import BLUE, ORANGE


def drawn(name="points", scale="log"):
    """Three dots of a figure, as its markers and as its points."""
    with on_page():
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        places = [(0.01, 2.0), (0.1, 5.0), (7.0, 3.0)]
        axes.plot(*zip(*places, strict=True), "o", color=BLUE, label="one")
        axes.plot([0.01, 7.0], [2.5, 2.5], color=ORANGE)
        axes.set_xscale(scale)
        axes.set(xlabel="a label that takes place", ylabel="<b>")
        figure.legend(loc="outside lower center")
    points = [Point(axes, x, y, str(n)) for n, (x, y) in enumerate(places)]
    return drawing(figure, name, points)


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_points_lie_on_what_was_drawn(scale):
    svg = drawn(scale=scale)
    circles = re.findall(r'<circle data-key="(\d)" cx="([\d.]+)" cy="([\d.]+)"', svg)
    line = svg.partition('id="')[0] + svg  # the three markers come first
    markers = re.findall(r'<use [^>]*?x="([\d.]+)" y="([\d.]+)" style="fill: var\(--blue\)', line)
    assert len(circles) == len(markers[:3]) == 3
    for (number, *at), (place, marker) in zip(circles, enumerate(markers), strict=False):
        assert int(number) == place
        assert [*map(float, at)] == pytest.approx([*map(float, marker)], abs=0.06)


def test_colours_of_text_and_of_the_first_line_are_the_pages():
    svg = drawn()
    assert "var(--blue)" in svg and "currentColor" in svg
    assert ORANGE.lower() in svg  # as well seen on dark as on light
    assert BLUE.lower() not in svg and "#1b1b1b" not in svg and "#ffffff" not in svg
    assert "&lt;b&gt;" in svg and "<b>" not in svg


def test_two_drawings_share_no_names_and_use_all_they_have():
    first, second = drawn("first"), drawn("second")

    def names(svg):
        return set(re.findall(r' id="([^"]+)"', svg))

    def used(svg):
        return set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))

    assert names(first) and not names(first) & names(second)
    assert names(first) == used(first) and names(second) == used(second)
    assert "://" not in first  # nothing that a browser could ask another computer for


def test_texts_cannot_end_the_script_that_they_are_in():
    class Scripts(HTMLParser):
        count = 0

        def handle_starttag(self, tag, attrs):
            self.count += tag == "script"

    page = Scripts()
    page.feed(tips({"1": "</script><script>alert(1)</script>"}))
    assert page.count == 2
