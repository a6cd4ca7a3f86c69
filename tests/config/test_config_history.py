"""Configurations of earlier versions load, mean what they meant, and say so in one line."""

from __future__ import annotations

import logging

import pytest

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset


def written_before(table: str, **old: object) -> dict:
    """The fixed digits preset without today's key, with the old one in its place."""
    values = load_preset("digits", "bsnn").model_dump(exclude_none=True, mode="json")
    for key in {"network": ("weights", "norm"), "neuron": ()}[table]:
        del values[table][key]
    values[table] |= old
    return values


@pytest.mark.parametrize(
    ("table", "old", "today"),
    [
        ("network", {"binary": True}, {"network.weights": "binary"}),
        ("network", {"binary": False}, {"network.weights": "float"}),
        ("network", {"batch_norm": True}, {"network.norm": "per-step"}),
        ("network", {"batch_norm": False}, {"network.norm": "none"}),
        ("neuron", {"learn_threshold": False}, {}),
        ("neuron", {"learn_threshold": True}, {"threshold.rule": "learned"}),
    ],
)
def test_an_old_key_means_what_it_meant(table, old, today, caplog):
    values = written_before(table, **old)
    expected = load_preset("digits", "bsnn").with_changes(today)
    with caplog.at_level(logging.INFO, "bsnn_tha"):
        assert RunConfig.from_dict(values) == expected
    (line,) = caplog.messages
    (key,) = old
    assert line.startswith(f"{table}.{key} = {old[key]}, of an earlier version, is read as ")
    assert line.endswith(", ".join(f"{k} = {v!r}" for k, v in today.items()) or "today's default")
    assert key in values[table]  # the caller's tables are untouched


def test_todays_configurations_say_nothing(caplog):
    with caplog.at_level(logging.INFO, "bsnn_tha"):
        load_preset("digits", "bsnn")
    assert not caplog.messages


@pytest.mark.parametrize("value", [0, "false", [False]])
def test_a_value_that_an_old_key_never_had_is_refused(value):
    with pytest.raises(InvalidValueError, match="neuron has no key 'learn_threshold'"):
        RunConfig.from_dict(written_before("neuron", learn_threshold=value))


def test_an_old_key_beside_todays_is_refused():
    values = written_before("network", binary=True)
    values["network"]["weights"] = "float"
    with pytest.raises(InvalidValueError, match="network has no key 'binary'"):
        RunConfig.from_dict(values)
