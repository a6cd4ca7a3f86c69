"""docs/extending.md: its texts as they stand there, trained, gone on with, measured and shown."""

from __future__ import annotations

import re
import shlex
import sys

import optuna
import pytest
from film_runs import command
from places import ROOT
from training_runs import weights

from bsnn_tha.config import RunConfig

DOCS = ROOT / "docs" / "extending.md"
TINY = [
    "--set=network.notation=4C3-AP2-10", "--set=data.num_steps=3", "--set=data.subset=64",
    "--set=threshold.theta_0=0.5", "--set=threshold.theta_inf=none", "--set=threshold.alpha=none",
]  # fmt: skip


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)


FILES = {re.match(r"# (\S+)\n", text)[1]: text for text in blocks("python")}
COMMANDS = {
    file: next(line for line in blocks("bash") if file.removesuffix(".py") + ":" in line)
    for file in FILES
}


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    """``bsnn-tha`` in a folder with a file of the documentation in it, for a user of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    before = set(sys.modules)

    def run(file, *arguments):
        if file is not None:
            (tmp_path / file).write_text(FILES[file], encoding="utf-8")
        status, output, errors = command(arguments, tmp_path, monkeypatch, capfd)
        assert status == 0, errors
        return output

    path = list(sys.path)
    yield run
    assert sys.path == path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def documented(file):
    """The command that the documentation gives, as arguments."""
    return shlex.split(COMMANDS[file].replace("\\\n", " "))[1:]


def test_one_of_each_kind_is_shown_in_less_than_30_lines():
    kinds = ["neurons", "surrogates", "quantizers", "norms", "losses", "data", "samplers", "views"]
    assert list(FILES) == [f"my_{kind}.py" for kind in kinds]
    for text in FILES.values():
        assert len(text.splitlines()) < 30


def of_neurons(network):
    return {(type(n).__name__, n.noise) for n in (layer.neuron for layer in network.layers)}


TRAINED = {
    "my_neurons.py": (of_neurons, {("Noisy", 0.2)}),
    "my_surrogates.py": (lambda n: repr(n.layers[1].neuron.surrogate), "Gaussian(width=0.5)"),
    "my_quantizers.py": (lambda n: repr(n.layers[0].synapse.quantizer), "Ternary(share=0.5)"),
    "my_norms.py": (lambda n: repr(n.layers[0].norm)[:13], "Groups(2, 4, "),
    "my_losses.py": (lambda n: n.notation, "4C3-AP2-10"),
    "my_data.py": (lambda n: n.notation, "4C3-AP2-10"),
}


@pytest.mark.parametrize("file", TRAINED)
def test_it_trains_and_goes_on(file, cli, tmp_path):
    cli(file, *documented(file), *TINY, "--epochs=1", "--set=snapshots.count=0", "--output=run")
    assert "my_" in (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
    first = weights(tmp_path / "run" / "last.ckpt")
    output = cli(None, "train", "--resume=run", "--epochs=2")  # nothing needs to be allowed
    assert "test accuracy" in output and "2 epochs, 2 iterations" in output
    second = weights(tmp_path / "run" / "last.ckpt")
    assert first.keys() == second.keys()
    assert any(not first[name].equal(second[name]) for name in first)
    assert "test accuracy" in cli(None, "evaluate", "run")
    describe, expected = TRAINED[file]
    config = RunConfig.from_file(tmp_path / "run" / "config.toml", allow_code=True)
    network = config.build_network((1, 8, 8))
    assert describe(network) == expected
    if file == "my_losses.py":
        assert repr(config.build_loss(network)) == "Margin(margin=0.3)"


def test_a_sampler_searches(cli, tmp_path):
    arguments = documented("my_samplers.py")
    arguments[arguments.index("--trials") + 1] = "3"
    cli("my_samplers.py", *arguments, *TINY, "--epochs=1", "--sampler-seed=0", "--pruner=none")
    cli(None, *arguments, *TINY, "--epochs=1", "--pruner=none", "--trials=4")
    names = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(
            str(tmp_path / "runs" / "studies" / "digits-tha.journal")
        )
    )
    study = optuna.load_study(study_name="digits-tha", storage=names)
    assert len(study.trials) == 4


def test_a_view_films_a_run(cli, tmp_path, monkeypatch):
    cli(
        "my_views.py", "train", "digits", *TINY, "--epochs=1", "--set=snapshots.count=1",
        "--output=runs/digits-tha-1",
    )  # fmt: skip
    output = cli(None, *documented("my_views.py"), "--dpi=20")
    assert "rates.gif: 1 frame, 120 × 80" in output
    assert (tmp_path / "runs" / "digits-tha-1" / "rates.gif").is_file()
