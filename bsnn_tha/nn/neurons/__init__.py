"""Neurons from their settings, as a configuration gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict, get_args

from torch import Tensor

from bsnn_tha.choices import Axis
from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.surrogate import Surrogate, choose_surrogate
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient, Window
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif import Backend
from bsnn_tha.nn.neurons.lateral import LateralLeaky
from bsnn_tha.nn.neurons.leaky import Leaky
from bsnn_tha.nn.neurons.neuron import (
    Emission,
    SurrogateCentre,
    WindowNeuron,
    check_choice,
    decay,
)
from bsnn_tha.nn.neurons.synaptic import Synaptic
from bsnn_tha.nn.per_layer import EachLayer
from bsnn_tha.nn.thresholds import Never, RuleChoice, ThresholdRule, make_rule

Sharing = Literal["layer", "neuron"]
"""Whose a threshold is: the layer's, or each neuron's own."""

NeuronChoice = str | type[WindowNeuron]

NEURONS: Axis[WindowNeuron] = Axis(
    "neuron model",
    {"leaky": Leaky, "synaptic": Synaptic},
    fits=lambda found: isinstance(found, type) and issubclass(found, WindowNeuron),
    wanted="a class derived from bsnn_tha.nn.neurons.neuron.WindowNeuron",
)
"""Neurons by name; one of one's own takes ``beta``, ``threshold`` and what else it names."""


class NeuronSettings(TypedDict, total=False):
    """What :class:`bsnn_tha.SpikingNetwork` takes for its neurons, layer by layer.

    Each is an argument of :func:`make_neuron`, where it is described: a single value, a
    list with one for each spiking layer, or a table by kind of layer
    (:mod:`bsnn_tha.nn.per_layer`). Of options each has its values so.
    """

    beta: Required[EachLayer[float | Tensor]]
    theta_0: EachLayer[float]
    theta_inf: EachLayer[float] | None
    alpha: EachLayer[float] | None
    rule: EachLayer[RuleChoice] | None
    rule_options: Mapping[str, EachLayer[Any]]
    per: EachLayer[Sharing]
    penalty_window: EachLayer[Window]
    fired_only: EachLayer[bool]
    model: EachLayer[NeuronChoice]
    model_options: Mapping[str, EachLayer[Any]]
    synaptic_decay: EachLayer[float] | None
    lateral_width: EachLayer[int]
    emits: EachLayer[Emission]
    surrogate: EachLayer[str | Surrogate]
    surrogate_options: Mapping[str, EachLayer[Any]]
    slope: EachLayer[float] | None
    surrogate_scale: EachLayer[float] | None
    surrogate_centre: EachLayer[SurrogateCentre]
    reset_mechanism: EachLayer[Reset]
    learn_beta: EachLayer[bool]
    init_hidden: EachLayer[bool]
    backend: EachLayer[Backend]


def make_neuron(
    shape: Sequence[int],
    *,
    beta: float | Tensor,
    theta_0: float | None = None,
    theta_inf: float | None = None,
    alpha: float | None = None,
    rule: RuleChoice | None = None,
    rule_options: Mapping[str, Any] | None = None,
    per: Sharing = "layer",
    penalty_window: Window = "none",
    fired_only: bool = False,
    model: NeuronChoice = "leaky",
    model_options: Mapping[str, Any] | None = None,
    synaptic_decay: float | None = None,
    lateral_width: int = 0,
    emits: Emission = "spikes",
    surrogate: str | Surrogate = "fast_sigmoid",
    surrogate_options: Mapping[str, Any] | None = None,
    slope: float | None = None,
    surrogate_scale: float | None = None,
    surrogate_centre: SurrogateCentre = "clamped",
    reset_mechanism: Reset = "subtract",
    learn_beta: bool = False,
    init_hidden: bool = False,
    backend: Backend = "auto",
    fires: bool = True,
) -> WindowNeuron:
    """The neurons of one layer.

    Args:
        shape: of the layer's neurons, for a threshold per neuron.
        beta: β.
        theta_0, theta_inf, alpha, rule, rule_options: of the threshold, as
            :func:`~bsnn_tha.nn.thresholds.make_rule` takes them; θ0 is 1 for rules that
            have no other default.
        per: whether the layer has a threshold, or each neuron.
        penalty_window, fired_only: how a learned threshold gets its gradient,
            :class:`~bsnn_tha.equations.threshold_gradient.ThresholdGradient`.
        model: ``"leaky"``, ``"synaptic"``, which needs ``synaptic_decay``, or a class.
        model_options: other arguments of a neuron of one's own.
        synaptic_decay: κ of :class:`~bsnn_tha.nn.neurons.synaptic.Synaptic`, which as
            snnTorch calls it alpha: among these settings that is annealing's.
        lateral_width: receptive field of the lateral interaction
            (:class:`~bsnn_tha.nn.neurons.lateral.LateralLeaky`), 0 for none.
        emits: what the layer hands on: its spikes, or its membranes.
        surrogate, surrogate_options, slope, surrogate_scale: of the surrogate gradient, as
            :func:`~bsnn_tha.equations.surrogate.choose_surrogate` takes them.
        surrogate_centre, reset_mechanism, learn_beta, init_hidden, backend: as in
            :class:`bsnn_tha.Leaky`.
        fires: False for neurons that integrate only, and hand their membranes on; the
            settings of threshold, surrogate and reset are then left as they are.

    Raises:
        InvalidValueError: a value breaks its rule, or two do not go together.

    Example:
        >>> neuron = make_neuron((3,), beta=0.9, rule="learned", per="neuron", theta_0=1.25)
        >>> neuron.threshold.shape
        torch.Size([3])
    """
    check_choice("per", per, get_args(Sharing))
    check_choice("emits", emits, get_args(Emission))
    threshold: ThresholdRule = Never()
    if fires:
        threshold = make_rule(
            rule,
            shape if per == "neuron" else (),
            theta_0=1.0 if theta_0 is None else theta_0,
            theta_inf=theta_inf,
            alpha=alpha,
            rule_options=rule_options,
        )
    else:
        reset_mechanism, emits = "none", "membrane"
    settings: dict[str, Any] = dict(model_options or {})
    if synaptic_decay is not None:
        settings["alpha"] = decay("synaptic_decay", synaptic_decay)
    if lateral_width:
        _check_lateral(model, shape, lateral_width)
        model, settings = LateralLeaky, {**settings, "width": lateral_width, "emits": emits}
    neuron: WindowNeuron = NEURONS.make(
        model,
        settings,
        given={
            "beta": beta,
            "threshold": threshold,
            "surrogate": choose_surrogate(surrogate, slope, surrogate_scale, surrogate_options),
            "surrogate_centre": surrogate_centre,
            "threshold_gradient": _gradient(threshold, penalty_window, fired_only),
            "learn_beta": learn_beta,
            "init_hidden": init_hidden,
            "reset_mechanism": reset_mechanism,
            "backend": backend,
        },
        written={"alpha": "synaptic_decay"},
    )
    neuron.emits = emits
    return neuron


def _check_lateral(model: NeuronChoice, shape: Sequence[int], width: int) -> None:
    if model not in ("leaky", Leaky):
        raise InvalidValueError(
            f"lateral interaction is defined for model='leaky', but got model={model!r}"
        )
    if len(shape) != 1:
        raise InvalidValueError(
            "lateral interaction is for fully connected layers, but got "
            f"lateral_width={width} for maps of {' × '.join(map(str, shape))}; give "
            "lateral_width per layer, 0 for convolutions"
        )


def _gradient(rule: ThresholdRule, window: Window, fired_only: bool) -> ThresholdGradient:
    gradient = ThresholdGradient(window, fired_only)
    if gradient != SHARED and not rule.learned:
        given = f"penalty_window={window!r}, fired_only={fired_only}"
        raise InvalidValueError(
            f"penalty_window and fired_only are for learned thresholds, but got {given} with "
            f"{type(rule).__name__}; leave them out"
        )
    return gradient
