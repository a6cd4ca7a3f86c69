"""What a student learns from a teacher's outputs (Hinton, Vinyals and Dean 2015)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """τ² KL(softmax(teacher / τ) ‖ softmax(student / τ)), the mean over samples.

    The factor keeps the gradient's size as τ changes (their Section 2). Where both agree it
    is 0.

    Args:
        student: scores as the loss's softmax takes them, ``[batch, classes]``.
        teacher: likewise; no gradient.
        temperature: τ > 0.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[0.0, 2.0]])
        >>> distillation_loss(scores, scores, 4.0), distillation_loss(-scores, scores, 4.0)
        (tensor(0.), tensor(1.9593))
    """
    of_student = (student / temperature).log_softmax(-1)
    of_teacher = (teacher.detach() / temperature).log_softmax(-1)
    divergence = F.kl_div(of_student, of_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * divergence
