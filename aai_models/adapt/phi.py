"""phi: a bridge with a small network beside the ridge, trained on the vocabulary alone.

The idea of a learned phi from features to pseudo-words is Pic2Word's and SEARLE's; noise on the text feature, which
closes the gap to features of another kind, is LinCIR's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .bridge import FIGURES, Bridge, Residual, Ridges, Split, disturbed, fit, judge

HIDDEN = 512
EPOCHS = 30
BATCH = 256
LEARNING_RATE = 1e-3
SPREAD = (0.5, 1.5)  # times the error: shortest and longest noise on a feature


def fit_phi(
    features: Tensor,
    rows: dict[str, Tensor],
    seed: int = 0,
    vocabulary: str = "",
    error: float = 0.0,
    on_epoch: Callable[[int, int], None] = lambda done, total: None,
) -> Bridge:
    """Fit a bridge with a network. Arguments as `bridge.fit`; gradients must be on, inputs ordinary tensors.

    The network learns from words disturbed by about `error`. Of each network the epoch with the best cosine on the
    choosing words, so disturbed, is kept, which may be the bare ridge: phi is never chosen to be worse than it.
    `on_epoch(done, total)` may raise to stop.
    """
    features, rows = features.cpu(), {key: targets.cpu() for key, targets in rows.items()}
    ridge = fit(features, rows, seed, vocabulary, error)
    split, unit = Split.of(features.shape[0], seed), F.normalize(features.float(), dim=-1)
    # A ridge that has not seen the choosing and the judging words, so that the network learns what it misses.
    part = _fit_seen(unit, rows, ridge, split)
    residuals, figures = {}, dict(ridge.figures)
    for index, (key, targets) in enumerate(rows.items()):
        generator = torch.Generator().manual_seed(seed + 1 + index)
        done = index * EPOCHS
        residuals[key] = _train(
            unit,
            targets.float(),
            part,
            key,
            split,
            error,
            generator,
            lambda epoch, d=done: on_epoch(d + epoch, EPOCHS * len(rows)),
        )
        whole = replace(part, residuals={key: residuals[key]})
        with torch.no_grad():
            found = judge(
                lambda x, b=whole, k=key: b.rows(k, x - part.feature_centre), unit, targets, split.judging, error, seed
            )
        figures |= {f"{key}.ridge_{name}": figures[f"{key}.{name}"] for name in FIGURES}
        figures |= {f"{key}.{name}": value for name, value in found.items()}
    return replace(part, residuals=residuals, figures=figures)


def _fit_seen(unit: Tensor, rows: dict[str, Tensor], ridge: Bridge, split: Split) -> Bridge:
    """The bridge of the chosen strengths from the seen words alone."""
    part = Ridges(unit.double()[split.seen])
    weights, centres = {}, {}
    for key, targets in rows.items():
        y = targets.double()[split.seen]
        weights[key] = part.towards(y)(ridge.figures[f"{key}.strength"]).float().contiguous()
        centres[key] = y.mean(0).float()
    return replace(ridge, weights=weights, centres=centres, feature_centre=part.mean.float())


def _train(unit, rows, part: Bridge, key: str, split: Split, error: float, generator, on_epoch) -> Residual:
    dim, width = part.weights[key].shape
    first = torch.randn(dim, HIDDEN, generator=generator).requires_grad_(True)
    bias, last = torch.zeros(HIDDEN, requires_grad=True), torch.zeros(HIDDEN, width, requires_grad=True)
    adam = torch.optim.Adam([first, bias, last], lr=LEARNING_RATE)
    best, best_cosine = Residual(first, bias, last), -2.0
    asked = disturbed(unit[split.choosing], error, generator) - part.feature_centre
    for epoch in range(EPOCHS + 1):
        bridge = replace(part, residuals={key: Residual(first, bias, last)})
        with torch.no_grad():
            guess = bridge.rows(key, asked)
            cosine = float(F.cosine_similarity(guess, rows[split.choosing], dim=-1).mean())
        if cosine > best_cosine:
            best, best_cosine = Residual(*(t.detach().clone() for t in (first, bias, last))), cosine
        if epoch == EPOCHS:
            break
        for batch in split.seen[torch.randperm(len(split.seen), generator=generator)].split(BATCH):
            length = error * torch.empty(len(batch), 1).uniform_(*SPREAD, generator=generator)
            x = disturbed(unit[batch], length, generator) - part.feature_centre
            loss = 1 - F.cosine_similarity(bridge.rows(key, x), rows[batch], dim=-1).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        on_epoch(epoch + 1)
    return best
