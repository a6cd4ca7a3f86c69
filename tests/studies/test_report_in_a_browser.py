"""A study's page as its readers use it: with a mouse, a finger, keys, in the dark, on a phone."""

from __future__ import annotations

import pytest
from made_studies import BETA, SLOPE, made
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from studies import report

pytest_plugins = ["browser"]


@pytest.fixture(scope="module")
def opened():
    def score(trial, settings):
        beta = settings["neuron.beta"]
        return beta, 100 + 900 * beta**2

    return made(score, 8, rows=(BETA, SLOPE), objectives=("accuracy", "spikes"))


@pytest.fixture(scope="module")
def address(opened, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    report.write(opened, folder)
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser, address):
    browser.get_log("browser")
    show(browser, 1100, "light")
    browser.get(address)
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def show(browser, width, mode, touch=False):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": touch}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    preferred = [{"name": "prefers-color-scheme", "value": mode}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preferred})


def tip(browser):
    """What the page says of a trial; None if nothing."""
    found = browser.find_element(By.CLASS_NAME, "tip")
    return found.get_property("textContent") if found.is_displayed() else None


def marked(browser):
    """In which drawings and tables something is marked, and what."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.on')].map((e) => [e.dataset.key, "
        "e.closest('svg')?.getAttribute('aria-label') ?? e.tagName])"
    )


def point_of(browser, drawing, number):
    """Where a trial is in a drawing, in the window."""
    return browser.execute_script(
        "const svg = document.querySelector(`svg[aria-label='${arguments[0]}']`);"
        "svg.scrollIntoView({block: 'center'});"
        "const box = svg.querySelector(`[data-key='${arguments[1]}']`).getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]",
        drawing,
        str(number),
    )


def point_at(browser, x, y):
    chain = ActionChains(browser, duration=0)
    chain.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    chain.perform()


def test_whoever_points_near_a_trial_reads_it_and_sees_it_everywhere(page, opened):
    number = max(opened.study.trials, key=lambda trial: trial.values[0]).number
    x, y = point_of(page, "pareto front", number)
    point_at(page, x + 6, y - 6)  # beyond it there is no other
    trial = opened.study.trials[number]
    lines = tip(page).splitlines()
    assert lines[0] == f"trial {number}, complete"
    assert lines[1:3] == [f"accuracy {trial.values[0]:.6g}", f"spikes {trial.values[1]:.6g}"]
    assert lines[-1] == f"neuron.slope = {trial.params['neuron.slope']:.6g}"
    places = marked(page)
    assert {key for key, _ in places} == {str(number)}
    assert {"pareto front", "accuracy of each trial", "values of neuron.beta", "TR"} <= {
        place for _, place in places
    }
    point_at(page, 2, 2)
    assert tip(page) is None and marked(page) == []


def test_keys_and_the_table_ask_as_well(page, opened):
    row = page.find_element(By.CSS_SELECTOR, "tr[data-key]")
    page.execute_script("arguments[0].focus()", row)
    assert tip(page).startswith(f"trial {row.get_attribute('data-key')}, ")
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert tip(page) is None


def test_a_finger_asks_and_what_it_asked_for_stays(page, opened):
    show(page, 400, "light", touch=True)
    x, y = point_of(page, "spikes of each trial", 3)
    touches = [{"x": x, "y": y}]
    for kind, points in (("touchStart", touches), ("touchEnd", [])):
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert tip(page).startswith("trial 3, complete")
    box = page.execute_script(
        "const b = document.querySelector('.tip').getBoundingClientRect();"
        "return [b.left, b.right, b.top, b.bottom]"
    )
    assert box[0] >= 0 and box[1] <= 400 and box[2] >= 0 and box[3] <= 900


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window_and_text_is_seen_in_the_dark(page, width):
    show(page, width, "dark")
    assert page.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    text, line = page.execute_script(
        "const text = document.querySelector('.drawing text');"
        "return [getComputedStyle(text).fill,"
        " getComputedStyle(document.documentElement).getPropertyValue('--blue').trim()]"
    )
    assert text == "rgb(255, 255, 255)" and line == "#56B4E9"
    smallest = page.execute_script(
        "return Math.min(...[...document.querySelectorAll('.drawing text')]"
        ".map((e) => e.getBoundingClientRect()).map((b) => Math.min(b.width, b.height))"
        ".filter(Boolean))"
    )
    assert smallest > 3
