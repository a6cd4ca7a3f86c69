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

``[threshold] rule = ...`` of a configuration takes these names, and the rule's
own arguments beside it. How to write one is shown in ``docs/thresholds``.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from bsnn_tha.equations.anneal import check_threshold
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.thresholds.annealed import Annealed
from bsnn_tha.nn.thresholds.learned import AnnealedLearned, Learned, Tanh
from bsnn_tha.nn.thresholds.rule import Fixed, ThresholdRule
from bsnn_tha.suggest import did_you_mean

__all__ = [
    "RULES",
    "Annealed",
    "AnnealedLearned",
    "Fixed",
    "Learned",
    "Tanh",
    "ThresholdRule",
    "as_rule",
    "find_rule",
    "make_rule",
]

RULES: dict[str, type[ThresholdRule]] = {
    "fixed": Fixed,
    "annealed": Annealed,
    "learned": Learned,
    "tanh": Tanh,
    "annealed-learned": AnnealedLearned,
}


def as_rule(threshold: ThresholdRule | float | Tensor, learn: bool = False) -> ThresholdRule:
    """The rule that a threshold given to a neuron stands for.

    Args:
        threshold: a number for the layer, a tensor with one per neuron: fixed, or
            learned with ``learn``. A rule is used as it is: layers that are given
            the same one share it.
        learn: as snnTorch's ``learn_threshold``.

    Raises:
        InvalidValueError: a threshold that is not above 0, or ``learn`` with a rule.

    Example:
        >>> as_rule(1.5), as_rule(1.5, learn=True)
        (Fixed(theta=1.5), Learned(theta=1.5))
    """
    if not isinstance(threshold, ThresholdRule):
        check_threshold(threshold, "threshold")
        return Learned(threshold) if learn else Fixed(threshold)
    if learn:
        raise InvalidValueError(
            "learn_threshold=True goes with a number or a tensor, but got the rule "
            f"{type(threshold).__name__}, which says itself what is learned"
        )
    return threshold


def make_rule(name: str | None, shape: Sequence[int] = (), **settings: Any) -> ThresholdRule:
    """A rule from its name and arguments, as a configuration gives them.

    Args:
        name: of :data:`RULES`, or ``module:Class``. None is ``annealed`` if
            ``theta_inf`` or ``alpha`` is given, else ``fixed``.
        shape: of the neurons for one threshold each, ``()`` for a shared one.
        **settings: the rule's arguments; those that are None count as left out.

    Raises:
        InvalidValueError: no such rule, an argument it does not have or
            lacks, thresholds per neuron of a rule that has none, or a value
            that breaks a rule.

    Example:
        >>> make_rule("learned", shape=(2,), theta_0=1.0)().shape
        torch.Size([2])
        >>> make_rule("learned", theta_0=1.0, minimal=0.5)
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: threshold rule 'learned' has no setting 'minimal'; did \
you mean 'minimum'?
    """
    settings = {key: value for key, value in settings.items() if value is not None}
    if name is None:
        name = "annealed" if {"theta_inf", "alpha"} & settings.keys() else "fixed"
    rule = find_rule(name)
    parameters = dict(inspect.signature(rule).parameters)
    per_neuron = parameters.pop("shape", None) is not None
    if shape:
        if not per_neuron:
            raise InvalidValueError(
                f"threshold rule {name!r} has one threshold per layer; "
                "leave out threshold.per or choose another rule"
            )
        settings["shape"] = tuple(shape)
    for key in settings:
        if key != "shape" and key not in parameters:
            raise InvalidValueError(
                f"threshold rule {name!r} has no setting {key!r}{did_you_mean(key, parameters)}"
            )
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in settings:
            raise InvalidValueError(f"threshold rule {name!r} needs {key}; set threshold.{key}")
    return rule(**settings)


def find_rule(name: str) -> type[ThresholdRule]:
    """The class a name stands for.

    Args:
        name: of :data:`RULES`, or ``module:Class`` of a module that can be
            imported, from the working directory among others.

    Raises:
        InvalidValueError: nothing of that name, or it is no threshold rule.
    """
    if ":" not in name:
        if name not in RULES:
            raise InvalidValueError(
                f"unknown threshold rule {name!r}{did_you_mean(name, RULES)}; "
                "yours is given as module:Class"
            )
        return RULES[name]
    module, _, attribute = name.partition(":")
    # As `python -m` does and an installed command does not.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        rule = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidValueError(f"threshold rule {name!r} cannot be imported: {error}") from None
    if not (isinstance(rule, type) and issubclass(rule, ThresholdRule)):
        raise InvalidValueError(
            f"threshold rule {name!r} must be a class derived from bsnn_tha.ThresholdRule, "
            f"but got {rule!r}"
        )
    return rule
