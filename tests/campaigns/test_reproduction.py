"""Campaigns: plans, records that count as runs, merging, pages."""

import json
import shutil
import statistics
from pathlib import Path

import pytest
from commands import forked_pool
from typer.testing import CliRunner

from bsnn_tha.campaigns.plan_files import changes
from bsnn_tha.campaigns.reproduction import record
from bsnn_tha.campaigns.reproduction.campaign import Campaign, seconds
from bsnn_tha.campaigns.reproduction.cost import points
from bsnn_tha.campaigns.reproduction.pages import curves, page, write_pages
from bsnn_tha.campaigns.reproduction.plan import load_plan, plan_names
from bsnn_tha.cli import app
from bsnn_tha.cli.options import settings
from bsnn_tha.errors import DataError, InvalidValueError, RunError
from bsnn_tha.presets import load_preset
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.machine import Machine

RECORDS = Path(__file__).parents[2] / "docs/reproduction"

PLAN = """
title = "Two networks"
source = "nobody"

[[rows]]
name = "small"
preset = "digits/best"
seeds = 2
seconds = 7
printed = {mean = 12.5}
set = {"network.notation" = "4C3-AP2-10", "training.epochs" = 2, "data.subset" = 64}

[[rows]]
name = "dense"
preset = "digits/bsnn"
seeds = 1
seconds = 5
set = {"network.notation" = "16-10", "training.epochs" = 1, "data.subset" = 64}
"""


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "two.toml"
    path.write_text(PLAN, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(plan_file, tmp_path_factory):
    """The first row, trained through the library; the lines it told."""
    folder = tmp_path_factory.mktemp("reproduction")
    campaign = Campaign(load_plan(str(plan_file)), folder, folder / "records", only=["small"])
    lines = []
    with forked_pool():
        campaign.train(machine=Machine(threads=1), tell=lines.append)
    return campaign, lines


def test_every_plan_is_of_runs_that_can_be_built():
    assert {"best", "annealing", "trade-off"} <= set(plan_names())
    for name in plan_names():
        for row in load_plan(name).rows:
            config = row.config(row.seeds - 1)
            assert config.snapshots.count == 0 and config.training.seed == row.seeds - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAN.replace("seeds = 1", "seeds = 0"), r"rows\.1\.seeds must be"),
        (PLAN.replace('"dense"', '"small"'), "rows need a name each"),
        (PLAN.replace('"dense"', '"a/b"'), "fit for a folder, but got 'a/b'"),
        (PLAN.replace("data.subset", "data.subste"), "data has no key 'subste'"),
        (
            PLAN.replace("digits/bsnn", "temporal-coding/bsnn")
            .replace("16-10", "16-1")
            .replace('"data.subset" = 64', '"data.batch_size" = 1'),
            "row 'dense' is of test accuracies",
        ),
        (PLAN.replace("title", "titel"), "title"),
        ("rows = ", "not valid TOML"),
    ],
)
def test_a_plan_that_breaks_a_rule_is_refused(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidValueError, match=message):
        load_plan(str(tmp_path / "mine.toml"))
    with pytest.raises(InvalidValueError, match="unknown table 'bets'; did you mean 'best'"):
        load_plan("bets")


def test_none_removes_a_setting_of_the_preset():
    running, measured = load_plan("statistics").rows
    assert running.config(0).training.norm_batches is None
    assert measured.config(0).training.norm_batches == 20


def test_what_is_trained_is_recorded_with_where_it_was_made(trained):
    campaign, lines = trained
    assert [line.split("  ")[1] for line in lines] == ["small, seed 0", "small, seed 1"]
    entries = record.read(campaign.records / "two")
    assert [(entry["row"], entry["seed"]) for entry in entries] == [("small", 0), ("small", 1)]
    for entry in entries:
        own = json.loads(
            (campaign.folder / f"two/small/seed-{entry['seed']}/summary.json").read_text("utf-8")
        )
        assert entry["summary"] == own
        assert len(entry["epochs"]["train_accuracy"]) == 2
        assert entry["origin"]["processor"] and "commit" in entry["origin"]
    assert [(row.name, seed) for row, seed in campaign.missing(entries)] == []
    everything = Campaign(campaign.plan, campaign.folder, campaign.records)
    assert [(row.name, seed) for row, seed in everything.missing(entries)] == [("dense", 0)]


def test_the_page_has_ours_beside_the_printed(trained):
    campaign, _ = trained
    entries = campaign.entries()
    text = (campaign.records / "two/README.md").read_text(encoding="utf-8")
    assert text == page(campaign.plan, entries)
    head, small, dense = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and "---" not in line
    )
    cells = dict(zip(head, small, strict=True))
    accuracies = [entry["summary"]["test"]["accuracy"] for entry in entries]
    assert cells["printed: best / mean / σ"] == "– / 12.50 / –"
    assert cells["here: best / mean / σ"] == " / ".join(
        f"{100 * figure:.2f}"
        for figure in (max(accuracies), statistics.mean(accuracies), statistics.stdev(accuracies))
    )
    assert cells["seeds"] == "2 of 2" and cells["θ"] == "1"  # the output does not fire
    assert dict(zip(head, dense, strict=True))["seeds"] == "0 of 1"
    assert (campaign.records / "two/curves.png").stat().st_size > 5000


def test_series_are_drawn_over_energy_and_memory(trained, plan_file, tmp_path):
    campaign, _ = trained
    entries = campaign.entries()
    assert not points(campaign.plan, entries) and not (campaign.records / "two/cost.png").exists()
    named = tmp_path / "two.toml"
    small = 'seeds = 2\nseries = "digits"\nlabel = "4 filters"'
    named.write_text(PLAN.replace("seeds = 2", small), encoding="utf-8")
    plan = load_plan(str(named))
    ((point,),) = points(plan, entries).values()
    summaries = [entry["summary"] for entry in entries]
    accuracies = [100 * summary["test"]["accuracy"] for summary in summaries]
    assert point.label == "4 filters"
    assert (point.low, point.high) == (min(accuracies), max(accuracies))
    assert point.score == pytest.approx(statistics.mean(accuracies))
    energy = [sum(layer["energy_nj"] for layer in summary["layers"]) for summary in summaries]
    assert point.energy == pytest.approx(statistics.mean(energy))
    # 4 filters of 9, 36 inputs of 10 outputs, a bit each; gains and offsets of 4 maps, 10 biases.
    assert point.bits == 4 * 9 + 36 * 10 + 32 * (4 * 2 + 10)
    write_pages(plan, entries, tmp_path)
    assert (tmp_path / "cost.png").stat().st_size > 5000
    assert "](cost.png)" in (tmp_path / "README.md").read_text(encoding="utf-8")
    # A run from before energy was estimated has no place there.
    for summary in summaries:
        del summary["workload"]["energy_nj"]
    assert not points(plan, entries)


def test_a_record_stands_for_its_runs_and_machines_are_merged(trained, plan_file, tmp_path):
    campaign, _ = trained
    # Another machine has the record alone, and trains what it lacks.
    records = tmp_path / "records"
    shutil.copytree(campaign.records, records)
    arguments = ["reproduce", str(plan_file), "--folder", tmp_path / "there", "--threads", "1"]
    shown = CliRunner().invoke(app, [*map(str, arguments), "--records", str(records), "--dry-run"])
    assert (
        "1 run to train, about 0.0 hours one" in shown.output and not (tmp_path / "there").exists()
    )
    with forked_pool():
        result = CliRunner().invoke(app, [*map(str, arguments), "--records", str(records)])
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "there/two").iterdir()] == ["dense"]
    assert len(record.read(records / "two")) == 3
    # The first one takes it from there, as runs or as a record.
    for other in (tmp_path / "there", records):
        merged = Campaign(campaign.plan, campaign.folder, tmp_path / "merged", [other])
        assert not merged.missing(merged.entries())
        assert [entry["row"] for entry in merged.entries()] == ["small", "small", "dense"]


def test_runs_of_another_plan_do_not_count(trained, plan_file, tmp_path):
    campaign, _ = trained
    longer = tmp_path / "two.toml"
    longer.write_text(PLAN.replace('epochs" = 2', 'epochs" = 3'), encoding="utf-8")
    changed = Campaign(load_plan(str(longer)), campaign.folder, campaign.records)
    assert changed.entries() == []
    assert len(changed.missing([])) == 3
    with pytest.raises(InvalidValueError, match="seed-0 has a run of another configuration"):
        changed.train(machine=Machine(threads=1))
    named = tmp_path / "again" / "two.toml"  # names and sources shape nothing
    named.parent.mkdir()
    named.write_text(PLAN.replace("[[rows]]", "[[rows]]", 1), encoding="utf-8")
    entries = [
        entry | {"config": entry["config"] | {"variant": "other", "source": "elsewhere"}}
        for entry in record.read(campaign.records / "two")
    ]
    assert len(record.fitting(load_plan(str(named)), entries)) == 2


def test_seeds_can_be_few(trained):
    campaign, _ = trained
    few = Campaign(campaign.plan, campaign.folder, campaign.records, seeds=1)
    assert [(row.name, seed) for row, seed in few.missing([])] == [("small", 0), ("dense", 0)]
    with pytest.raises(InvalidValueError, match="seeds must be at least 1, but got 0"):
        Campaign(campaign.plan, campaign.folder, campaign.records, seeds=0)


def test_costs_are_those_of_finished_runs_where_there_are_any(trained):
    campaign, _ = trained
    small, dense = campaign.plan.rows
    entries = campaign.entries()
    took = [entry["summary"]["train_seconds"] for entry in entries]
    assert seconds(small, entries) == pytest.approx(statistics.mean(took))
    assert seconds(dense, entries) == 5


def test_a_damaged_record_is_refused_in_one_line(tmp_path):
    (tmp_path / record.NAME).write_text('{"row": "a"}\n{"row"', encoding="utf-8")
    with pytest.raises(DataError, match=r"runs.jsonl, line 2 is not JSON .*; remove the line"):
        record.read(tmp_path)


@pytest.mark.parametrize("folder", sorted(RECORDS.glob("*/")), ids=lambda folder: folder.name)
def test_records_of_this_project_are_of_its_plans_and_its_pages_of_them(folder):
    plan, entries = load_plan(folder.name), record.read(folder)
    assert entries and record.fitting(plan, entries) == entries
    assert (folder / "README.md").read_text(encoding="utf-8") == page(plan, entries)


def test_data_sets_of_several_rows_are_drawn_apart():
    def titles(name):
        plan, entries = load_plan(name), record.read(RECORDS / name)
        parts = curves(plan, entries).subfigs
        names = [{line.get_label() for line in part.axes[0].lines} for part in parts]
        return [part.get_suptitle() for part in parts], names

    parts, names = titles("annealing")
    assert {"digits", "mnist"} <= set(parts)
    assert all("annealed-clamped" in own for own in names)
    parts, names = titles("best")  # a row each
    assert parts == [""] and {"digits", "mnist"} <= names[0]


def test_bands_that_a_plan_names():
    plan, entries = load_plan("best"), record.read(RECORDS / "best")
    rows = [
        row.model_copy(update={"band": "still" if row.name == "digits" else None})
        for row in plan.rows
        if row.name in ("digits", "mnist")
    ]
    rows.append(rows[0].model_copy(update={"name": "still-mnist", "preset": "mnist/best"}))
    entries += [entry | {"row": "still-mnist"} for entry in entries if entry["row"] == "mnist"]
    bands = curves(plan.model_copy(update={"rows": rows}), entries).subfigs
    assert [band.get_suptitle() for band in bands] == ["still", "mnist"]
    lines = bands[0].axes[0].lines
    assert [line.get_label() for line in lines] == ["digits", "mnist"]


def test_rows_that_are_called_the_same_look_the_same_in_every_band():
    plan, entries = load_plan("tha-table-1"), record.read(RECORDS / "tha-table-1")
    lines = [line for part in curves(plan, entries).subfigs for line in part.axes[0].lines]
    looks = {(line.get_label(), line.get_color(), line.get_linestyle()) for line in lines}
    assert len(lines) > len(looks) == len({name for name, *_ in looks})


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(plan_file, tmp_path):
    file = tmp_path / "file"
    file.write_text("a regular file")
    campaign = Campaign(load_plan(str(plan_file)), file, tmp_path / "records", only=["small"])
    refused = pytest.raises(RunError, match=r"^cannot write output folder .*file")
    with forked_pool(), refused:
        campaign.train(machine=Machine(threads=1))
    assert file.read_text() == "a regular file"


def test_records_that_cannot_be_written_are_refused_before_anything_is_trained(plan_file, tmp_path):
    file = tmp_path / "file"
    file.write_text("a regular file")
    campaign = Campaign(load_plan(str(plan_file)), tmp_path / "runs", file, only=["small"])
    with pytest.raises(RunError, match=r"^cannot write output folder .*file.*: Not a directory$"):
        campaign.train(machine=Machine(threads=1))
    assert not (tmp_path / "runs").exists()


def test_a_folder_to_merge_must_be_there(plan_file, tmp_path):
    with pytest.raises(RunError, match=r"^there is no folder .*elsewhere, whose runs are to"):
        Campaign(load_plan(str(plan_file)), tmp_path, tmp_path, [tmp_path / "elsewhere"])


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "plan mine: title is missing; add it to the plan"),
        ("titel = 'a'", "plan mine: the plan has no key 'titel'; did you mean 'title'?"),
        (
            "title = 'a'\nsource = 'b'\n[[rows]]\nname = 'c'\nprese = 'd'",
            "plan mine: rows.0 has no key 'prese'; did you mean 'preset'?",
        ),
        (
            "title = 'a'\nsource = 'b'\n[[rows]]\nname = 'c'\npreset = 'd'\nseeds = [0]",
            "plan mine: rows.0.seeds must be a valid integer, but got [0]",
        ),
    ],
)
def test_wrong_keys_of_a_plan_are_named(written, message, tmp_path):
    (tmp_path / "mine.toml").write_text(written)
    with pytest.raises(InvalidValueError) as refusal:
        load_plan(str(tmp_path / "mine.toml"))
    assert str(refusal.value) == message


def test_unknown_rows_are_refused(plan_file, tmp_path):
    result = CliRunner().invoke(app, ["reproduce", str(plan_file), "--only", "smal"])
    assert isinstance(result.exception, InvalidValueError)
    assert "two has no row 'smal'; did you mean 'small'" in str(result.exception)


def test_options_of_a_table_that_is_not_named_are_refused():
    result = CliRunner().invoke(app, ["reproduce", "--seeds", "1"])
    assert str(result.exception).startswith("--seeds is of a table, and none is named; ")
    assert str(result.exception).endswith("reproduce lists them")
    listing = CliRunner().invoke(app, ["reproduce"], env={"BSNN_THA_DATA": "somewhere"})
    assert listing.exit_code == 0 and "tha-table-1" in listing.output


def test_the_preset_per_neuron_is_what_its_table_trains():
    trained = load_plan("per-neuron").row("fashion-mnist-neuron").config(0)
    changes = {
        "data.validation": 0.0,
        "snapshots.count": 0,  # as in all campaigns
        "variant": trained.variant,
        "source": trained.source,
    }
    assert load_preset("fashion-mnist", "per-neuron").with_changes(changes) == trained


def test_a_plan_that_names_code_is_not_run_unasked(plan_file, tmp_path, monkeypatch):
    """The rule of a plan from elsewhere leaves a trace when it is imported."""
    monkeypatch.chdir(tmp_path)
    rule = "from bsnn_tha.nn.thresholds import Fixed\nopen('trace', 'w')\nclass Mine(Fixed): pass\n"
    (tmp_path / "plan_rules.py").write_text(rule)
    nested = '"threshold" = {rule = "plan_rules:Mine"}'
    for written in ('"threshold.rule" = "plan_rules:Mine"', nested):
        changed = f'{written}, "network.notation" = "16-10"'
        text = PLAN.replace('"network.notation" = "16-10"', changed)
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(InvalidValueError, match=r"plan mine, row 'dense': .*--allow-code"):
            load_plan("mine.toml")
        assert not (tmp_path / "trace").exists()
    (tmp_path / "mine.toml").write_text(
        PLAN.replace(
            '"network.notation" = "16-10"',
            '"threshold.rule" = "plan_rules:Mine", "network.notation" = "16-10"',
        )
    )
    plan = load_plan("mine.toml", allow_code=True)
    lines = []
    campaign = Campaign(plan, tmp_path / "runs", tmp_path / "records", only=["dense"])
    campaign.train(machine=Machine(threads=1), tell=lines.append)  # in a process of its own
    assert "test accuracy" in lines[0]


def test_a_run_that_another_process_is_at_is_not_branded(plan_file, tmp_path):
    campaign = Campaign(load_plan(str(plan_file)), tmp_path, tmp_path / "records", only=["dense"])
    row = campaign.plan.row("dense")
    run, lines = RunFolder(campaign.run_path(row, 0)), []
    run.path.mkdir(parents=True)
    run.config.write_text(row.config(0).to_toml())
    with forked_pool():
        with run.claimed(), pytest.raises(RunError, match=r"^1 of 1 runs were not trained.*again$"):
            campaign.train(machine=Machine(threads=1), tell=lines.append)
        assert "not trained: another process is training" in lines[0]
        campaign.train(machine=Machine(threads=1), tell=lines.append)
    assert "test accuracy" in lines[1]


def test_seeds_that_patience_ended_are_drawn_as_far_as_all_go(plan_file):
    plan, entries = load_plan("best"), record.read(RECORDS / "best")
    own = [entry for entry in entries if entry["row"] == "digits"]
    short = {name: values[:7] for name, values in own[0]["epochs"].items()}
    band = curves(plan, [own[0] | {"epochs": short}, *own[1:]]).subfigs[0]
    assert {len(line.get_xdata()) for axes in band.axes for line in axes.lines} == {7}


@pytest.mark.parametrize(
    ("key", "removed"),
    [
        ("optimizer.schedule", False),
        ("network.norm", False),
        ("neuron.reset_mechanism", False),
        ("threshold.penalty_window", False),
        ("threshold.alpha", True),
        ("optimizer.period", True),
        ("loss.temperature", True),
    ],
)
def test_none_leaves_a_key_out_unless_it_is_one_of_its_choices(key, removed):
    expected = {key: None if removed else "none"}
    assert changes({key: "none"}) == expected
    assert settings({}, [f"{key}=none"]) == expected
