"""What two passes through dropout disagree about (LTMD)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def symmetric_divergence(scores_p: Tensor, scores_q: Tensor) -> Tensor:
    """KL(P ‖ Q) + KL(Q ‖ P), the mean over samples (LTMD, Eq. 11 and 12).

    Args:
        scores_p, scores_q: ``[batch, classes]``, of the same samples in two
            passes; P and Q are their softmaxes.

    Example:
        >>> import torch
        >>> p, q = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
        >>> symmetric_divergence(p, p), symmetric_divergence(p, q)
        (tensor(0.), tensor(0.9242))
    """
    log_p, log_q = scores_p.log_softmax(-1), scores_q.log_softmax(-1)
    forth = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    back = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return forth + back
