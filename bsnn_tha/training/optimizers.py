"""The optimizer that ``[optimizer]`` names, with learned thresholds in a group of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bsnn_tha.config import OptimizerSection
from bsnn_tha.nn.thresholds import ThresholdRule


def make_optimizer(module: nn.Module, settings: OptimizerSection) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD for the parameters of a network, and of what is trained with it.

    Args:
        module: any, with threshold rules inside; a loss may have parameters as well.
        settings: ``[optimizer]``; its schedule is not looked at.
    """
    groups = parameter_groups(module, settings.lr, settings.threshold_lr)
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.name == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, **common)
    kind: Any = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    # One pass over the parameters rather than ten.
    optimizer = kind(groups, betas=settings.betas, fused=True, **common)
    # It offers to undo a gradient scaler's factor, for which Lightning refuses to clip
    # gradients in mixed precision. The scaler can do that itself.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def parameter_groups(
    network: nn.Module, lr: float, threshold_lr: float | None
) -> list[dict[str, Any]]:
    """Learned thresholds apart from all else, for an optimizer.

    Args:
        network: any, with threshold rules inside.
        lr: learning rate of the weights.
        threshold_lr: of the thresholds' parameters; None for the same.

    Example:
        >>> from bsnn_tha import SpikingNetwork
        >>> network = SpikingNetwork("4-2", (3,), beta=0.9, rule="learned", theta_0=1.0)
        >>> groups = parameter_groups(network, 1e-3, 1e-2)
        >>> [(len(group["params"]), group["lr"]) for group in groups]
        [(4, 0.001), (2, 0.01)]
    """
    rules = [m for m in network.modules() if isinstance(m, ThresholdRule)]
    thresholds = [parameter for rule in rules for parameter in rule.parameters()]
    learned = {id(parameter) for parameter in thresholds}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in learned]
    groups = [{"params": rest, "lr": lr}]
    if thresholds:
        groups.append({"params": thresholds, "lr": lr if threshold_lr is None else threshold_lr})
    return groups
