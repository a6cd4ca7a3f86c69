"""A finished run as teacher: its outputs are part of the loss."""

import pytest
import torch

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.losses import distillation_loss
from bsnn_tha.presets import load_preset
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import resume, train
from bsnn_tha.training.session import Session
from bsnn_tha.training.trained import load

MACHINE = Machine(threads=1)
SMALL = {
    "network.notation": "4C3-AP2-10",
    "training.epochs": 1,
    "data.subset": 96,
    "data.num_steps": 3,
    "snapshots.count": 0,
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    config = load_preset("digits", "best").with_changes(SMALL | {"network.weights": "float"})
    folder = tmp_path_factory.mktemp("teacher") / "run"
    train(config, output=folder, machine=MACHINE, verbose=False)
    return folder


def student(teacher, **changes):
    values = {"teacher.run": str(teacher), "training.epochs": 2} | changes
    return load_preset("digits", "best").with_changes(SMALL | values)


def test_the_loss_is_hintons():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    p, q = torch.softmax(teacher / 2, 1), torch.softmax(student / 2, 1)
    expected = 4 * (p * (p / q).log()).sum(1).mean()
    loss = distillation_loss(student, teacher.requires_grad_(), 2.0)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert student.grad is not None and teacher.grad is None


def test_a_step_has_both_parts_and_the_teacher_is_left_alone(teacher):
    session = Session.prepare(student(teacher, **{"teacher.weight": 0.25}), MACHINE)
    module, trained = session.module, load(teacher)
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"network"}
    images, targets = torch.rand(6, 1, 8, 8), torch.arange(6)
    seen = module(images)
    found = module.teacher.taught(module.loss(seen, targets), module.loss, seen, images)
    of_teacher = trained.network(images, 3).membranes.mean(0) / 10  # temperature of its loss
    part = distillation_loss(seen.membranes.mean(0) / 10, of_teacher, 4.0)
    torch.testing.assert_close(found, 0.75 * module.loss(seen, targets) + 0.25 * part)
    before = {name: value.clone() for name, value in trained.network.state_dict().items()}
    session.fit()
    after = module.teacher.trained.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_taught_run_differs_is_kept_and_resumes(teacher, tmp_path):
    own = train(student(teacher), output=tmp_path / "taught", machine=MACHINE, verbose=False)
    alone = load_preset("digits", "best").with_changes(SMALL | {"training.epochs": 2})
    other = train(alone, output=tmp_path / "alone", machine=MACHINE, verbose=False)
    assert own.summary["test"] != other.summary["test"]
    kept = RunConfig.from_file(tmp_path / "taught/config.toml")
    assert kept.teacher.run == str(teacher) and kept.teacher.weight == 0.5
    assert "teacher" not in (tmp_path / "alone/config.toml").read_text(encoding="utf-8")
    # One epoch, then resumed: the same bits as in one go.
    cut = student(teacher, **{"optimizer.schedule": "none"})
    whole = train(cut, output=tmp_path / "whole", machine=MACHINE, verbose=False)
    first = cut.with_changes({"training.epochs": 1})
    train(first, output=tmp_path / "cut", machine=MACHINE, verbose=False)
    again = resume(tmp_path / "cut", epochs=2, machine=MACHINE, verbose=False)
    assert again.summary["train"] == whole.summary["train"]


def test_what_cannot_teach_is_refused(teacher, tmp_path):
    with pytest.raises(RunError, match="nowhere"):
        Session.prepare(student(tmp_path / "nowhere"), MACHINE)
    config = load_preset("temporal-coding", "bsnn").with_changes({"teacher.run": str(teacher)})
    with pytest.raises(InvalidValueError, match="reads other inputs, or has other classes, than"):
        Session.prepare(config, MACHINE)
    with pytest.raises(InvalidValueError, match=r"teacher.weight is for teacher.run"):
        load_preset("digits", "best").with_changes({"teacher.weight": 0.3})
    with pytest.raises(InvalidValueError, match="teacher.weight must be"):
        student(teacher, **{"teacher.weight": 0.0})
