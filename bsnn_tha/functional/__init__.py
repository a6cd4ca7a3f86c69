"""What people call: whole windows of layers, on the fastest way there is.

The equations they compute are in :mod:`bsnn_tha.equations`, each to be read beside its paper.
"""

from bsnn_tha.equations.binarize import binarize
from bsnn_tha.equations.lif import LIFWindow, fire, integrate, lif_sequence_reference
from bsnn_tha.functional.batch_norm import batch_norm_steps
from bsnn_tha.functional.conv import conv_avg_pool2d
from bsnn_tha.functional.lif import lif_sequence
from bsnn_tha.functional.sparse_conv import sparse_conv2d
from bsnn_tha.functional.spike_conv import spike_conv2d

__all__ = [
    "LIFWindow",
    "batch_norm_steps",
    "binarize",
    "conv_avg_pool2d",
    "fire",
    "integrate",
    "lif_sequence",
    "lif_sequence_reference",
    "sparse_conv2d",
    "spike_conv2d",
]
