"""The GPU's benchmark, as far as it goes without one: what it leaves when it fails or is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from study_workers import until

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import kernels, stage
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.tables import markdown
from bsnn_tha.equations.surrogate import FastSigmoid
from bsnn_tha.equations.threshold_gradient import ThresholdGradient

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def setting(folder: Path) -> Setting:
    return Setting("cpu", True, None, folder, time.time() + 60)


@pytest.fixture
def failing(monkeypatch):
    """A stage that gives two rows and fails."""

    def rows(setting):
        yield {"value": 1}
        yield {"value": setting.device}
        raise RuntimeError("the device\nis gone")

    monkeypatch.setitem(sys.modules, "benchmarks.gpu.failing", types.SimpleNamespace(rows=rows))


def test_a_stage_that_fails_leaves_its_rows_and_the_reason(failing, tmp_path):
    stage.run("failing", setting(tmp_path), tmp_path / "failing.json")
    assert json.loads((tmp_path / "failing.json").read_text()) == {
        "stage": "failing",
        "finished": False,
        "rows": [{"value": 1}, {"value": "cpu"}],
        "error": "RuntimeError: the device is gone",
    }


def test_a_setting_reaches_the_stages_process_whole(tmp_path):
    for root in (None, tmp_path / "data"):
        told = Setting("cuda", False, root, tmp_path / "runs", 12.5)
        stage.save(told, tmp_path / "setting.json")
        assert stage.load(tmp_path / "setting.json") == told


def test_without_a_gpu_or_with_old_results_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["--out", str(tmp_path / "new")]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    (tmp_path / "results.json").write_text("{}")
    assert command.main(["--dry-run", "--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_stage_whose_time_is_over_ends_with_all_it_started(tmp_path, monkeypatch, capfd):
    """What it had found is kept; a training it had begun does not go on beside the next stage."""
    (tmp_path / "stage_that_waits.py").write_text(
        "import json, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "content = {'stage': 'steps', 'finished': False, 'rows': [{'pid': child.pid}]}\n"
        "found = pathlib.Path(sys.argv[1])\n"
        "found.with_suffix('.new').write_text(json.dumps(content))\n"
        "found.with_suffix('.new').rename(found)\n"
        "time.sleep(600)\n"
    )
    start = subprocess.Popen

    def instead(command, **settings):
        script = tmp_path / "stage_that_waits.py"
        started = start([sys.executable, str(script), command[-1]], **settings)
        until(Path(command[-1]).exists)  # its time is over after it has found something
        return started

    monkeypatch.setattr(command.subprocess, "Popen", instead)
    monkeypatch.setitem(command.LIMITS, "steps", 0.05)
    found = command.stage("steps", setting(tmp_path), tmp_path)
    assert not found["finished"]
    until(lambda: not is_running(found["rows"][0]["pid"]))  # a moment later
    results = {"command": "x", "dry_run": True, "machine": {}, "stages": [found]}
    assert "Cut off: its time was over." in markdown(results)


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@needs_triton
def test_the_whole_command_without_a_gpu(tmp_path):
    """A stage in its own process, in Triton's interpreter; its results are JSON and a page."""
    options = ["--dry-run", "--stages", "bandwidth", "--out", str(tmp_path / "out")]
    before = dict(os.environ)
    assert command.main([*options, "--seconds", "5000"]) == 0
    assert os.environ == before
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (only,) = results["stages"]
    assert only["finished"] and only["rows"][0]["layer"] == "copy"
    assert "A dry run" in (tmp_path / "out" / "results.md").read_text()


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_the_reference_of_the_kernels_stage_is_that_of_autograd(reset):
    """Its loop against the derivative of the unrolled equations, with the surrogate put in."""
    torch.manual_seed(0)
    current = torch.randn(7, 5, dtype=torch.float64).requires_grad_()
    beta, theta = (torch.rand(5, dtype=torch.float64).add_(0.2).requires_grad_() for _ in range(2))
    surrogate, path = FastSigmoid(2.0, 1.5), ThresholdGradient("sigmoid", fired_only=True)
    centre = torch.tensor(kernels.CENTRE, dtype=torch.float64)
    u, membranes, spikes = torch.zeros(5, dtype=torch.float64), [], []
    for step in current:
        fired = (u >= theta).double().detach()
        kept = u * (1 - fired) if reset == "zero" else u
        u = beta * kept + step - (fired * theta if reset == "subtract" else 0)
        membranes.append(u)
        slope = surrogate(u.detach(), centre)
        # A line with the surrogate's slope through the spike: its gradient is Eq. 7's.
        spikes.append(slope * (u - theta * path((u - theta).detach())))
    upstream = [torch.randn(7, 5, dtype=torch.float64) for _ in range(2)]
    outputs = [torch.stack(spikes), torch.stack(membranes)]
    wanted = torch.autograd.grad(outputs, [current, beta, theta], upstream)
    values = outputs[1].detach(), beta.detach(), theta.detach(), *upstream
    found = kernels._gradients(*values, reset=reset, surrogate=surrogate, path=path)
    for ours, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, right)
