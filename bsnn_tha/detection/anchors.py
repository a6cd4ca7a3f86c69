"""Anchors: the sizes that boxes mostly have, by k-means with overlap for distance.

Redmon and Farhadi (2017), "YOLO9000", section 2: the distance of a box to an anchor is
1 − IoU of the two laid on the same corner, so that large boxes count no more than small ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bsnn_tha.errors import InvalidValueError

_MOST_ROUNDS = 300


def shape_overlap(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Intersection over union of sizes on a common corner.

    Args:
        sizes: ``[..., 2]``, width and height.
        anchors: ``[anchors, 2]``.

    Returns:
        ``[..., anchors]``.

    Example:
        >>> shape_overlap(torch.tensor([2.0, 1.0]), torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        tensor([1.0000, 0.3333])
    """
    shared = torch.minimum(sizes.unsqueeze(-2), anchors).prod(-1)
    return shared / (sizes.prod(-1, keepdim=True) + anchors.prod(-1) - shared)


def k_means_anchors(sizes: Tensor, count: int, seed: int = 0) -> Tensor:
    """Anchors for boxes of these sizes.

    The first ones are drawn as k-means++ draws them, each with a probability that grows
    with the squared distance to those before it; then each is moved to the mean of the
    sizes that are nearest to it, until none changes hands.

    Args:
        sizes: ``[boxes, 2]``, width and height, above 0.
        count: k.
        seed: of the draw.

    Returns:
        ``[count, 2]``, by area, float32.

    Raises:
        InvalidValueError: fewer different sizes than anchors.

    Example:
        >>> sizes = torch.tensor([[1.0, 1.0], [1.0, 1.2], [8.0, 4.0], [8.0, 4.4]])
        >>> k_means_anchors(sizes, 2)
        tensor([[1.0000, 1.1000],
                [8.0000, 4.2000]])
    """
    if count < 1:
        raise InvalidValueError(f"there must be at least one anchor, but got {count}")
    sizes = sizes.double()
    different = len(sizes.unique(dim=0))
    if count > different:
        raise InvalidValueError(
            f"anchors must be at most as many as boxes of different size, but got {count} for "
            f"{different}; lower loss.anchors"
        )
    generator = torch.Generator().manual_seed(seed)
    anchors = sizes[torch.randint(len(sizes), (1,), generator=generator)]
    while len(anchors) < count:
        distance = 1 - shape_overlap(sizes, anchors).amax(-1)
        chosen = torch.multinomial(distance.clamp(min=0).square(), 1, generator=generator)
        anchors = torch.cat([anchors, sizes[chosen]])
    owner = torch.full((len(sizes),), -1)
    for _ in range(_MOST_ROUNDS):
        nearest = shape_overlap(sizes, anchors).argmax(-1)
        if torch.equal(nearest, owner):
            break
        owner = nearest
        for index in range(count):
            own = sizes[owner == index]
            if len(own):  # one that lost all of its boxes stays where it is
                anchors[index] = own.mean(0)
    return anchors[anchors.prod(-1).argsort(stable=True)].float()
