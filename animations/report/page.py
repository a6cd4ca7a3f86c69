"""A run's page: curves, activity, mistakes, a film, configuration and workload in one HTML file.

It can be written while the run trains. Then it reloads itself, and mistakes are those of the
last checkpoint on the validation split: the test set is looked at once, when training has
ended. What cannot be shown yet says why in its place.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from animations.drawing import drawing
from animations.report import layers
from animations.report.answers import MOST, Answers, confusion_table, worst_samples
from animations.report.curves import curves
from animations.run_arrays import read_epochs
from animations.runs import training_film
from bsnn_tha.config import RunConfig
from bsnn_tha.errors import BsnnThaError, FilmError
from bsnn_tha.html_page import data, page, side_by_side, table
from bsnn_tha.observe.recording import Recording
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.allowed import run_config
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.machine import THIS_MACHINE, Machine
from bsnn_tha.training.summary import finished
from bsnn_tha.training.trained import load

FRAMES = 24
FILM_DPI = 60
_WHEN_ENDED = '<p class="note">There when training has ended.</p>'
REFRESH = 20
"""Seconds after which the page of a run that trains is loaded again."""


def write_report(
    run: Path,
    path: Path | None = None,
    *,
    machine: Machine = THIS_MACHINE,
    film: bool = True,
    allow_code: bool = False,
) -> Path:
    """Write a run's page; one that is there is replaced once the new one is complete.

    Args:
        run: the run folder.
        path: of the page; ``report.html`` in the run folder if None.
        machine: where data is, for mistakes.
        film: with a film of its training, where it took snapshots.
        allow_code: whether a run that was not trained here may name code of its own.

    Returns:
        The path.

    Raises:
        RunError: no such run.
        FilmError: the page cannot be written.
    """
    folder = RunFolder.open(run)
    config = run_config(folder, allow_code)
    report = _Report(folder, config, finished(folder, config) or {}, machine, film)
    path = folder.path / "report.html" if path is None else path
    text = report.page(allow_code)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FilmError(f"cannot write {path}: {error.strerror or error}") from None
    return path


@dataclass(frozen=True)
class _Report:
    folder: RunFolder
    config: RunConfig
    summary: dict[str, Any]
    """Empty until the run has finished."""
    machine: Machine
    film: bool

    def page(self, allow_code: bool) -> str:
        sections: list[tuple[str, Callable[[], str]]] = [
            ("Over training", self._curves),
            ("Layers", self._layers),
            ("Spikes per neuron", self._activity),
            ("Mistakes", lambda: self._mistakes(allow_code)),
            ("What the gradient saw", self._surrogate),
            *([("Film of its training", self._film)] if self.film else []),
            ("Workload and machine", self._workload),
            ("Configuration", self._configuration),
        ]
        body = [self._head()]
        for title, make in sections:
            try:
                content = make()
            except BsnnThaError as error:  # not there yet, or never
                content = f'<p class="note">{html.escape(str(error))}</p>'
            body.append(f"<h2>{title}</h2>\n{content}")
        body.append(data(self.summary, "summary"))
        refresh = None if self.summary else REFRESH
        return page(f"{self.folder.path.name}", "\n".join(body), refresh)

    def _head(self) -> str:
        config, summary = self.config, self.summary
        facts = [*self._state()]
        if accuracy := summary.get("test", {}).get("accuracy"):
            facts.append(("test accuracy", f"{accuracy:.2%}"))
        if (precision := summary.get("test", {}).get("map")) is not None:
            facts.append(("test mAP", f"{precision:.3f}"))
        if best := summary.get("validation", {}).get("best_accuracy"):
            facts.append(("best validation accuracy", f"{best:.2%}"))
        if bits := summary.get("weight_bits"):
            facts.append(("bits of quantized weights", f"{bits['quantized']:,}"))
        if summary:
            facts.append(("seconds of training", f"{summary['train_seconds']:,.0f}"))
        cells = "".join(f"<div><b>{html.escape(v)}</b>{html.escape(k)}</div>" for k, v in facts)
        words = (
            f"{config.data.name}, variant {config.variant}: {config.network.notation}, "
            f"{config.network.weights_in_words()} weights, seed {config.training.seed}"
        )
        lines = [words, summary.get("data", ""), summary.get("protocol", "")]
        told = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line)
        return f'{told}\n<div class="facts">{cells}</div>'

    def _state(self) -> Iterator[tuple[str, str]]:
        planned = self.config.training.epochs
        if self.summary:
            yield "epochs, finished", f"{self.summary['epochs']} of {planned}"
            return
        try:
            epochs = read_epochs(self.folder.path)
        except BsnnThaError:
            yield "epochs so far", f"0 of {planned}"
            return
        yield "epochs so far", f"{len(epochs['epoch'])} of {planned}"
        if "val_accuracy" in epochs:
            yield "validation accuracy", f"{epochs['val_accuracy'][-1]:.2%}"

    def _curves(self) -> str:
        figures = curves(read_epochs(self.folder.path))
        return side_by_side(drawing(figure, f"{what} over epochs") for what, figure in figures)

    def _layers(self) -> str:
        rows = self.summary.get("layers")
        if not rows:
            return _WHEN_ENDED
        head = ("layer", "neurons", "θ", "firing rate", "dead", "saturated", "spikes/sample")
        cells = [
            (
                number,
                f"{row['neurons']:,}",
                *_firing(row),
                f"{row['spikes_per_sample']:,.0f}",
            )
            for number, row in enumerate(rows, start=1)
        ]
        return f"<p>In {html.escape(self.summary['layers_of'])}.</p>{table(head, cells)}"

    def _activity(self) -> str:
        if not self.summary:
            return _WHEN_ENDED
        drawn = layers.activity(self.folder.path)
        return side_by_side(drawing(figure, f"spikes of {layer}") for layer, figure in drawn)

    def _mistakes(self, allow_code: bool) -> str:
        trained = load(
            self.folder.path, checkpoint="best" if self.summary else "last", allow_code=allow_code
        )
        dataset = load_data(self.config, self.machine)
        split = dataset.test if self.summary else dataset.validation
        name = "the test set" if self.summary else "the validation split, after the last epoch"
        if split is None or dataset.num_classes is None:
            return '<p class="note">There are no classes to mistake, or no samples to ask.</p>'
        answers = Answers.of(trained, split)
        names = [*(dataset.class_names or map(str, range(dataset.num_classes)))]
        some = f", its first {MOST:,} samples" if len(split) > MOST else ""
        wrong = int((answers.predicted != answers.targets).sum())
        parts = [
            f"<p>On {name}{some}: {wrong:,} of {len(answers.targets):,} wrong.</p>",
            confusion_table(answers, names),
        ]
        if wrong:
            worst = worst_samples(answers, dataset, split, names)
            parts += ["<p>The surest of them:</p>", side_by_side(worst, "tiles")]
        return "\n".join(parts)

    def _surrogate(self) -> str:
        drawn = layers.gradients(self.folder.path)
        return side_by_side(
            (drawing(figure, f"membranes and gradient of {layer}") for layer, figure in drawn),
            "pair",
        )

    def _film(self) -> str:
        recording = Recording.open(self.folder.path)
        return training_film(recording, frames=FRAMES).embedded(dpi=FILM_DPI)

    def _workload(self) -> str:
        if not self.summary:
            return _WHEN_ENDED
        bits, work = self.summary["weight_bits"], self.summary["workload"]
        rows = [
            ("additions per sample that spikes cause (AC)", f"{work['effective_acs']:,.0f}"),
            ("products per sample (MAC)", f"{work['effective_macs']:,.0f}"),
            ("operations if nothing were sparse", f"{work['dense_operations']:,.0f}"),
            ("values that are no spike", f"{work['activation_sparsity']:.1%}"),
            *_energy(work),
            ("bits of quantized weights", f"{bits['quantized']:,}"),
            ("bits in full precision", f"{bits['full_precision']:,}"),
            *((name, str(value)) for name, value in self.summary["machine"].items()),
        ]
        return table(("", ""), rows)

    def _configuration(self) -> str:
        text = html.escape(self.config.to_toml())
        return f"<details><summary><code>config.toml</code></summary><pre>{text}</pre></details>"


def _energy(work: dict[str, float]) -> list[tuple[str, str]]:
    """Of a run from before it was estimated, nothing."""
    if "energy_nj" not in work:
        return []
    return [("energy per sample, estimated (45 nm)", f"{work['energy_nj']:,.0f} nJ")]


def _firing(row: dict[str, Any]) -> list[str]:
    """Threshold and shares of a layer; a dash each where it does not fire."""
    if row["threshold"] is None:
        return ["–"] * 4
    out_of_reach = not row["firing_rate"] and row["threshold"] >= 1e3
    return [
        "–" if out_of_reach else f"{row['threshold']:.4g}",
        f"{row['firing_rate']:.2%}",
        f"{row['dead_share']:.1%}",
        f"{row['saturated_share']:.1%}",
    ]
