"""``benchmarks.epochs``: every second is one part's, and shares are of what they say."""

from __future__ import annotations

from benchmarks.epochs import EPOCH, PREPARATION, TEST, Clock, report


class Run:
    """Of made-up seconds: each method takes some before and after what it calls."""

    def __init__(self):
        self.now = 0.0

    def fit(self):
        self.now += 1
        self.step()
        self.now += 2
        self.validate()

    def step(self):
        self.now += 10
        self.monitor()
        self.now += 20

    def validate(self):
        self.now += 100
        self.monitor()

    def monitor(self):
        self.now += 1000


def test_a_part_has_its_own_seconds_and_a_whole_one_those_of_all_it_calls(monkeypatch):
    parts = {"fit": "Lightning", "step": "step", "validate": "validation", "monitor": "monitors"}
    for name in parts:
        monkeypatch.setattr(Run, name, getattr(Run, name))  # as it was, afterwards
    run = Run()
    clock = Clock(lambda: run.now)
    for name, part in parts.items():
        clock.time(Run, name, part)
    run.fit()
    assert clock.seconds == {"Lightning": 3, "step": 30, "monitors": 1000, "validation": 1100}
    assert sum(clock.seconds.values()) == run.now


def test_shares_are_of_an_epoch_and_of_a_run():
    seconds = dict.fromkeys(EPOCH, 1.0) | {"step": 43.0, TEST: 10.0, PREPARATION: 40.0}
    rows = {
        line.split(" | ")[0].removeprefix("| "): line
        for line in report(seconds, 100, 3).split("\n")
    }
    assert "| 7.00 | 70.00 | 0.163 | 14.0% | 10.5% |" in rows["all but steps"]
    assert "| 10.00 | 100.00 | 0.233 | 20.0% | 5.0% |" in rows[TEST]
