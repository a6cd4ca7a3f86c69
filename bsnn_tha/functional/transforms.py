"""Whether something is at work that goes through PyTorch's own operations only.

``torch.func``'s transforms and the export to ONNX do: neither knows the operators of
this package, or can decide by values. Every other route steps aside for them.
"""

from __future__ import annotations

import torch


def transformed() -> bool:
    """Whether this is called under a transform of ``torch.func``, or exported to ONNX.

    Example:
        >>> transformed(), torch.func.vmap(lambda x: x * transformed())(torch.ones(2)).tolist()
        (False, [1.0, 1.0])
    """
    if torch.onnx.is_in_onnx_export():
        return True
    # A compiler traces what it compiles without them.
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._are_functorch_transforms_active())
