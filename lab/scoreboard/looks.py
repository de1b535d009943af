"""Loudness (Eq. 8) and heat maps, by the pack's own nodes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from aai_pack.nodes.host.inject import loudness as host_loudness
from torch import Tensor

from ...pocket.world.names import NAMED, PLACES, STYLES
from ...pocket.world.scene import Scene, draw, random_scene
from ...pocket.world.sounds import RATE, synthesise
from ..training.judge_model import judge_pictures
from .exam import FIRST_SOUND
from .figures import Row, mean, share, spearman
from .rows import few
from .studio import WORD
from .words import Hosted

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
LEVELS = (0.2, 0.32, 0.44, 0.56, 0.68, 0.8, 0.92)  # how loud a sound of the world is, 0..1
MIDDLE = 0.56
SOUNDS = 3  # of each thing
WINDOWS = 3  # parts of a run for heat maps
INSIDE = 0.5  # of a map's range, from which on a place counts


def _strips(exam: Hosted, words: list[str], rows: Tensor | None, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Judged loudness (columns, N) and pictures (columns, N, 128, 128, 3) for scales (columns, N) of N words."""
    texts, drawn = [f"a photo of a {word}" for word in words], []
    for column in scales:
        pictures = np.empty((len(words), 128, 128, 3), np.uint8)
        for scale in np.unique(column):
            own = np.flatnonzero(column == scale)
            named = [words[i] if rows is None else WORD for i in own]
            part = None if rows is None else rows[own]
            pictures[own] = exam.studio.paint([texts[i] for i in own], part, 41, float(scale), named)
        drawn.append(pictures)
    return np.stack([judge_pictures(exam.judge, p).loudness for p in drawn]), np.stack(drawn)


def _by_thing(levels: np.ndarray) -> np.ndarray:
    """(columns, N) -> mean over the sounds of a thing, (columns, things); things vary fastest."""
    return levels.reshape(len(levels), -1, len(NAMED)).mean(1)


def loudness(exam: Hosted) -> list[Row]:
    """Eq. 8's scale 0.5..2, and sounds that grow louder, against what the judge calls loudness: size, or density."""
    things = list(NAMED) * min(SOUNDS, exam.repeats)
    rows = exam.words(things, FIRST_SOUND + 9000)[:, 0]
    scales = np.repeat(np.array(SCALES)[:, None], len(things), 1)
    levels, strip = _strips(exam, ["*"] * len(things), rows, scales)
    own = _by_thing(levels)
    plain = _by_thing(_strips(exam, list(NAMED), None, scales[:, : len(NAMED)])[0])
    found = [
        mean(
            "loudness scale 0.5..2 against size or density: Spearman, by thing",
            [spearman(SCALES, v) for v in own.T],
            "0.9",
            upper=f"{np.mean([spearman(SCALES, v) for v in plain.T]):.2f}",
            chance="0",
        ),
        _one(
            "the same, of the mean over things", spearman(SCALES, own.mean(1)), f"{spearman(SCALES, plain.mean(1)):.2f}"
        ),
        mean(
            "the same, size or density at 2 less that at 0.5",
            own[-1] - own[0],
            "-",
            upper=f"{(plain[-1] - plain[0]).mean():.2f}",
        ),
    ]
    found[0].sheet = (
        np.concatenate([strip[:, i] for i in range(len(NAMED))]),
        [f"{thing} x {scale:g}" for thing in NAMED for scale in SCALES],
    )
    found[0].together = len(SCALES)
    return found + louder_sounds(exam, rows[: len(NAMED)])


def louder_sounds(exam: Hosted, rows: Tensor) -> list[Row]:
    """The whole chain: a sound is played louder, its LUFS become a scale, and the picture is compared with the drawing
    of a thing that sounds so loud."""
    scales = np.empty((len(LEVELS), len(NAMED)))
    for i, thing in enumerate(NAMED):
        waves = {
            level: torch.from_numpy(synthesise(thing, level, FIRST_SOUND + 9000 + i))[None, None] for level in LEVELS
        }
        middle = host_loudness.integrated(waves[MIDDLE], RATE)[0]
        for k, wave in enumerate(waves.values()):
            audio = {"waveform": wave, "sample_rate": RATE}
            scales[k, i] = host_loudness.scale_of(audio, None, "relative", float(middle), 1.0)
    levels, pictures = _strips(
        exam, ["*"] * len(NAMED), rows, (scales * 20).round() / 20
    )  # equal scales are drawn at once
    drawn = np.stack([[draw(Scene(thing=t, loudness=level, seed=7))[0] for t in NAMED] for level in LEVELS])
    truth = np.stack([judge_pictures(exam.judge, column).loudness for column in drawn])
    row = mean(
        "a louder sound against the drawing of a louder sound: Spearman, by thing",
        [spearman(a, b) for a, b in zip(truth.T, levels.T, strict=True)],
        "0.9",
        chance="0",
    )
    pairs = np.stack([drawn, pictures], 1).reshape(2 * len(LEVELS), len(NAMED), 128, 128, 3)
    row.sheet = (
        np.concatenate([np.concatenate([pairs[k::2, i] for k in (0, 1)]) for i in range(len(NAMED))]),
        [f"{thing} {kind} {level:g}" for thing in NAMED for kind in ("drawn", "painted") for level in LEVELS],
    )
    row.together = len(LEVELS)
    means = spearman(truth.mean(1), levels.mean(1))
    return [row, _one("the same, of the mean over things", means, "-")]


def _one(name: str, value: float, upper: str) -> Row:
    return Row(name, value, (float("nan"),) * 2, len(NAMED), "0.9", upper=upper, chance="0")


def heat_maps(exam: Hosted) -> list[Row]:
    """Where Watch Words says that A* acts while a drawing is the photo, against the drawer's mask."""
    rng, things = np.random.default_rng(74), exam.named()
    scenes = [random_scene(rng, [thing]) for thing in things]
    drawn = [draw(scene) for scene in scenes]
    pictures, masks = np.stack([d[0] for d in drawn]), torch.from_numpy(np.stack([d[1] for d in drawn]))

    def maps(words: list[str], rows: Tensor | None, watched: list[str]) -> Tensor:
        texts = [f"a {STYLES[s.style]} of a {w} {PLACES[s.place][0]}" for s, w in zip(scenes, words, strict=False)]
        found = exam.studio.look(pictures[: len(words)], texts, rows, watched, WINDOWS)
        return F.interpolate(found, size=masks.shape[1:], mode="bilinear")

    slot, word = ["*"] * len(things), [WORD] * len(things)
    own = maps(slot, exam.words(things, FIRST_SOUND + 11000)[:, 0], word)
    some = few(things)
    plain, lost = maps(some, None, some), maps(few(slot), exam.random_words(len(some))[:, 0], few(word))
    area = f"{float(masks.float().mean()):.2f}"

    def bounds(measure, window: int) -> dict:
        upper, random = (
            f"{float(measure(found[window], masks[: len(some)]).float().mean()):.2f}" for found in (plain, lost)
        )
        return {"upper": upper, "random": random, "chance": area}

    rows = []
    for window, name in ((0, "the whole run"), (WINDOWS, "its last third")):
        goals = ("0.6", "0.95") if window == 0 else ("-", "-")
        values, hits = overlap(own[window], masks), pointing(own[window], masks)
        rows += [
            mean(f"heat map of A* against the mask, {name}: IoU", values, goals[0], **bounds(overlap, window)),
            share(f"heat map, {name}: its peak is on the thing", hits, goals[1], **bounds(pointing, window)),
        ]
    shown = own[0] / own[0].amax((1, 2), keepdim=True)
    rows[0].sheet = _over(pictures, shown, overlap(own[0], masks), things)
    return rows


def overlap(maps: Tensor, masks: Tensor) -> Tensor:
    """IoU of a map's places above `INSIDE` of its range with the mask: (B, H, W) each -> (B,)."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    inside = (maps - low) / (high - low).clamp_min(1e-12) > INSIDE
    return (inside & masks).sum((1, 2)) / (inside | masks).sum((1, 2)).clamp_min(1)


def pointing(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether a map is largest on the mask, (B,)."""
    return masks.flatten(1)[torch.arange(len(masks)), maps.flatten(1).argmax(1)]


def _over(pictures: np.ndarray, maps: Tensor, values: Tensor, things: list[str]) -> tuple[np.ndarray, list[str]]:
    """Drawings under their maps, and how well they fit."""
    light = 0.25 + 0.75 * maps.clamp(0, 1)[..., None].numpy()
    return (pictures * light).astype(np.uint8), [
        f"{t} | IoU {v:.2f}" for t, v in zip(things, values.tolist(), strict=True)
    ]
