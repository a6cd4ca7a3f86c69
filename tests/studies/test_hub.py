"""Samplers of OptunaHub: pinned, from a folder where GitHub is not reached."""

from __future__ import annotations

import optuna
import pytest

from studies import hub
from studies.errors import StudyError
from studies.study import Method

SOURCE = """
import optuna

__all__ = ["Halfway"]


class Halfway(optuna.samplers.RandomSampler):
    def sample_independent(self, study, trial, name, distribution):
        return (distribution.low + distribution.high) / 2


def pruner():
    return optuna.pruners.ThresholdPruner(upper=0.5)
"""


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A folder that has one package, as a checkout of the registry would."""
    pytest.importorskip("optunahub")
    package = tmp_path / "samplers" / "halfway"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.setenv(hub.REGISTRY, str(tmp_path))


def test_a_sampler_and_a_pruner_come_from_a_local_registry(registry):
    package = "hub:samplers/halfway@1f0c2ab"
    method = Method(f"{package}:Halfway", f"{package}:pruner", seed=1)
    study = optuna.create_study(sampler=method.build_sampler(), pruner=method.build_pruner())
    assert study.ask().suggest_float("x", 2, 4) == 3
    assert isinstance(study.pruner, optuna.pruners.ThresholdPruner)


def test_what_a_package_does_not_have_is_told(registry):
    with pytest.raises(StudyError, match="has no 'Midway'; it has Halfway"):
        Method("hub:samplers/halfway@1f0c2ab:Midway").build_sampler()
    with pytest.raises(
        StudyError, match="samplers/other of OptunaHub cannot be had .*look at BSNN"
    ):
        Method("hub:samplers/other@1f0c2ab:Other").build_sampler()


@pytest.mark.parametrize(
    "choice", ["hub:samplers/a:A", "hub:samplers/a@main:A", "hub:a@1", "hub:../a@1:A", "hub:"]
)
def test_a_version_has_to_be_named(choice):
    with pytest.raises(StudyError, match="must be hub:PACKAGE@REF:NAME with a commit or tag"):
        Method(choice)


def test_without_a_way_to_github_one_line_says_what_to_do(monkeypatch):
    optunahub = pytest.importorskip("optunahub")
    monkeypatch.delenv(hub.REGISTRY, raising=False)

    def unreachable(package, ref):
        raise OSError("Could not resolve host:\n github.com")

    monkeypatch.setattr(optunahub, "load_module", unreachable)
    with pytest.raises(StudyError, match="Could not resolve host: github.com") as caught:
        Method("hub:samplers/halfway@1f0c2ab:Halfway").build_sampler()
    assert "set BSNN_THA_OPTUNAHUB to the folder package of a checkout" in str(caught.value)
    assert "at 1f0c2ab" in str(caught.value) and "\n" not in str(caught.value)
