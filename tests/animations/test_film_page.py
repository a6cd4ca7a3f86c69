"""A film's page, opened and used in a browser."""

from __future__ import annotations

import json
import time

import films
import numpy as np
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

pytest_plugins = ["browser"]

FRAMES = 30
PIXELS = """
const canvas = document.getElementById("canvas");
const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
return Array.from(data);
"""


@pytest.fixture(scope="module")
def film():
    return films.film(frames=FRAMES, fps=10, title="a neuron learns")


@pytest.fixture(scope="module")
def address(film, tmp_path_factory):
    return film.save(tmp_path_factory.mktemp("film") / "film.html").as_uri()


@pytest.fixture
def page(browser, address):
    for kind in ("performance", "browser"):
        browser.get_log(kind)  # of the test before
    media(browser)
    size(browser, 1100, 900)
    browser.get(address)
    until(lambda: frame_on(browser) == 0)
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def until(condition, seconds=120):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def media(browser, scheme="light"):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )


def size(browser, width, height):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )


def find(page, name):
    return page.find_element(By.ID, name)


def frame_on(page):
    """The number of the frame that the canvas shows."""
    return int(find(page, "canvas").get_attribute("data-frame") or -1)


def pixels(page):
    return np.array(page.execute_script(PIXELS), dtype=np.uint8).reshape(240, 320, 4)


def press(page, *keys):
    page.find_element(By.TAG_NAME, "body").send_keys(*keys)


def close_to(shown, drawn):
    return np.abs(shown[..., :3].astype(int) - drawn).max() <= 24


def test_the_first_frame_is_there_before_playing(page, film):
    assert close_to(pixels(page), next(film.images([0])))
    assert find(page, "counter").text == f"1 / {FRAMES}"
    assert (pixels(page)[..., 3] == 255).all()


CLOCK = """
let now = 0, due = [];
performance.now = () => now;
window.requestAnimationFrame = (tick) => due.push(tick);
window.cancelAnimationFrame = () => { due = []; };
window.pass = (milliseconds) => {
  const ticks = due;
  now += milliseconds;
  due = [];
  ticks.forEach((tick) => tick(now));
};
"""
"""The page's time, which passes when a test says so."""


def play_for(page, milliseconds, speed="1"):
    """Play for so long."""
    page.execute_script(CLOCK)
    Select(find(page, "speed")).select_by_value(speed)
    find(page, "play").click()
    page.execute_script(f"pass({milliseconds})")


def test_play_goes_on_and_pause_stops(page):
    before = pixels(page)
    play_for(page, 710)
    assert find(page, "play").text == "Pause"
    until(lambda: frame_on(page) == 7)
    find(page, "play").click()
    assert find(page, "play").text == "Play"
    until(lambda: find(page, "counter").text == f"8 / {FRAMES}")
    image = pixels(page)
    assert not np.array_equal(image, before)
    page.execute_script("pass(400)")
    time.sleep(0.1)  # in which an image would come
    assert frame_on(page) == 7
    assert np.array_equal(pixels(page), image)


def test_playing_goes_by_the_browsers_clock(page):
    find(page, "play").click()
    until(lambda: frame_on(page) > 0)


def test_playing_keeps_time_and_starts_again(page):
    play_for(page, 501, "4")
    until(lambda: frame_on(page) == 20)
    page.execute_script(f"pass({(FRAMES - 17) * 25})")
    until(lambda: frame_on(page) == 3)  # after the last comes the first


def test_speed_slows_down(page):
    play_for(page, 1001, "0.25")
    until(lambda: frame_on(page) == 2)  # ten at full speed


def test_the_slider_seeks(page, film):
    drawn = list(film.images([0, 17, FRAMES - 1]))
    # As a hand does: the value and the event that follows.
    page.execute_script(
        "const s = document.getElementById('slider'); s.value = 17;"
        "s.dispatchEvent(new Event('input'));"
    )
    until(lambda: frame_on(page) == 17)
    assert close_to(pixels(page), drawn[1])
    assert not close_to(pixels(page), drawn[0])
    slider = find(page, "slider")
    assert slider.get_attribute("aria-valuetext") == f"frame 18 / {FRAMES}"
    # A real click at its right end.
    width = slider.size["width"]
    ActionChains(page).move_to_element_with_offset(slider, width // 2 - 2, 0).click().perform()
    until(lambda: frame_on(page) == FRAMES - 1)
    assert close_to(pixels(page), drawn[2])


def test_the_slider_follows_the_film_and_seeking_pauses_it(page):
    find(page, "play").click()
    until(lambda: int(find(page, "slider").get_attribute("value")) > 2)
    press(page, Keys.HOME)
    until(lambda: frame_on(page) == 0)
    assert find(page, "play").text == "Play"


def test_keys(page, film):
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    until(lambda: frame_on(page) == 3)
    press(page, Keys.ARROW_LEFT)
    until(lambda: frame_on(page) == 2)
    assert close_to(pixels(page), next(film.images([2])))
    press(page, Keys.END, Keys.ARROW_RIGHT)
    until(lambda: frame_on(page) == FRAMES - 1)
    press(page, Keys.HOME, Keys.ARROW_LEFT)
    until(lambda: frame_on(page) == 0)
    press(page, Keys.SPACE)
    until(lambda: frame_on(page) > 1)
    press(page, Keys.SPACE)
    assert find(page, "play").text == "Play"


@pytest.mark.parametrize("name", ["play", "slider"])
def test_keys_work_once_wherever_the_focus_is(page, name):
    page.execute_script(f"document.getElementById('{name}').focus()")
    element = page.switch_to.active_element
    element.send_keys(Keys.ARROW_RIGHT)
    until(lambda: frame_on(page) == 1)
    element.send_keys(Keys.SPACE)
    assert find(page, "play").text == "Pause"
    element.send_keys(Keys.SPACE)
    assert find(page, "play").text == "Play"


def test_the_list_of_speeds_keeps_its_keys(page):
    find(page, "speed").send_keys(Keys.ARROW_RIGHT)
    assert find(page, "speed").get_attribute("value") == "2"
    assert frame_on(page) == 0


def test_everything_has_a_name(page):
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in tree
        if not node["ignored"]
    }
    assert {("button", "Play"), ("slider", "frame"), ("combobox", "speed")} <= named
    assert named & {("image", "a neuron learns"), ("img", "a neuron learns")}
    assert page.title == "a neuron learns"
    assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"


def test_nothing_is_fetched(page, address):
    find(page, "play").click()
    until(lambda: frame_on(page) > 5)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in sent if not url.startswith("data:image/png;base64,")] == [address]


def test_dark_and_light_follow_the_reader(page):
    def ground():
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")

    assert ground() == "rgb(255, 255, 255)"
    media(page, "dark")
    assert ground() == "rgb(22, 24, 29)"
    colour = page.execute_script("return getComputedStyle(document.body).color")
    assert colour == "rgb(232, 232, 232)"


@pytest.mark.parametrize("width", [320, 480, 1100])
def test_it_fits_the_window(page, width):
    size(page, width, 800)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    canvas = find(page, "canvas").rect
    assert canvas["width"] == pytest.approx(min(width - 16, 320), abs=1)
    assert canvas["height"] == pytest.approx(canvas["width"] * 0.75, abs=1)
    for name in ("play", "slider", "speed", "counter"):
        rect = find(page, name).rect
        assert rect["x"] >= 0 and rect["x"] + rect["width"] <= width
        if name != "counter":
            assert rect["height"] >= 40  # for fingers
    size_of_text = page.execute_script(
        "return getComputedStyle(document.getElementById('counter')).fontSize"
    )
    assert size_of_text == "16px"


def test_two_films_in_a_notebook_do_not_meet(page, tmp_path):
    parts = [films.film(frames=3, seed=seed)._repr_html_() for seed in (0, 1)]
    (tmp_path / "notebook.html").write_text("<!DOCTYPE html>" + "".join(parts))
    page.get((tmp_path / "notebook.html").as_uri())
    shown = []
    for index, frame in enumerate((2, 1)):
        page.switch_to.frame(index)
        until(lambda: frame_on(page) == 0)
        find(page, "slider").send_keys(*[Keys.ARROW_RIGHT] * frame)
        until(lambda frame=frame: frame_on(page) == frame)
        shown.append(pixels(page))
        page.switch_to.default_content()
    for seed, (frame, image) in enumerate(zip((2, 1), shown, strict=True)):
        assert close_to(image, next(films.film(frames=3, seed=seed).images([frame])))
