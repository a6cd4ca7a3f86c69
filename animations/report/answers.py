"""What a trained network answers on a split: the confusion matrix, and its worst samples."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from animations.samples import draw_sample
from animations.style import RC
from bsnn_tha.data.dataset import Dataset, Split
from bsnn_tha.data.inspect import samples_of
from bsnn_tha.html_page import picture
from bsnn_tha.training.trained import Trained

MOST = 2000
"""Samples that are looked at: the first, of larger splits."""
WORST = 10
"""Wrong answers that are shown."""


@dataclass(frozen=True)
class Answers:
    """Of a network on the first samples of a split.

    Args:
        targets: true classes, ``[samples]``.
        scores: ``[samples, classes]``.
    """

    targets: Tensor
    scores: Tensor

    @classmethod
    def of(cls, trained: Trained, split: Split, batch: int = 64) -> Answers:
        """Ask the network.

        Args:
            trained: the network, with the loss that reads its answers.
            split: whose samples it gets, :data:`MOST` at most.
            batch: so many at once.
        """
        count = min(len(split), MOST)
        scores = [
            trained.loss.scores(
                trained(samples_of(split, [*range(first, min(first + batch, count))]))
            ).detach()
            for first in range(0, count, batch)
        ]
        return cls(split.targets[:count], torch.cat(scores))

    @property
    def predicted(self) -> Tensor:
        """Classes, ``[samples]``."""
        return self.scores.argmax(1)

    def matrix(self) -> Tensor:
        """``[true, predicted]``: how many samples.

        Example:
            >>> scores = torch.tensor([[0.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
            >>> Answers(torch.tensor([1, 0, 0]), scores).matrix().tolist()
            [[1, 1], [0, 1]]
        """
        classes = self.scores.shape[1]
        pairs = self.targets * classes + self.predicted
        return torch.bincount(pairs, minlength=classes**2).view(classes, classes)

    def margins(self) -> Tensor:
        """Score of the true class less the highest of the others; negative where it is wrong.

        Example:
            >>> scores = torch.tensor([[0.0, 1.0, 4.0], [5.0, 1.0, 4.0]])
            >>> Answers(torch.tensor([1, 0]), scores).margins().tolist()
            [-3.0, 1.0]
        """
        own = self.scores.gather(1, self.targets[:, None])
        others = self.scores.scatter(1, self.targets[:, None], float("-inf"))
        return (own - others.max(1, keepdim=True).values).squeeze(1)

    def worst(self, most: int = WORST) -> list[int]:
        """Samples that were answered wrongly, the surest of them first."""
        margins = self.margins()
        wrong = (self.predicted != self.targets).nonzero().flatten()
        return wrong[margins[wrong].argsort(stable=True)][:most].tolist()


def confusion_table(answers: Answers, names: list[str]) -> str:
    """The confusion matrix as part of a page: rows are true classes, coloured by their shares."""
    matrix = answers.matrix()
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    written = [html.escape(name) for name in names]
    head = "".join(f"<th><span>{name}</span></th>" for name in written)
    rows = "\n".join(
        f"<tr><th>{name}</th>{''.join(map(_cell, counts, of_class))}</tr>"
        for name, counts, of_class in zip(written, matrix.tolist(), shares.tolist(), strict=True)
    )
    turned = " turned" if max(map(len, names)) > 3 else ""
    table = f'<table class="matrix{turned}"><tr><th></th>{head}</tr>\n{rows}</table>'
    return f'<p class="note">Rows: class. Columns: answer.</p><div class="wide">{table}</div>'


def _cell(count: int, share: float) -> str:
    return f'<td style="--share: {share:.0%}">{count}</td>' if count else "<td></td>"


def worst_samples(
    answers: Answers, dataset: Dataset, split: Split, names: list[str]
) -> Iterator[str]:
    """The surest wrong answers, each a picture with ``class → answer`` below it."""
    for index in answers.worst():
        with plt.rc_context(RC):
            figure = Figure(figsize=(1.6, 1.6), layout="constrained")
            draw_sample(figure.subplots(), dataset, split, index)
        said = f"{names[answers.targets[index]]} → {names[answers.predicted[index]]}"
        image = picture(figure, f"sample {index} of the split, {said}")
        yield f"<figure>{image}<figcaption>{html.escape(said)}</figcaption></figure>"
