"""Do two networks compute the same? Spike counts and gradients, before anything is timed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.peers.workload import Arrays

COUNT_TOLERANCE, COSINE_TOLERANCE = 0.01, 0.03
"""Orders of summation differ, and a membrane within a rounding error of θ makes a spike
more or less, which later layers pass on: a few counts may be off, not their bulk. Gradients
feel it more, where the surrogate is steep (MNIST: 1.8% of counts off by one or two, and
0.987 for the worst tensor)."""


@dataclass(frozen=True)
class Agreement:
    """Of a peer's outputs with the reference's."""

    equal: float
    """Share of spike counts (per sample and class, training and evaluation) that are equal."""
    largest: float
    """Largest difference of a count."""
    relative: float
    """Mean difference of a count over the mean count."""
    cosine: float
    """Of the gradients of all latent weights and other parameters: the worst tensor's."""
    mean_count: float

    @property
    def holds(self) -> bool:
        """Whether this is the same work."""
        return (
            self.mean_count > 0
            and self.relative <= COUNT_TOLERANCE
            and self.cosine >= 1 - COSINE_TOLERANCE
        )

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def compare(found: Arrays, reference: Arrays) -> Agreement:
    """Compare what :meth:`benchmarks.peers.worker.Peer.outputs` returned.

    Raises:
        ValueError: they hold other arrays.
    """
    if sorted(found) != sorted(reference):
        raise ValueError("the outputs to compare are of different networks")
    counts = np.concatenate([found[key].ravel() for key in ("train", "eval")])
    wanted = np.concatenate([reference[key].ravel() for key in ("train", "eval")])
    gradients = [key for key in reference if key.startswith("gradient ")]
    difference = np.abs(counts - wanted)
    mean = float(wanted.mean())
    return Agreement(
        equal=float((difference == 0).mean()),
        largest=float(difference.max()),
        relative=float(difference.mean() / mean) if mean else float("inf"),
        cosine=min(cosine(found[key], reference[key]) for key in gradients),
        mean_count=mean,
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the angle between two tensors; 1 if both are zero."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    if lengths == 0:
        return float(not x.any() and not y.any())
    return float(x @ y) / lengths
