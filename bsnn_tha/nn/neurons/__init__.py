"""Neurons from their settings, as a configuration gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.threshold_gradient import ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif import Backend
from bsnn_tha.nn.neurons.lateral import LateralLeaky
from bsnn_tha.nn.neurons.leaky import Leaky
from bsnn_tha.nn.neurons.neuron import Emission, SurrogateCentre, WindowNeuron, decay
from bsnn_tha.nn.neurons.synaptic import Synaptic
from bsnn_tha.nn.thresholds import make_rule

NeuronModel = Literal["leaky", "synaptic"]


def make_neuron(
    shape: Sequence[int],
    *,
    model: NeuronModel = "leaky",
    beta: Any,
    synaptic_decay: float | None = None,
    lateral_width: int = 0,
    emits: Emission = "spikes",
    rule: str | None = None,
    per: Literal["layer", "neuron"] = "layer",
    penalty_window: Any = "none",
    fired_only: bool = False,
    theta_0: float = 1.0,
    surrogate: Any = "fast_sigmoid",
    slope: float | None = None,
    surrogate_scale: float | None = None,
    surrogate_centre: SurrogateCentre = "clamped",
    reset_mechanism: Reset = "subtract",
    learn_beta: bool = False,
    init_hidden: bool = False,
    backend: Backend = "auto",
    **threshold: Any,
) -> WindowNeuron:
    """The neurons of one layer.

    Args:
        shape: of the layer's neurons, for a threshold per neuron.
        model: ``"leaky"`` or ``"synaptic"``, which needs ``synaptic_decay``.
        beta: β.
        synaptic_decay: κ of :class:`~bsnn_tha.nn.neurons.synaptic.Synaptic`, which as
            snnTorch calls it alpha: among these settings that is annealing's.
        lateral_width: receptive field of the lateral interaction
            (:class:`~bsnn_tha.nn.neurons.lateral.LateralLeaky`), 0 for none.
        emits: what the layer hands on: its spikes, or its membranes.
        rule, per: the threshold's rule, for the layer or for each neuron.
        penalty_window, fired_only: how a learned threshold gets its gradient,
            :class:`~bsnn_tha.equations.threshold_gradient.ThresholdGradient`.
        theta_0: initial threshold θ0.
        surrogate, slope, surrogate_scale, surrogate_centre, reset_mechanism,
            learn_beta, init_hidden, backend: as in :class:`bsnn_tha.Leaky`.
        **threshold: further arguments of the rule.

    Raises:
        InvalidValueError: a value breaks its rule, or two do not go together.

    Example:
        >>> neuron = make_neuron((3,), beta=0.9, rule="learned", per="neuron", theta_0=1.25)
        >>> neuron.threshold.shape
        torch.Size([3])
    """
    if model not in get_args(NeuronModel):
        raise InvalidValueError(
            f"model must be one of {', '.join(get_args(NeuronModel))}, but got {model!r}"
        )
    if model == "synaptic" and synaptic_decay is None:
        raise InvalidValueError("model='synaptic' needs synaptic_decay; set neuron.synaptic_decay")
    if model != "synaptic" and synaptic_decay is not None:
        raise InvalidValueError(
            f"synaptic_decay={synaptic_decay} belongs to model='synaptic', but got model={model!r}"
        )
    if lateral_width and len(shape) != 1:
        raise InvalidValueError(
            "lateral interaction is for fully connected layers, but got "
            f"lateral_width={lateral_width} for maps of {' × '.join(map(str, shape))}; give "
            "lateral_width per layer, 0 for convolutions"
        )
    threshold_rule = make_rule(rule, shape if per == "neuron" else (), theta_0=theta_0, **threshold)
    settings: dict[str, Any] = {
        "surrogate": surrogate,
        "slope": slope,
        "surrogate_scale": surrogate_scale,
        "surrogate_centre": surrogate_centre,
        "threshold_gradient": ThresholdGradient(penalty_window, fired_only),
        "learn_beta": learn_beta,
        "init_hidden": init_hidden,
        "reset_mechanism": reset_mechanism,
        "backend": backend,
    }
    neuron: WindowNeuron
    if synaptic_decay is not None:
        if lateral_width:
            raise InvalidValueError(
                "lateral interaction is defined for model='leaky', but got model='synaptic'"
            )
        alpha = decay("synaptic_decay", synaptic_decay)
        neuron = Synaptic(alpha, beta, threshold_rule, **settings)
    elif lateral_width:
        neuron = LateralLeaky(beta, threshold_rule, width=lateral_width, emits=emits, **settings)
    else:
        neuron = Leaky(beta, threshold_rule, **settings)
    neuron.emits = emits
    return neuron
