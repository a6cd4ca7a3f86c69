"""Threshold rules: how a layer's firing threshold comes about, one axis of a neuron.

=====================  ====================================================  ==============
name                   rule                                                  paper
=====================  ====================================================  ==============
``fixed``              :class:`Fixed`, θ = θ0
``annealed``           :class:`Annealed`, θ0 to θ∞ (Eq. 4)                   THA
``learned``            :class:`Learned`, a parameter                         Rouser, LT-SNN
``tanh``               :class:`Tanh`, c · tanh(k), k a parameter             LTMD
``annealed-learned``   :class:`AnnealedLearned`, the schedule plus a
                       parameter
``module:Class``       yours, derived from :class:`ThresholdRule`
=====================  ====================================================  ==============

Neurons that integrate and do not fire have :class:`Never`; a network's last layer is given it
by ``output = "membrane"``.

``[threshold] rule = ...`` of a configuration takes these names, and the rule's
own arguments beside it. How to write one is shown in ``docs/extending.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from torch import Tensor

from bsnn_tha.choices import Axis, parameters
from bsnn_tha.equations.anneal import check_threshold
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.thresholds.annealed import Annealed
from bsnn_tha.nn.thresholds.learned import AnnealedLearned, Learned, Tanh
from bsnn_tha.nn.thresholds.never import Never
from bsnn_tha.nn.thresholds.rule import Fixed, ThresholdRule

__all__ = [
    "RULES",
    "Annealed",
    "AnnealedLearned",
    "Fixed",
    "Learned",
    "Never",
    "RuleChoice",
    "Tanh",
    "ThresholdRule",
    "as_rule",
    "make_rule",
]

RuleChoice = str | Callable[..., ThresholdRule]
"""A name of the table above, or what makes a rule from its arguments: a class or a function."""

RULES: Axis[ThresholdRule] = Axis(
    "threshold rule",
    {
        "fixed": Fixed,
        "annealed": Annealed,
        "learned": Learned,
        "tanh": Tanh,
        "annealed-learned": AnnealedLearned,
    },
    # A function may make one as well.
    fits=lambda found: (
        issubclass(found, ThresholdRule) if isinstance(found, type) else callable(found)
    ),
    wanted="a class derived from bsnn_tha.ThresholdRule",
    makes=ThresholdRule,
)


def as_rule(threshold: ThresholdRule | float | Tensor, learn: bool = False) -> ThresholdRule:
    """The rule that a threshold given to a neuron stands for.

    Args:
        threshold: a number for the layer, a tensor with one per neuron: fixed, or
            learned with ``learn``. A rule is used as it is: layers that are given
            the same one share it.
        learn: as snnTorch's ``learn_threshold``.

    Raises:
        InvalidValueError: a threshold that is not above 0, no number or tensor at all, an
            empty tensor, or ``learn`` with a rule.

    Example:
        >>> as_rule(1.5), as_rule(1.5, learn=True)
        (Fixed(theta=1.5), Learned(theta=1.5))
    """
    if not isinstance(threshold, ThresholdRule):
        empty = isinstance(threshold, Tensor) and not threshold.numel()
        if empty or not isinstance(threshold, Real | Tensor):
            raise InvalidValueError(
                "threshold must be a number, a tensor with one per neuron or a rule, but got "
                f"{threshold!r}; give torch.as_tensor(threshold) for a list or an array"
            )
        check_threshold(threshold, "threshold")
        return Learned(threshold) if learn else Fixed(threshold)
    if learn:
        raise InvalidValueError(
            "learn_threshold=True goes with a number or a tensor, but got the rule "
            f"{type(threshold).__name__}, which says itself what is learned"
        )
    return threshold


def make_rule(
    rule: RuleChoice | None,
    shape: Sequence[int] = (),
    *,
    theta_0: float | None = None,
    theta_inf: float | None = None,
    alpha: float | None = None,
    rule_options: Mapping[str, Any] | None = None,
) -> ThresholdRule:
    """A rule from its name and arguments, as a configuration gives them.

    Args:
        rule: of :data:`RULES`, or ``module:Class``, or a class. None is ``annealed`` if
            ``theta_inf`` or ``alpha`` is given, else ``fixed``.
        shape: of the neurons for one threshold each, ``()`` for a shared one.
        theta_0: initial threshold θ0.
        theta_inf, alpha: final threshold θ∞ and α, for a rule with a schedule.
        rule_options: other arguments of the rule, e.g. ``minimum`` of ``learned``.

    Arguments that are None count as left out.

    Raises:
        InvalidValueError: no such rule, an argument it does not have or
            lacks, thresholds per neuron of a rule that has none, or a value
            that breaks a rule.

    Example:
        >>> make_rule("learned", shape=(2,), theta_0=1.0)().shape
        torch.Size([2])
        >>> make_rule("learned", theta_0=1.0, rule_options={"minimal": 0.5})
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: threshold rule 'learned' has no setting 'minimal'; did \
you mean 'minimum'?
    """
    settings = {"theta_0": theta_0, "theta_inf": theta_inf, "alpha": alpha, **(rule_options or {})}
    settings = {key: value for key, value in settings.items() if value is not None}
    if rule is None:
        rule = "annealed" if {"theta_inf", "alpha"} & settings.keys() else "fixed"
    if shape and "shape" not in parameters(RULES.find(rule)):
        raise InvalidValueError(
            f"threshold rule {rule!r} has one threshold per layer; "
            "leave out threshold.per or choose another rule"
        )
    made: ThresholdRule = RULES.make(rule, settings, given={"shape": tuple(shape)})
    return made
