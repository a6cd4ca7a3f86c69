"""The command line as its users meet it: processes, exit statuses and streams."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Command
from places import ROOT
from study_workers import until
from training_runs import WITH_SNAPSHOTS, names, run_files

import bsnn_tha.cli
from bsnn_tha.cli import main
from bsnn_tha.config import RunConfig
from bsnn_tha.presets import load_preset, preset_names

PATIENCE = 300  # seconds until a process counts as hung; on a quiet machine it takes a few
TINY = {
    "network.notation": "4C3-AP2-10",
    "threshold.theta_0": [0.5, 1.0],
    "threshold.theta_inf": [1.5, 2.5],
    "data.subset": 96,
    "data.num_steps": 5,
}
TINY_OPTIONS = [f"--set={key}={value}" for key, value in TINY.items()] + ["--threads=1"]


def environment():
    # A warning of some library is not what these tests are about, nor is a terminal's colour.
    kept = {key: value for key, value in os.environ.items() if key != "BSNN_THA_DATA"}
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "dumb", "NO_COLOR": "1"}
    return kept | own


def command(*arguments):
    return [sys.executable, "-m", "bsnn_tha", *map(str, arguments)]


def cli(*arguments, cwd):
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def in_this_process(arguments, folder, monkeypatch, capsys):
    """(exit status, standard output, standard error), without the seconds a process takes."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("BSNN_THA_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["bsnn-tha", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, *capsys.readouterr()


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# Each prepares a folder and returns the arguments of a command that must fail


def tiny_config():
    return load_preset("digits", "tha").with_changes(TINY)


def run_folder(folder):
    """A run folder as far as ``evaluate`` can tell before it reads the checkpoint."""
    (folder / "run").mkdir()
    (folder / "run" / "config.toml").write_text(tiny_config().to_toml(), encoding="utf-8")
    return folder / "run"


def setting(text):
    return lambda folder: ["train", "digits", "--set", text, "--output", folder / "run"]


def idx(shape):
    header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
    return header + bytes(torch.zeros(shape, dtype=torch.uint8).numpy().tobytes())


def mnist_files(folder, damage):
    """Four small files of the right names, the first of them damaged."""
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            content = gzip.compress(idx(shape), mtime=0)
            (raw / f"{part}-{kind}-ubyte.gz").write_bytes(content)
    damage(raw)
    options = ["--data-root", folder / "data", "--output", folder / "run"]
    return ["train", "mnist", "--epochs", "1", *options]


def truncated_data(folder):
    def damage(raw):
        (raw / "train-images-idx3-ubyte").write_bytes(idx((40, 28, 28))[:1000])

    return mnist_files(folder, damage)


def corrupt_gzip(folder):
    def damage(raw):
        path = raw / "train-images-idx3-ubyte.gz"
        content = bytearray(path.read_bytes())
        content[20:30] = b"\xff" * 10
        path.write_bytes(content)

    return mnist_files(folder, damage)


def other_architecture(folder):
    torch.save({"state_dict": {"network.weight": torch.zeros(2)}}, folder / "other.ckpt")
    return ["evaluate", run_folder(folder), "--checkpoint", folder / "other.ckpt"]


def unwritable_output(folder):
    (folder / "file").write_text("a regular file")
    return ["train", "digits", "--output", folder / "file" / "run"]


def output_not_empty(folder):
    (folder / "run").mkdir()
    (folder / "run" / "summary.json").write_text("{}")
    return ["train", "digits", "--output", folder / "run"]


def resume_with(*options):
    return lambda folder: ["train", "--resume", run_folder(folder), *options]


def missing_config(folder):
    return ["train", "--config", folder / "absent.toml", "--output", folder / "run"]


def broken_config(folder):
    (folder / "broken.toml").write_text("[training\nepochs = 1\n")
    return ["train", "--config", folder / "broken.toml", "--output", folder / "run"]


SHOWN = {
    "help": (["--help"], ["train", "evaluate", "presets"]),
    "help_of_train": (
        ["train", "--help"],
        [
            *["--variant", "--set", "--output", "--epochs", "--resume", "--seeds", "--protocol"],
            *["--devices", "--nodes", "--cache-root", *preset_names()],
        ],
    ),
    "help_of_evaluate": (["evaluate", "-h"], ["--checkpoint", "--split"]),
    "presets": (["presets"], ["bsnn-unit", "14.105", "Table 3", "Tables 6", *preset_names()]),
}
MISUSED = {
    "unknown_option": ["train", "--epoch-count", "3"],
    "wrong_type": ["train", "--epochs", "many"],
    "missing_argument": ["evaluate"],
    "unknown_command": ["trian"],
}


def test_a_process_that_refuses_says_so_in_one_line(tmp_path):
    result = cli("train", "--set", "neuron.beta", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line == "error: --set takes KEY=VALUE, but got 'neuron.beta'"
    assert names(tmp_path) == []


def test_a_loss_that_is_not_finite_leaves_the_run_as_it_was(tmp_path, monkeypatch, capsys):
    arguments = [
        *["train", "temporal-coding", "--variant=flt32", "--lr=1e37", "--num-steps=20"],
        *["--set=network.notation=10Dense5Dense1", "--set=data.options.inputs=10"],
        *["--set=data.options.target_step=15", "--set=data.options.iterations=50"],
        *["--output", tmp_path / "run", "--threads=1"],
    ]
    status, _, errors = in_this_process(arguments, tmp_path, monkeypatch, capsys)
    assert status == 2
    (line,) = errors.splitlines()
    assert line.startswith("error: the loss must be finite, but is ")
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == run_files("config.toml", "recording.npz", "snapshots")


@pytest.mark.parametrize("case", SHOWN)
def test_what_is_asked_for_is_shown(case, tmp_path, monkeypatch, capsys):
    arguments, shown = SHOWN[case]
    status, output, errors = in_this_process(arguments, tmp_path, monkeypatch, capsys)
    assert (status, errors) == (0, "")
    for part in shown:
        assert part in output


@pytest.mark.parametrize("case", MISUSED)
def test_misuse_is_explained(case, tmp_path, monkeypatch, capsys):
    status, output, errors = in_this_process(MISUSED[case], tmp_path, monkeypatch, capsys)
    assert status == 2
    assert output == ""
    assert "Usage:" in errors
    assert names(tmp_path) == []


# Commands that succeed


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder, result) of a short training run started as a user would."""
    folder = tmp_path_factory.mktemp("trained")
    changes = ["--set=neuron.surrogate_centre=moving", "--set=optimizer.period=none"]
    result = cli("train", *["--epochs=2", "--seed=3"], *changes, *TINY_OPTIONS, cwd=folder)
    return folder / "runs" / "digits-tha-1", result


def test_training_says_what_it_does_and_reaches(trained):
    run, result = trained
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "4C3-AP2-10, binary weights, 5 time steps" in result.stdout
    assert "surrogate gradient moving" in result.stdout
    assert "test accuracy " in result.stdout
    assert "best validation accuracy " in result.stdout
    assert str(Path("runs", "digits-tha-1")) in result.stdout.splitlines()[-1]
    assert sum(line.startswith("epoch ") for line in result.stdout.splitlines()) == 2
    assert names(run) == WITH_SNAPSHOTS


def test_options_reach_the_configuration(trained):
    run, _ = trained
    expected = tiny_config().with_changes(
        {
            "training.epochs": 2,
            "training.seed": 3,
            "neuron.surrogate_centre": "moving",
            "optimizer.period": None,
        }
    )
    assert RunConfig.from_file(run / "config.toml") == expected


def test_a_configuration_is_taken_back(trained, tmp_path, monkeypatch, capsys):
    run, _ = trained
    arguments = ["train", "--config", run / "config.toml", "--output", "again", "--threads=1"]
    status, _, errors = in_this_process(arguments, tmp_path, monkeypatch, capsys)
    assert status == 0, errors
    for name in ("config.toml", "metrics.csv"):
        assert (tmp_path / "again" / name).read_text() == (run / name).read_text()


def test_evaluate_repeats_the_accuracy_of_the_run(trained, tmp_path):
    run, trained_result = trained
    before = snapshot(run)
    command = Command("evaluate", run, "--threads=1", cwd=tmp_path)
    assert command.wait() == 0, command.complained
    assert command.complained == ""
    accuracy = command.said.splitlines()[0].split(",")[0]
    assert accuracy.startswith("test accuracy ")
    assert accuracy in trained_result.stdout
    assert snapshot(run) == before


# Ctrl-C


def test_an_interrupt_leaves_a_run_that_can_be_used_and_resumed(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    options = ["--epochs=1000000", "--output", run, *TINY_OPTIONS]
    command = Command("train", "digits", *options, cwd=tmp_path)
    try:
        until(lambda: command.ended() or (run / "last.ckpt").exists())  # written last in an epoch
        command.kill(signal.SIGINT)
        assert command.wait() == 130
    finally:
        if not command.ended():
            command.kill()
    errors = command.complained
    assert "Traceback" not in errors
    assert errors.splitlines() == [
        f"interrupted; go on from the last finished epoch with bsnn-tha train --resume {run}"
    ]
    files = run_files("best.ckpt", "config.toml", "last.ckpt", "metrics.csv", "snapshots")
    assert [name for name in names(run) if name != "previous.ckpt"] == files
    rows = (run / "metrics.csv").read_text().splitlines()
    finished = int(rows[-1].split(",")[1])
    checkpoint = torch.load(run / "last.ckpt", weights_only=True)
    # Interrupted between the two files, the table is an epoch ahead.
    assert checkpoint["global_step"] in (finished, finished - 3)

    arguments = ["evaluate", run, "--checkpoint=last", "--threads=1"]
    status, output, errors = in_this_process(arguments, tmp_path, monkeypatch, capsys)
    assert status == 0, errors
    assert output.startswith("test accuracy ")


# Refusals


def resume_trials_longer(folder):
    (folder / "trials.toml").write_text("trials = 2")
    return ["train", "--resume", folder, "--epochs", "9"]


RESUME = {
    "data_set": (lambda folder: ["train", "digits", "--resume", folder], "keeps its configuration"),
    "variant": (resume_with("--variant", "bsnn"), "keeps its configuration"),
    "config": (resume_with("--config", "c.toml"), "keeps its configuration"),
    "lr": (resume_with("--lr", "0.1"), "keeps its configuration"),
    "seed": (resume_with("--seed", "2"), "keeps its configuration"),
    "seeds": (resume_with("--seeds", "2"), "keeps its configuration"),
    "output": (resume_with("--output", "other"), "keeps its configuration"),
    "protocol": (resume_with("--protocol", "paper"), "keeps its configuration"),
    "set": (resume_with("--set", "data.batch_size=7"), "keeps its configuration"),
    "set_epochs": (resume_with("--set", "training.epochs=99"), "keeps its configuration"),
    "fewer_epochs": (resume_with("--epochs", "1"), "can be made longer than its 25 epochs"),
    "no_epochs": (resume_with("--epochs", "0"), "can be made longer than its 25 epochs"),
    "trials_longer": (resume_trials_longer, "trials cannot be made longer"),
    "no_run": (lambda folder: ["train", "--resume", folder], "is not a run folder"),
    "absent": (lambda folder: ["train", "--resume", folder / "absent"], "is not a run folder"),
}


def a_run_as_data_set(folder):
    (folder / "config.toml").touch()
    return ["train", folder]


REFUSED = RESUME | {
    "theta_inf_below_theta_0": (setting("threshold.theta_inf=0.5"), "greater than theta_0=2.4"),
    "truncated_data": (truncated_data, "train-images-idx3-ubyte is damaged"),
    "other_architecture": (other_architecture, "is of another architecture"),
    "unwritable_output": (unwritable_output, "cannot write output folder"),
    "broken_config": (broken_config, "is not valid TOML"),
    "unknown_variant": (lambda _: ["train", "mnist", "--variant", "thaa"], "did you mean 'tha'?"),
    "alpha_0": (setting("threshold.alpha=0"), "alpha must be in (0, 1], but got alpha=0"),
    "alpha_1.5": (setting("threshold.alpha=1.5"), "alpha must be in (0, 1], but got alpha=1.5"),
    "beta_1.1": (setting("neuron.beta=1.1"), "beta must be in [0, 1], but got beta=1.1"),
    "beta_-0.1": (setting("neuron.beta=-0.1"), "beta must be in [0, 1], but got beta=-0.1"),
    "slope_0": (setting("neuron.slope=0"), "slope must be a finite number above 0"),
    "corrupt_gzip": (corrupt_gzip, "train-images-idx3-ubyte.gz is damaged"),
    "output_not_empty": (output_not_empty, "is not empty"),
    "unknown_key": (setting("neuron.beat=0.5"), "neuron has no key 'beat'; did you mean 'beta'?"),
    "unknown_data_set": (lambda _: ["train", "mnits"], "did you mean 'mnist'"),
    "missing_config": (missing_config, "cannot read configuration"),
    "seeds_0": (lambda _: ["train", "digits", "--seeds", "0"], "must be at least 1, but got 0"),
    "devices_0": (lambda _: ["train", "digits", "--devices", "0"], "devices must be at least 1"),
    "nodes_0": (lambda _: ["train", "digits", "--nodes", "0"], "nodes must be at least 1"),
    "threads_0": (lambda _: ["train", "digits", "--threads", "0"], "threads must be at least 1"),
    "device": (lambda _: ["train", "digits", "--device", "gpu"], "device must be auto, cpu,"),
    "chunks_of_a_window_that_is_needed_whole": (
        lambda _: ["train", "--set=network.norm=tdbn", "--set=training.chunk_steps=3"],
        "training with ThresholdDependentBatchNorm needs the whole window",
    ),
    "a_configuration_as_data_set": (
        lambda _: ["train", "pets.toml"],
        "pets.toml is no data set but a configuration; give --config pets.toml",
    ),
    "a_run_as_data_set": (a_run_as_data_set, "is no data set but a run; --resume "),
    "a_key_without_its_table": (setting("epochs=3"), "no key 'epochs'; did you mean 'training.ep"),
    "empty_data_set": (lambda _: ["train", ""], "unknown data set ''"),
    "empty_variant": (lambda _: ["train", "--variant", ""], "digits has no variant ''"),
    "protocol": (lambda _: ["train", "digits", "--protocol", "mine"], "training.protocol must be"),
    "config_and_data": (
        lambda _: ["train", "digits", "--config", "c.toml"],
        "give --config or a data set and variant, not both",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line(case, tmp_path, monkeypatch, capsys):
    make, message = REFUSED[case]
    arguments = make(tmp_path)
    before = snapshot(tmp_path)
    status, output, errors = in_this_process(arguments, tmp_path, monkeypatch, capsys)
    assert status == 2
    assert output == ""
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("error: ")
    assert message in errors
    assert snapshot(tmp_path) == before


def fill_the_disk():
    with open("/dev/full", "w") as file:
        file.write("x" * 100_000)


def write_into_another_place():
    raise PermissionError(errno.EACCES, "Permission denied", "runs/a/metrics.csv")


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        (fill_the_disk, "No space left on device; make room, or choose another place"),
        (write_into_another_place, "Permission denied at runs/a/metrics.csv; make room, or choose"),
        (
            lambda: torch.empty(1 << 50),
            "there is not enough memory; take a smaller",
        ),
        (lambda: np.ones(1 << 50), "there is not enough memory; take a smaller"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_the_program(lacking, message, monkeypatch, capsys):
    monkeypatch.setattr(bsnn_tha.cli, "app", lacking)
    with pytest.raises(SystemExit) as end:
        bsnn_tha.cli.main()
    errors = capsys.readouterr().err
    assert end.value.code == 2 and message in errors and len(errors.splitlines()) == 1
    assert "fault of bsnn-tha" not in errors


def test_a_finished_run_that_is_resumed_shows_its_result_again(trained, monkeypatch, capsys):
    run, result = trained
    before = snapshot(run)
    arguments = ["train", "--resume", run]
    status, output, _ = in_this_process(arguments, run, monkeypatch, capsys)
    assert status == 0
    lines = output.splitlines()
    assert lines[-1] == f"written to {run}"
    assert lines[:-1] == result.stdout.splitlines()[-len(lines) : -1]
    assert snapshot(run) == before


# Imports

SLOW = {"lightning", "optuna", "tonic", "matplotlib", "sklearn", "torchmetrics", "pooch"}
HEAVY = SLOW | {"pydantic", "rich", "typer", "numba"}


def test_nothing_is_imported_before_it_is_needed():
    """By the library what only training or a loop needs; for help what only a command does."""
    code = (
        "import sys, bsnn_tha; bsnn_tha.SpikingNetwork; bsnn_tha.functional.lif_sequence\n"
        "print(*sys.modules)\n"
        "import bsnn_tha.cli\n"
        "print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    by_the_library, by_the_command_line = map(set, map(str.split, result.stdout.splitlines()))
    assert HEAVY.isdisjoint(by_the_library)
    assert SLOW.isdisjoint(by_the_command_line)


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}])
def test_idle_threads_of_pytorch_sleep_unless_somebody_decided(given):
    inherited = {k: v for k, v in environment().items() if k != "OMP_WAIT_POLICY"}
    # Set before PyTorch is loaded, or OpenMP does not see it.
    code = (
        "import sys, builtins, os; load = builtins.__import__\n"
        "def first(name, *rest, **more):\n"
        "    if name == 'torch' and 'torch' not in sys.modules:\n"
        "        print(os.environ.get('OMP_WAIT_POLICY')); sys.exit()\n"
        "    return load(name, *rest, **more)\n"
        "builtins.__import__ = first\n"
        "import bsnn_tha.cli"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert result.stdout.split() == [given.get("OMP_WAIT_POLICY", "passive")]


def test_a_terminal_gets_a_bar_with_loss_accuracy_and_dead_neurons(tmp_path):
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    # Long enough for the bar to be drawn several times.
    options = ["--epochs=50", f"--output={tmp_path / 'run'}", *TINY_OPTIONS]
    pid, terminal = pty.fork()
    if pid == 0:
        # Started anew: what draws asks once what it draws on, and this process's is no terminal.
        os.environ.update(COLUMNS="100", TERM="xterm", PYTHONPATH=os.pathsep.join(sys.path))
        module = [sys.executable, "-m", "bsnn_tha", "train", "digits", *options]
        os.execv(sys.executable, module)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's end of a terminal
        while part := os.read(terminal, 1 << 16):
            shown += part
    _, status = os.waitpid(pid, 0)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode("utf-8", "replace"))
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert re.search(r"epoch \d+/50 .*\d+/\d+ .*loss [\d.]+ +accuracy [\d.]+% +dead [\d.]+%", text)
    assert "test accuracy" in text
