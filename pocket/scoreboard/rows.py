"""The rows of the scoreboard. Sounds and drawings have seeds that no training uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...aai_models.adapt.bridge import Bridge
from ...aai_models.align.cavt_mae import CAVTMAE
from ...aai_models.audio.fbank import encoder_input
from ..models.hearing import encode_half, half_kernel
from ..models.judge import Judge, judge_pictures
from ..training.sounds import CLASSES, picture_batch, real_clips
from ..world.captions import word_of
from ..world.names import COLOURS, NAMED, PLACES, STYLES, THINGS
from ..world.scene import draw, random_scene
from ..world.sounds import RATE, synthesise
from .artist import Artist, unit
from .figures import Row, mean, share, spearman
from .learn import trained_words

FIRST_SOUND = 1_000_000  # seed of sounds that no training has heard
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


@dataclass
class Exam:
    """What is examined, and by whom."""

    artist: Artist
    hearing: CAVTMAE
    bridge: Bridge
    judge: Judge
    second_judge: Judge | None = None
    repeats: int = 12  # pictures of each of the 18 named things
    recordings: Path | None = None

    def hear(self, things: list[str], first: int = FIRST_SOUND, loudness: float = 0.6) -> Tensor:
        """Features of a fresh sound of each thing (N, D)."""
        waves = [synthesise(thing, loudness, first + i) for i, thing in enumerate(things)]
        fbank = torch.cat([encoder_input(torch.from_numpy(w)[None, None], RATE, short_clip="tile") for w in waves])
        with torch.no_grad():
            return torch.cat([self.hearing.encode_audio(part) for part in fbank.split(16)])

    def words(self, things: list[str], first: int = FIRST_SOUND) -> Tensor:
        """A* of a fresh sound of each thing without training (N, 1, 768)."""
        return self.artist.words_of(self.hear(things, first), self.bridge)[:, None]

    def random_words(self, count: int, seed: int = 0) -> Tensor:
        rows = torch.randn(count, 768, generator=torch.Generator().manual_seed(seed))
        return self.artist.word_scale() * unit(rows)[:, None]


def judge_things(exam: Exam, pictures: np.ndarray) -> list[str]:
    """What the judge sees in each picture."""
    return judge_pictures(exam.judge, pictures).thing


def _named(exam: Exam) -> list[str]:
    return list(NAMED) * exam.repeats


def plain_words(exam: Exam) -> list[Row]:
    """Captions in plain words: is everything there?"""
    rng, hits, pictures, said = (
        np.random.default_rng(71),
        {h: [] for h in ("thing", "place", "colour", "style")},
        [],
        [],
    )
    things = _named(exam)
    scenes = [random_scene(rng, [thing]) for thing in things]
    texts = [f"a {STYLES[s.style]} of a {s.colour} {s.thing} {PLACES[s.place][0]}" for s in scenes]
    for seed, part in enumerate(np.array_split(np.arange(len(scenes)), 3)):
        drawn = exam.artist.paint([texts[i] for i in part], seed=seed)
        verdict = judge_pictures(exam.judge, drawn)
        for head, found in hits.items():
            found += [getattr(scenes[i], head) == v for i, v in zip(part, getattr(verdict, head), strict=True)]
        pictures.append(drawn)
        said += verdict.thing
    chances = {"thing": len(THINGS), "place": len(PLACES), "colour": len(COLOURS), "style": len(STYLES)}
    rows = [share(f"plain words: {h}", found, "0.95", chance=f"{1 / chances[h]:.2f}") for h, found in hits.items()]
    rows.append(share("plain words: all four", [all(four) for four in zip(*hits.values(), strict=True)], "0.90"))
    rows[-1].sheet = (np.concatenate(pictures), [f"{t} | {s}" for t, s in zip(texts, said, strict=True)])
    if exam.second_judge is not None:
        again = judge_pictures(exam.second_judge, np.concatenate(pictures)).thing
        rows.append(
            share("plain words: thing, second judge", [a == t for a, t in zip(again, things, strict=True)], "0.95")
        )
    return rows


def known_sounds(exam: Exam) -> list[Row]:
    """'a photo of a A*' from sounds never heard, without training; and whether the ear or the hand errs."""
    things = _named(exam)
    features = exam.hear(things)
    targets = unit(exam.artist.features(torch.stack([exam.artist.row(t) for t in NAMED])))
    heard = [NAMED[i] for i in (features @ targets.T).argmax(1).tolist()]
    slots = exam.artist.words_of(features, exam.bridge)[:, None]

    def right(texts, words=None) -> tuple[list[bool], np.ndarray, list[str]]:
        drawn = exam.artist.paint(texts, words, seed=11)
        said = judge_pictures(exam.judge, drawn).thing
        return [s == t for s, t in zip(said, things, strict=False)], drawn, said

    own, drawn, said = right(["a photo of a *"] * len(things), slots)
    few = len(things) // 3  # the bounds need less
    plain = right([f"a photo of a {t}" for t in things[:few]])[0]
    lost = right(["a photo of a *"] * few, exam.random_words(few))[0]
    bounds = {"upper": f"{np.mean(plain):.2f}", "random": f"{np.mean(lost):.2f}", "chance": f"{1 / len(THINGS):.2f}"}
    row = share("known sounds, never heard, no training", own, "upper - 0.05", **bounds)
    row.sheet = (drawn, [f"sound of {t} | {s}" for t, s in zip(things, said, strict=True)])
    ear = share(
        "the same, heard as the right word",
        [h == t for h, t in zip(heard, things, strict=True)],
        "-",
        chance=f"{1 / 18:.2f}",
    )
    return [row, ear]


def sentences(exam: Exam) -> list[Row]:
    """A* in a sentence: place, colour and style as told, and the thing right."""
    rng, things = np.random.default_rng(72), _named(exam)
    scenes = [random_scene(rng, [thing]) for thing in things]

    def right(word, slots=None):
        texts = [f"a {STYLES[s.style]} of a {s.colour} {word(s.thing)} {PLACES[s.place][0]}" for s in scenes]
        drawn = exam.artist.paint(texts, slots, seed=12)
        verdict = judge_pictures(exam.judge, drawn)
        told = [
            (s.thing == t, s.place == p, s.colour == c, s.style == y)
            for s, t, p, c, y in zip(scenes, verdict.thing, verdict.place, verdict.colour, verdict.style, strict=True)
        ]
        return told, drawn, [f"{x} | {t}" for x, t in zip(texts, verdict.thing, strict=True)]

    told, drawn, said = right(lambda _: "*", exam.words(things, FIRST_SOUND + 5000))
    row = share("A* in a sentence: all four", [all(t) for t in told], "0.75")
    row.upper = "the first rows"
    row.sheet = (drawn, said)
    both = share("A* in a sentence: thing and place", [t[0] and t[1] for t in told], "-")
    return [row, both]


def two_sounds(exam: Exam) -> list[Row]:
    """Two sounds in one prompt: are both things there?"""
    rng = np.random.default_rng(73)
    pairs = [tuple(rng.choice(NAMED, 2, replace=False)) for _ in range(5 * exam.repeats)]
    slots = torch.cat([exam.words([p[k] for p in pairs], FIRST_SOUND + 7000 + 500 * k) for k in (0, 1)], dim=1)

    def both(texts, words=None):
        drawn = exam.artist.paint(texts, words, seed=13)
        there = judge_pictures(exam.judge, drawn).presence
        return [
            bool((row[[THINGS.index(t) for t in pair]] > 0.5).all()) for row, pair in zip(there, pairs, strict=True)
        ], drawn

    own, drawn = both(["a photo of a * and a *"] * len(pairs), slots)
    plain = both([f"a photo of a {a} and a {b}" for a, b in pairs])[0]
    row = share("two sounds in one prompt: both there", own, "0.5", upper=f"{np.mean(plain):.2f}")
    row.sheet = (drawn, [f"{a} + {b} | {'both' if o else 'not both'}" for (a, b), o in zip(pairs, own, strict=True)])
    return [row]


def loudness(exam: Exam) -> list[Row]:
    """Eq. 8's scale 0.5..2 against what the judge calls loudness: size, or density."""
    things = [thing for thing in NAMED for _ in range(max(1, exam.repeats // 12))]
    slots = exam.words(things, FIRST_SOUND + 9000)
    levels, strip = [], []
    for scale in SCALES:
        drawn = exam.artist.paint(
            ["a photo of a *"] * len(things), slots, seed=14, scales=torch.full((len(things),), scale)
        )
        levels.append(judge_pictures(exam.judge, drawn).loudness)
        strip.append(drawn)
    by_thing = np.array(levels).reshape(len(SCALES), len(NAMED), -1).mean(-1)
    row = mean(
        "loudness scale 0.5..2 against size or density (Spearman, by thing)",
        [spearman(SCALES, v) for v in by_thing.T],
        "0.9",
        chance="0",
    )
    curve = " ".join(f"{v:.2f}" for v in by_thing.mean(1))
    order = np.stack(strip, 1)[:: max(1, exam.repeats // 12)].reshape(-1, 128, 128, 3)
    row.sheet = (order, [f"{t} x {s:g}" for t in NAMED for s in SCALES])
    row.upper = f"curve {curve}"
    return [
        row,
        Row("the same, mean over things", spearman(SCALES, by_thing.mean(1)), (float("nan"),) * 2, len(SCALES), "0.9"),
    ]


def heat_maps(exam: Exam) -> list[Row]:
    """Where A* looks in a noised drawing, against the drawer's mask."""
    rng, things = np.random.default_rng(74), _named(exam)
    scenes = [random_scene(rng, [thing]) for thing in things]
    drawn = [draw(scene) for scene in scenes]
    texts = [f"a {STYLES[s.style]} of a * {PLACES[s.place][0]}" for s in scenes]
    pictures, masks = np.stack([d[0] for d in drawn]), torch.from_numpy(np.stack([d[1] for d in drawn]))
    slots = exam.words(things, FIRST_SOUND + 11000)
    parts = [
        exam.artist.maps(pictures[i : i + 32], texts[i : i + 32], slots[i : i + 32]) for i in range(0, len(texts), 32)
    ]
    maps, resting = (torch.cat(found) for found in zip(*parts, strict=True))
    big = F.interpolate(maps[:, None], size=(128, 128), mode="bilinear")[:, 0]
    low, high = big.amin((1, 2), keepdim=True), big.amax((1, 2), keepdim=True)
    inside = (big - low) / (high - low) > 0.5
    overlap = (inside & masks).sum((1, 2)) / (inside | masks).sum((1, 2))
    peak = big.flatten(1).argmax(1)
    pointing = masks.flatten(1)[torch.arange(len(masks)), peak]
    area = masks.float().mean((1, 2))
    return [
        mean("heat map of A* against the mask: IoU", overlap.numpy(), "0.6", chance=f"{float(area.mean()):.2f}"),
        share("heat map: its peak is on the thing", pointing.tolist(), "0.95", chance=f"{float(area.mean()):.2f}"),
        mean("of all attention there, what rests on the padding", resting.numpy(), "-"),
    ]


def retrieval(exam: Exam, count: int = 2000) -> list[Row]:
    """Of 2,000 drawings the five nearest to a sound: how many show its thing?"""
    rng = np.random.default_rng(75)
    things = [str(t) for t in rng.choice(THINGS, count)]
    kernel = half_kernel(exam.hearing.patch_embed_v.proj.weight)
    with torch.no_grad():
        parts = [encode_half(exam.hearing, picture_batch(things[i : i + 64], rng), kernel) for i in range(0, count, 64)]
    features = torch.cat(parts)
    rows = []
    for name, asked in (
        ("known things", list(NAMED)),
        ("unnamed things", THINGS[18:21]),
        ("never-seen things", THINGS[21:]),
    ):
        sounds = [thing for thing in asked for _ in range(exam.repeats)]
        near = (exam.hear(sounds, FIRST_SOUND + 13000) @ features.T).topk(5).indices
        hits = [np.mean([things[j] == s for j in row]) for row, s in zip(near.tolist(), sounds, strict=True)]
        rows.append(
            mean(
                f"retrieval by sound, precision at 5 of {count}: {name}",
                hits,
                "0.8" if name == "known things" else "-",
                chance=f"{1 / 24:.2f}",
            )
        )
    return rows


def hidden_things(exam: Exam) -> list[Row]:
    """Unnamed and never-seen things from their sounds alone."""
    rows = []
    for name, asked in (("unnamed", THINGS[18:21]), ("never-seen", THINGS[21:])):
        things = [thing for thing in asked for _ in range(2 * exam.repeats)]
        drawn = exam.artist.paint(["a photo of a *"] * len(things), exam.words(things, FIRST_SOUND + 15000), seed=15)
        said = judge_pictures(exam.judge, drawn).thing
        row = share(
            f"{name} things: their sound alone",
            [a == b for a, b in zip(said, things, strict=True)],
            "-",
            chance=f"{1 / 24:.2f}",
        )
        row.sheet = (drawn, [f"sound of {t} | {s}" for t, s in zip(things, said, strict=True)])
        rows.append(row)
    return rows


def recordings(exam: Exam) -> list[Row]:
    """ESC-10's third fold, from recordings that the encoder has not heard, to pictures."""
    name = "real recordings: ESC-10's fold 3"
    if exam.recordings is None:
        return [Row(f"{name} (needs --recordings FOLDER)", float("nan"), (float("nan"),) * 2, 0, "0.60")]
    fbank, labels, _ = real_clips(exam.recordings, (3,), frames=1024)
    things = [CLASSES[i] for i in labels.tolist()]
    with torch.no_grad():
        features = torch.cat([exam.hearing.encode_audio(part) for part in fbank.float().split(16)])
    slots = exam.artist.words_of(features, exam.bridge)[:, None]
    hits, said, pictures = [], [], []
    for seed in range(exam.repeats // 12):
        drawn = exam.artist.paint(["a photo of a *"] * len(things), slots, seed=16 + seed)
        judged = judge_pictures(exam.judge, drawn).thing
        hits += [a == b for a, b in zip(judged, things, strict=True)]
        said += judged
        pictures.append(drawn)
    targets = unit(exam.artist.features(torch.stack([exam.artist.row(word_of(t)) for t in NAMED])))
    heard = (features @ targets[:10].T).argmax(1)
    row = share(f"{name}, no training", hits, "0.60", chance=f"{1 / 24:.2f}")
    row.sheet = (np.concatenate(pictures), [f"{t} | {s}" for t, s in zip(things * len(pictures), said, strict=True)])
    return [row, share(f"{name}: heard as the right one of ten words", (heard == labels).tolist(), "-", chance="0.10")]


ROWS = (
    plain_words,
    known_sounds,
    sentences,
    two_sounds,
    loudness,
    heat_maps,
    retrieval,
    hidden_things,
    recordings,
    trained_words,
)
