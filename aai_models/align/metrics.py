"""Retrieval and classification figures: exact with ties, without an N x N loop or an N x N matrix in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 512  # of the similarity matrix at a time
SAME = 1e-6  # cosines nearer than this are equal: two ways to add up the same products differ by less


@dataclass(frozen=True)
class Retrieval:
    """One direction. Shares in percent."""

    r1: float
    r5: float
    r10: float
    median_rank: float  # 1 is best
    ties: float  # share of queries whose own partner is as near as some other one
    count: int


def ranks(a: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For unit vectors (N, D) whose row i belongs together: how many others are nearer, and how many as near.

    Returns (nearer, as_near) of a -> v and (nearer, as_near) of v -> a, each (N,) int64.
    """
    count = a.shape[0]
    own = (a.float() * v.float()).sum(dim=1)
    nearer_a, near_a = own.new_zeros(count, dtype=torch.int64), own.new_zeros(count, dtype=torch.int64)
    nearer_v, near_v = nearer_a.clone(), nearer_a.clone()
    columns = v.float().T.contiguous()
    for first in range(0, count, ROWS):
        block = a[first : first + ROWS].float() @ columns  # (rows, N)
        rows = torch.arange(block.shape[0], device=block.device)
        block[rows, first + rows] = -torch.inf  # itself is not another one
        for axis, wanted, nearer, near in (
            (1, own[first : first + ROWS, None], nearer_a[first : first + ROWS], near_a[first : first + ROWS]),
            (0, own[None], nearer_v, near_v),
        ):
            # Counted in float32, which is exact up to 16 million and several times as fast as a sum of booleans.
            above = (block > wanted + SAME).float().sum(dim=axis).long()
            nearer += above
            near += (block >= wanted - SAME).float().sum(dim=axis).long() - above
    return nearer_a, near_a, nearer_v, near_v


def summary(nearer: Tensor, as_near: Tensor) -> Retrieval:
    """Figures over queries; among equals any order is as likely, so a query counts with its chance to be in the first k."""
    lowest, equals = nearer.cpu().double(), as_near.cpu().double() + 1  # not every device has float64

    def recall(k: int) -> float:
        return float(((k - lowest) / equals).clamp(0, 1).mean() * 100)

    middle = float((lowest + (equals + 1) / 2).median())
    return Retrieval(recall(1), recall(5), recall(10), middle, float((equals > 1).double().mean() * 100), len(nearer))


def retrieval(a: Tensor, v: Tensor) -> tuple[Retrieval, Retrieval]:
    """Sound to picture and picture to sound, for unit vectors (N, D) whose row i belongs together."""
    if a.shape != v.shape or not len(a):
        raise ValueError(f"features are {tuple(a.shape)} and {tuple(v.shape)}; they must be N > 0 pairs")
    nearer_a, near_a, nearer_v, near_v = ranks(a, v)
    return summary(nearer_a, near_a), summary(nearer_v, near_v)


def accuracy(features: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """Whether each feature (N, D) is nearest to its own class (C, D); labels (N,) -> (N,) float, shared among equals."""
    scores = features.float() @ classes.float().T
    own = scores.gather(1, labels[:, None])
    best = scores >= scores.max(dim=1, keepdim=True).values - SAME
    return (own[:, 0] >= scores.max(dim=1).values - SAME).float() / best.float().sum(dim=1)


def subset_rows(labels: list[str], per_class: int | None, seed: int = 0) -> list[int]:
    """Rows of an evaluation set with at most `per_class` clips of each label (None: all), drawn by the seed, in order."""
    if per_class is None:
        return list(range(len(labels)))
    generator = torch.Generator().manual_seed(seed)
    taken: dict[str, int] = {}
    chosen = []
    for row in torch.randperm(len(labels), generator=generator).tolist():
        if taken.get(labels[row], 0) < per_class:
            taken[labels[row]] = taken.get(labels[row], 0) + 1
            chosen.append(row)
    return sorted(chosen)


def linear_probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, decay: float = 1e-3) -> float:
    """Accuracy in percent of logistic regression on frozen features (N, D), standardised by the training set's statistics.

    The optimum of a convex loss with weight decay, found by L-BFGS from zero: no chance is in it.
    """
    train, train_labels, test, test_labels = (x.cpu() for x in (train, train_labels, test, test_labels))
    mean, spread = train.mean(dim=0), train.std(dim=0) + 1e-6
    x, y = ((f.double() - mean) / spread for f in (train, test))
    weight = torch.zeros(int(train_labels.max()) + 1, x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight[:, 1:].T + weight[:, 0], train_labels)
        value = value + decay * weight[:, 1:].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    guess = (y @ weight[:, 1:].T + weight[:, 0]).argmax(dim=1)
    return float((guess == test_labels).double().mean() * 100)
