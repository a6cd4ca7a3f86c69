"""Neurons of a fully connected layer that act on their neighbours (LTMD, Eq. 9)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.inputs import signal
from bsnn_tha.nn.neurons.leaky import Leaky
from bsnn_tha.nn.neurons.neuron import Emission


class LateralLeaky(Leaky):
    """Leaky neurons that receive what their neighbours gave one step before.

    Wang, Cheng and Lim (2022), Eq. 9: the current of neuron i gets
    Σ_j w_j o_{i+j}[t−1] on top, over a receptive field of ``width`` neurons
    centred on i. All neurons share the learned weights w, as a convolution
    over the layer does: the paper gives w the size of the receptive field. The
    weights start at 0, where this is :class:`bsnn_tha.Leaky`. o is what the
    layer hands on: spikes, or with ``emits="membrane"`` potentials (Eq. 10).

    Windows run step by step, in tensor operations: a step needs the one before.

    Args:
        beta, threshold: as in :class:`bsnn_tha.Leaky`.
        width: of the receptive field, an odd number of neurons.
        emits: what the neurons hand on, ``"spikes"`` or ``"membrane"``.
        **settings: as for :class:`bsnn_tha.Leaky`.

    Attributes:
        lateral_weight: w, a parameter, ``[width]``.

    Raises:
        InvalidValueError: an even width, or one below 1.

    Example:
        >>> neuron = LateralLeaky(0.0, 1.0, width=3)
        >>> _ = neuron.lateral_weight.data.copy_(torch.tensor([0.0, 0.0, 1.0]))
        >>> current = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]).unsqueeze(1)
        >>> neuron.sequence(current)[0].squeeze(1)  # the left neighbour fires next
        tensor([[0., 0., 1.],
                [0., 1., 0.]], grad_fn=<SqueezeBackward1>)
    """

    def __init__(
        self,
        beta: float | Tensor,
        threshold: Any = 1.0,
        *,
        width: int,
        emits: Emission = "spikes",
        **settings: Any,
    ) -> None:
        if width < 1 or width % 2 == 0:
            raise InvalidValueError(f"width must be odd and at least 1, but got width={width}")
        super().__init__(beta, threshold, **settings)
        self.emits = emits
        self.lateral_weight = nn.Parameter(torch.zeros(width))

    def forward(self, input_: Tensor, mem: Tensor | None = None) -> Any:
        """One time step, as :meth:`bsnn_tha.Leaky.forward`, on ``[batch, neurons]``."""
        input_ = signal("input", input_, self.beta.dtype)
        before = self._kept(input_.shape, mem, self.mem)
        return super().forward(input_ if before is None else input_ + self.lateral(before), mem)

    def reset_mem(self) -> Tensor:
        """Start afresh: with no step before, rather than with one at rest that did not fire."""
        self.mem = self.mem.new_zeros(0)
        return self.mem

    def lateral(self, mem: Tensor) -> Tensor:
        """What the neighbours add to the current of the step after ``mem``.

        Args:
            mem: u[t−1], ``[batch, neurons]``.
        """
        outputs = mem if self.emits == "membrane" else self.fire(mem)
        kernel = self.lateral_weight.to(mem.dtype).view(1, 1, -1)
        return F.conv1d(outputs.unsqueeze(1), kernel, padding=kernel.shape[-1] // 2).squeeze(1)

    def window(
        self, current: Tensor, state: Tensor | None = None, record: bool = False
    ) -> LIFWindow:
        """As :meth:`bsnn_tha.Leaky.window`, on ``[time, batch, neurons]``."""
        current = signal("current", current, self.beta.dtype)
        if current.dim() != 3:
            raise InvalidValueError(
                "neurons with lateral interaction need [time, batch, neurons], the current of a "
                f"fully connected layer, but got shape {list(current.shape)}"
            )
        start = self._kept(current.shape[1:], state, self.mem)
        result = self._by_steps(current, start, record, self.lateral)
        if self.init_hidden:
            self.mem = result.membrane
        return result._replace(spikes=self.handed_on(result.spikes))
