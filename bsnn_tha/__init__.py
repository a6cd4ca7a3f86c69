"""Binarized spiking neural networks with threshold annealing, on snnTorch.

>>> import bsnn_tha
>>> network = bsnn_tha.SpikingNetwork(
...     "16C5-AP2-64C5-AP2-10", input_shape=(1, 28, 28), beta=0.9,
...     theta_0=5.0, theta_inf=10.0, alpha=0.01,
... )

What is named here is imported when it is used, and torch and snntorch with it: a deployed
network (:mod:`bsnn_tha.deploy`) runs where neither is installed. Data sets, training and the
command line live in submodules and bring their own dependencies.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

# Before torch is loaded.
from bsnn_tha import idle_threads  # noqa: F401

if TYPE_CHECKING:
    from bsnn_tha.equations.anneal import threshold_at
    from bsnn_tha.equations.binarize import binarize
    from bsnn_tha.equations.sawb import SAWB
    from bsnn_tha.equations.threshold_gradient import ThresholdGradient
    from bsnn_tha.errors import BsnnThaError, InvalidValueError
    from bsnn_tha.freed_memory import keep_freed_memory
    from bsnn_tha.functional.lif import lif_sequence
    from bsnn_tha.loading import load
    from bsnn_tha.losses import spike_count_loss
    from bsnn_tha.nn import thresholds
    from bsnn_tha.nn.network import SpikingNetwork
    from bsnn_tha.nn.neurons.kept_state import reset
    from bsnn_tha.nn.neurons.lateral import LateralLeaky
    from bsnn_tha.nn.neurons.leaky import AnnealedLeaky, Leaky
    from bsnn_tha.nn.neurons.synaptic import Synaptic
    from bsnn_tha.nn.thresholds import ThresholdRule
    from bsnn_tha.nn.weights.binary import BinaryConv2d, BinaryLinear
    from bsnn_tha.nn.weights.quantized import QuantizedConv2d, QuantizedLinear
    from bsnn_tha.training.trained import Trained

__version__ = "0.1.0"

__all__ = [
    "SAWB",
    "AnnealedLeaky",
    "BinaryConv2d",
    "BinaryLinear",
    "BsnnThaError",
    "InvalidValueError",
    "LateralLeaky",
    "Leaky",
    "QuantizedConv2d",
    "QuantizedLinear",
    "SpikingNetwork",
    "Synaptic",
    "ThresholdGradient",
    "ThresholdRule",
    "Trained",
    "binarize",
    "keep_freed_memory",
    "lif_sequence",
    "load",
    "reset",
    "spike_count_loss",
    "threshold_at",
    "thresholds",
]

_HOMES = {
    "bsnn_tha.equations.anneal": ("threshold_at",),
    "bsnn_tha.equations.binarize": ("binarize",),
    "bsnn_tha.equations.sawb": ("SAWB",),
    "bsnn_tha.equations.threshold_gradient": ("ThresholdGradient",),
    "bsnn_tha.errors": ("BsnnThaError", "InvalidValueError"),
    "bsnn_tha.freed_memory": ("keep_freed_memory",),
    "bsnn_tha.functional.lif": ("lif_sequence",),
    "bsnn_tha.loading": ("load",),
    "bsnn_tha.losses": ("spike_count_loss",),
    "bsnn_tha.nn.network": ("SpikingNetwork",),
    "bsnn_tha.nn.neurons.kept_state": ("reset",),
    "bsnn_tha.nn.neurons.lateral": ("LateralLeaky",),
    "bsnn_tha.nn.neurons.leaky": ("AnnealedLeaky", "Leaky"),
    "bsnn_tha.nn.neurons.synaptic": ("Synaptic",),
    "bsnn_tha.nn.thresholds": ("ThresholdRule",),
    "bsnn_tha.nn.weights.binary": ("BinaryConv2d", "BinaryLinear"),
    "bsnn_tha.nn.weights.quantized": ("QuantizedConv2d", "QuantizedLinear"),
    "bsnn_tha.training.trained": ("Trained",),
}


def __getattr__(name: str) -> Any:
    """A name of the table, or a submodule, imported now."""
    for module, names in _HOMES.items():
        if name in names:
            found = getattr(importlib.import_module(module), name)
            globals()[name] = found
            return found
    if name == "thresholds":
        return importlib.import_module("bsnn_tha.nn.thresholds")
    if (
        name.isidentifier()
        and not name.startswith("_")
        and importlib.util.find_spec(f"{__name__}.{name}")
    ):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
