"""The losses of Align: Eq. 4, Eq. 5 and Eq. 1; Eq. 2 and Eq. 3 are the softmaxes inside them.

All features are unit vectors (N, D); pair i of one side belongs to pair i of the other. Logits are float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def similarities(a: Tensor, m: Tensor, tau: float | Tensor) -> Tensor:
    """(N, M) cosines over the temperature, float32 also under autocast: the exponents of Eq. 2 and Eq. 3."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ m.float().T / tau


def one_hot_or_shared(count: int, labels: Tensor | None, device=None) -> Tensor:
    """(N, N) target probabilities: the pair itself, or equal shares of all pairs of the same label."""
    if labels is None:
        return torch.eye(count, device=device)
    if labels.shape != (count,):
        raise ValueError(f"labels have the shape {tuple(labels.shape)}; one for each of {count} pairs is needed")
    same = (labels[:, None] == labels[None, :]).float().to(device)
    return same / same.sum(dim=1, keepdim=True)


def info_nce(a: Tensor, m: Tensor, tau: float | Tensor = 0.05, labels: Tensor | None = None) -> Tensor:
    """Eq. 4: mean of the cross-entropies from a to m (Eq. 2's softmax) and from m to a (Eq. 3's).

    The positive stands in the denominator. labels: (N,) integers; pairs of one label are then all positives.
    """
    logits = similarities(a, m, tau)
    target = one_hot_or_shared(len(a), labels, logits.device)
    return _cross_entropy(logits, target, target)


def _cross_entropy(logits: Tensor, target_rows: Tensor, target_columns: Tensor) -> Tensor:
    """Mean over both directions; targets are probabilities along the candidates of each direction, (N, N)."""
    rows = -(target_rows * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
    columns = -(target_columns * F.log_softmax(logits.T, dim=1)).sum(dim=1).mean()
    return (rows + columns) / 2


def teacher_probabilities(a: Tensor, v_momentum: Tensor, tau: float | Tensor) -> tuple[Tensor, Tensor]:
    """The momentum teacher's softmaxes (a to v, v to a), (N, N) each, without gradient: the student must not move them."""
    logits = similarities(a, v_momentum, tau).detach()
    return logits.softmax(dim=1), logits.T.softmax(dim=1)


def momentum_kl(
    a: Tensor, v: Tensor, v_momentum: Tensor, tau: float | Tensor = 0.05, a_momentum: Tensor | None = None
) -> Tensor:
    """Eq. 5: KL from the momentum teacher's distributions to the student's, the sum of both directions.

    `a_momentum`: the teacher's audio features, where it has an audio tower of its own (ALBEF); else `a` is used.
    """
    logits = similarities(a, v, tau)
    total = logits.new_zeros(())
    teachers = teacher_probabilities(a if a_momentum is None else a_momentum, v_momentum, tau)
    for scores, teacher in zip((logits, logits.T), teachers, strict=True):
        total = total + F.kl_div(F.log_softmax(scores, dim=1), teacher, reduction="batchmean")
    return total


class AlignTerms(NamedTuple):
    """The three terms of Eq. 1, scalars; where there are no pictures, the first alone."""

    text: Tensor  # L_c(A, T)
    picture: Tensor | None = None  # L_c(A, V)
    momentum: Tensor | None = None  # L_t

    def total(self, alpha: float) -> Tensor:
        """Eq. 1: L_c(A, T) + (1 - alpha) L_c(A, V) + alpha / 2 L_t."""
        if self.picture is None or self.momentum is None:
            return self.text
        return self.text + (1 - alpha) * self.picture + alpha / 2 * self.momentum


def align_terms(
    a: Tensor,
    t: Tensor,
    v: Tensor | None,
    v_momentum: Tensor | None,
    tau: float | Tensor = 0.05,
    labels: Tensor | None = None,
    a_momentum: Tensor | None = None,
    seen: Tensor | None = None,
) -> AlignTerms:
    """The terms of Eq. 1 for unit vectors (N, D), each with the gradient that its inputs carry.

    `labels` (N,) make the text side multi-positive (clips of one class share a text). `v` and `v_momentum` None: there are
    no pictures. `seen` (N,) bool: the clips that have one; the others are in the text term alone. `a_momentum` as in
    `momentum_kl`.
    """
    text = info_nce(a, t, tau, labels)
    if (
        v is None or v_momentum is None or (seen is not None and seen.float().sum() < 2)
    ):  # a contrastive loss needs two pairs
        return AlignTerms(text)
    if seen is not None:
        a, v, v_momentum = a[seen], v[seen], v_momentum[seen]
        a_momentum = None if a_momentum is None else a_momentum[seen]
    return AlignTerms(text, info_nce(a, v, tau), momentum_kl(a, v, v_momentum, tau, a_momentum))


def align_loss(
    a: Tensor,
    t: Tensor,
    v: Tensor,
    v_momentum: Tensor,
    tau: float | Tensor = 0.05,
    alpha: float = 0.4,
    labels: Tensor | None = None,
    a_momentum: Tensor | None = None,
) -> Tensor:
    """Eq. 1 as a scalar: `align_terms` of unit vectors (N, D), weighed by `alpha`.

    Text, image and momentum features are targets: the caller decides which of them carry a gradient.
    """
    return align_terms(a, t, v, v_momentum, tau, labels, a_momentum).total(alpha)
