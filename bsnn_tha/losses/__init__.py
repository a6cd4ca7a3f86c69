"""Losses on what the output neurons do over a window.

The functions take tensors and serve any training loop. The frozen dataclasses
beside them are what a configuration builds: called with the network's window
and the targets, each returns a scalar, and says by which scores it classifies.
"""

from bsnn_tha.losses.cross_entropy import CrossEntropyLoss
from bsnn_tha.losses.divergence import symmetric_divergence
from bsnn_tha.losses.loss import Loss
from bsnn_tha.losses.mean_membrane import MeanMembraneLoss
from bsnn_tha.losses.membrane import MembraneLoss, membrane_loss
from bsnn_tha.losses.spike_count import SpikeCountLoss, spike_count_loss
from bsnn_tha.losses.temporal_efficient import TemporalEfficientLoss, mean_threshold, tet_loss

__all__ = [
    "CrossEntropyLoss",
    "Loss",
    "MeanMembraneLoss",
    "MembraneLoss",
    "SpikeCountLoss",
    "TemporalEfficientLoss",
    "mean_threshold",
    "membrane_loss",
    "spike_count_loss",
    "symmetric_divergence",
    "tet_loss",
]
