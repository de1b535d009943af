"""The gradient of a loss over one joint batch that no process and no memory holds at once.

A contrastive loss needs the features of the whole batch and their graph only clip by clip. So (GradCache, Gao et al.,
2021) the features are computed first, in parts; the loss and its gradient with respect to the features of all processes
follow from them alone; then each part is computed again, with its graph, and given its rows of that gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .processes import World

Encode = Callable[[slice], tuple[Tensor, ...]]


def joint_backward(
    encode: Encode,
    count: int,
    chunk: int,
    loss: Callable[..., Tensor],
    parameters: Sequence[Tensor],
    world: World | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Add the gradient of `scale * loss` to `parameters` -> the loss, without graph, the same in every process.

    `encode(rows)` gives this process's features for a slice of its `count` clips, each (n, D); `loss` takes those of all
    clips of all processes, (size * count, D) each, in the order of ranks. At most `chunk` clips keep their graph; if that
    is all of them, nothing is computed twice. `encode` must give the same both times: draw nothing inside it.
    """
    world = world or World()
    parts = [slice(first, min(first + chunk, count)) for first in range(0, count, chunk)]
    if len(parts) == 1:
        outputs = encode(parts[0])
    else:
        with torch.no_grad():
            outputs = tuple(torch.cat(feature) for feature in zip(*(encode(part) for part in parts), strict=True))
    leaves = [world.gather(feature).requires_grad_() for feature in outputs]
    value = loss(*leaves)
    gradients = torch.autograd.grad(value * scale, leaves, allow_unused=True)
    first = world.rank * count
    own = [
        torch.zeros_like(out) if g is None else g[first : first + count].to(out.dtype)
        for g, out in zip(gradients, outputs, strict=True)
    ]
    if len(parts) == 1:
        torch.autograd.backward(outputs, own)
    else:
        for part in parts:
            torch.autograd.backward(encode(part), [gradient[part] for gradient in own])
    world.sum_gradients(parameters)
    return value.detach()
