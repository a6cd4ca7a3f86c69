"""What a trained network answers on a split: the confusion matrix, and its worst samples."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from animations.samples import draw_sample
from animations.style import BLUE, RC
from bsnn_tha.data.dataset import Dataset, Split
from bsnn_tha.data.inspect import samples_of
from bsnn_tha.training.trained import Trained

MOST = 2000
"""Samples that are looked at: the first, of larger splits."""
WORST = 10
COLUMNS = 5
_LABELLED = 20
"""Classes up to which each cell of the matrix says its number."""


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


def confusion_figure(answers: Answers, names: list[str]) -> Figure:
    """The confusion matrix: rows are true classes, shares of each row coloured."""
    matrix = answers.matrix()
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    size = min(10.0, 2.5 + 0.4 * len(names))
    with plt.rc_context(RC):
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
        if len(names) <= _LABELLED:
            places = range(len(names))
            axes.set_xticks(places, names, rotation=90)
            axes.set_yticks(places, names)
            for row in places:
                for column in places:
                    if count := int(matrix[row, column]):
                        light = shares[row, column] > 0.5
                        axes.text(
                            column, row, f"{count}", ha="center", va="center", size=8,
                            color="white" if light else BLUE,
                        )  # fmt: skip
        axes.set(xlabel="answer", ylabel="class")
        axes.spines[:].set_visible(False)
    return figure


def worst_figure(answers: Answers, dataset: Dataset, split: Split, names: list[str]) -> Figure:
    """The surest wrong answers, each as ``class → answer``."""
    indices = answers.worst()
    rows = -(-len(indices) // COLUMNS)
    with plt.rc_context(RC):
        figure = Figure(figsize=(1.7 * COLUMNS, 1.95 * rows), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes, index in zip(grid, indices, strict=False):
            draw_sample(axes, dataset, split, index)
            true, said = answers.targets[index], answers.predicted[index]
            axes.set_title(f"{names[true]} → {names[said]}")
        for axes in grid[len(indices) :]:
            axes.set_axis_off()
    return figure
