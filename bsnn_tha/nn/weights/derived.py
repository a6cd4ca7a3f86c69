"""Weights that are computed at each access: reading them is fine, writing is refused.

What is written to such a tensor is lost, without a word: the next access computes another
one from the latent weights. A plain tensor cannot tell, so what a layer shows as
``weight`` is a :class:`DerivedWeight`, which refuses whatever would change it or the
tensors that share its memory. The layers here compute with the plain tensor
(:func:`weight_of`), which costs nothing and which compilers know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError

ASSIGN_LATENT = (
    "weight is derived from latent_weight at each access, so that what is written to it is lost; "
    "assign latent_weight instead"
)

# PyTorch's in-place functions end in one underscore; operators such as += are __iadd__.
_IN_PLACE = re.compile(
    r"(?!_)\w*[^_]_"
    r"|__(setitem|set|i(add|sub|mul|matmul|div|truediv|floordiv|mod|pow|and|or|xor|lshift|rshift))__"
)


class DerivedWeight(Tensor):
    """A computed weight that says so when it is written to, or frozen.

    Example:
        >>> weight = torch.ones(2).as_subclass(DerivedWeight)
        >>> weight * 2  # whatever is computed from it is a plain tensor
        tensor([2., 2.])
        >>> weight.data.fill_(3.0)
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: weight is derived from latent_weight at each access, \
so that what is written to it is lost; assign latent_weight instead
    """

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        written = [kwargs.get("out")]
        if _IN_PLACE.fullmatch(func.__name__):
            written.append(args[0] if args else kwargs.get("tensor"))
        if any(isinstance(tensor, DerivedWeight) for tensor in _flat(written)):
            raise InvalidValueError(ASSIGN_LATENT)
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        own = [tensor for tensor in _flat(args) if isinstance(tensor, DerivedWeight)]
        if isinstance(result, Tensor) and any(_shares(result, tensor) for tensor in own):
            return result.as_subclass(DerivedWeight)
        return result.as_subclass(Tensor) if isinstance(result, DerivedWeight) else result

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Saved, it is a weight like any other.
        return self.detach().as_subclass(Tensor).__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return repr(self.as_subclass(Tensor))


def weight_of(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """The weights that a layer computes with, as a plain tensor.

    Example:
        >>> from bsnn_tha import BinaryLinear
        >>> layer = BinaryLinear(3, 2)
        >>> type(layer.weight).__name__, type(weight_of(layer)).__name__
        ('DerivedWeight', 'Tensor')
    """
    computed = getattr(layer, "computed_weight", None)
    return layer.weight if computed is None else computed()


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _shares(one: Tensor, other: Tensor) -> bool:
    with torch._C.DisableTorchFunctionSubclass():
        if one.layout != torch.strided or one.device != other.device:
            return False
        return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
