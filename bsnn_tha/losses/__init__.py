"""Losses on what the output neurons do over a window.

The functions take tensors and serve any training loop. The frozen dataclasses
beside them are what a configuration builds: called with the network's window
and the targets, each returns a scalar, and says by which scores it classifies.

=================  ==================================  =================================
``loss.name``      loss                                from
=================  ==================================  =================================
``spike_count``    :class:`SpikeCountLoss`             THA, Eq. 30
``membrane``       :class:`MembraneLoss`               THA, Eq. 29
``mean_membrane``  :class:`MeanMembraneLoss`           LTMD
``cross_entropy``  :class:`CrossEntropyLoss`, with a   ours
                   readout of
                   :mod:`~bsnn_tha.losses.readouts`
``tet``            :class:`TemporalEfficientLoss`      LT-SNN, Eq. 12
``yolo``           :class:`YoloLoss`, of boxes         YOLOv2; LT-SNN
``module:Class``   yours: see :class:`Loss`
=================  ==================================  =================================

The other keys of a configuration's ``[loss]`` are the loss's own arguments.
"""

from bsnn_tha.choices import Axis
from bsnn_tha.losses.cross_entropy import CrossEntropyLoss
from bsnn_tha.losses.divergence import symmetric_divergence
from bsnn_tha.losses.loss import Loss
from bsnn_tha.losses.mean_membrane import MeanMembraneLoss
from bsnn_tha.losses.membrane import MembraneLoss, membrane_loss
from bsnn_tha.losses.spike_count import SpikeCountLoss, spike_count_loss
from bsnn_tha.losses.temporal_efficient import TemporalEfficientLoss, mean_threshold, tet_loss
from bsnn_tha.losses.yolo import YoloLoss

__all__ = [
    "LOSSES",
    "CrossEntropyLoss",
    "Loss",
    "MeanMembraneLoss",
    "MembraneLoss",
    "SpikeCountLoss",
    "TemporalEfficientLoss",
    "YoloLoss",
    "mean_threshold",
    "membrane_loss",
    "spike_count_loss",
    "symmetric_divergence",
    "tet_loss",
]

LOSSES: Axis[Loss] = Axis(
    "loss",
    {
        "spike_count": SpikeCountLoss,
        "membrane": MembraneLoss,
        "mean_membrane": MeanMembraneLoss,
        "cross_entropy": CrossEntropyLoss,
        "tet": TemporalEfficientLoss,
        "yolo": YoloLoss,
    },
    makes=Loss,
)
"""By name; one that has ``mean_threshold`` among its arguments gets Ω of the network, one that
has ``outputs`` the network's output shape."""
