"""How a data set's samples become whole numbers.

Pixels are multiples of 1/255 (or of 1/16: scikit-learn's digits), events are counts: their
whole numbers are exact, and as many bits as the training samples need are taken. Samples that
are multiples of nothing are rounded to ``input_bits``; so are exact ones that ask for more.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.event_batch import EventBatch
from bsnn_tha.deploy.network import Array, InputEncoding
from bsnn_tha.errors import InvalidValueError

_SCALES = (1.0, 1 / 255, 1 / 16, 1 / 15, 1 / 127)
_LOOKED_AT = 512
"""Training samples."""


def samples_of(inputs: object) -> Array:
    """A batch of a data set as float64, ``[batch, ...]`` or ``[time, batch, ...]``."""
    values = inputs.dense() if isinstance(inputs, EventBatch) else inputs
    return np.asarray(values, np.float64)


def encoding_of(dataset: Dataset, input_bits: int = 8) -> InputEncoding:
    """The encoding of a data set's samples, from some of its training samples.

    Args:
        dataset: whose network is deployed.
        input_bits: of a value at most, its sign included.

    Raises:
        InvalidValueError: fewer bits than 1 or more than 16.
    """
    if not 1 <= input_bits <= 16:
        raise InvalidValueError(f"input_bits must be 1 to 16, but got {input_bits}")
    step = max(1, len(dataset.train) // _LOOKED_AT)
    indices = list(range(0, len(dataset.train), step))
    batches = (
        dataset.train[indices[first : first + 64]][0] for first in range(0, len(indices), 64)
    )
    low, high, candidates = 0.0, 0.0, list(dict.fromkeys([_own(dataset), *_SCALES]))
    for batch in batches:
        values = samples_of(batch)
        low, high = min(low, values.min()), max(high, values.max())
        candidates = [scale for scale in candidates if _multiples(values, scale)]
    signed, most = low < 0, max(high, -low)
    kind: Literal["image", "events"] = "image" if dataset.static else "events"
    for scale in candidates:
        bits = int(np.rint(most / scale)).bit_length() + signed
        if 1 <= bits <= input_bits:
            return InputEncoding(kind, dataset.input_shape, bits, signed, scale)
    steps = 2 ** (input_bits - signed) - 1
    if steps < 1 or not most:
        raise InvalidValueError(
            f"the samples of {dataset.name} do not fit input_bits={input_bits}; give more"
        )
    return InputEncoding(kind, dataset.input_shape, input_bits, signed, float(most / steps))


def _own(dataset: Dataset) -> float:
    """What the data set itself counts by, if it says so."""
    return float(getattr(dataset.train, "scale", 1.0))


def _multiples(values: Array, scale: float) -> bool:
    # Float32 samples are multiples but for their rounding.
    counts = values / scale
    return bool((np.abs(counts - np.rint(counts)) <= 1e-5 * np.maximum(1, np.abs(counts))).all())
