r"""Which neurons a higher threshold silences (Eshraghian and Lu 2022, Eq. 6 and 7).

A threshold step kills a neuron if its weights do not keep up. With z the
neuron's inputs, the same before and after the step, annealing is safe while

    θ[γ+1] = (1 − α) θ[γ] + α θ∞ < z · w[γ+1],                    (Eq. 6)
    θ∞ < z · w∞,                                                  (Eq. 7)

w[γ+1] being the weights after the optimizer's own update. The paper derives this for one
instantaneous input and says how to relax it (Appendix C): the membrane takes
the place of z · w, and only a neuron's last spike counts. So, over all time
steps and samples of a batch,

    peak = max_t u[t],   u[t+1] = β u[t] + I[t+1],

is the highest point of the membrane without reset, and

    silenced by θ′  ⟺  peak[γ] ≥ θ[γ]  and  peak[γ+1] < θ′.

That is exact, with any reset: up to its first spike a neuron follows the
trajectory without reset, so it fires at θ′ somewhere if and only if
peak ≥ θ′. (Eq. 6 is strict where Eq. 2 fires: a neuron at its threshold fires.)
"""

from __future__ import annotations

import torch
from torch import Tensor


def free_peak(
    current: Tensor, beta: Tensor, membrane: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Highest membrane of each neuron without reset, over time steps and samples.

    Args:
        current: I, ``[time, batch, *neurons]``.
        beta: decay β per time step, broadcasts against ``[batch, *neurons]``.
        membrane: u before the first step, ``[batch, *neurons]``; zero if None.

    Returns:
        The peaks, ``[*neurons]``, and u after the last step, from where the
        window can be continued.

    Example:
        >>> current = torch.tensor([1.0, 1.0, -1.0]).view(3, 1, 1)  # one neuron
        >>> free_peak(current, torch.tensor(0.5))
        (tensor([1.5000]), tensor([[-0.2500]]))
    """
    beta = beta.to(current.dtype)
    u = torch.zeros_like(current[0]) if membrane is None else membrane.to(current.dtype)
    peak = torch.full_like(u[0], -torch.inf)
    for step_current in current:
        u = beta * u + step_current
        peak = torch.maximum(peak, u.amax(0))
    return peak, u


def silenced(before: Tensor, threshold: Tensor, after: Tensor, raised: Tensor) -> Tensor:
    """Which neurons fired at a threshold and do not reach a raised one.

    Args:
        before: peaks with the weights w[γ], see :func:`free_peak`.
        threshold: θ[γ], broadcasts against them.
        after: peaks with the weights w[γ+1].
        raised: θ[γ+1] for Eq. 6, θ∞ for Eq. 7.

    Returns:
        Booleans like ``before``.

    Example:
        Two neurons fire at θ = 5; the second one's weights do not keep up.

        >>> before, after = torch.tensor([5.5, 5.0, 2.0]), torch.tensor([6.5, 5.5, 3.0])
        >>> silenced(before, torch.tensor(5.0), after, torch.tensor(6.0))
        tensor([False,  True, False])
    """
    return (before >= threshold) & (after < raised)
