"""The rows that need words and sounds alone. Sounds and drawings have seeds that no training uses."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...pocket.world.names import COLOURS, NAMED, PLACES, STYLES, THINGS, UNNAMED, UNSEEN
from ...pocket.world.scene import Scene, random_scene
from ...pocket.world.sounds import mixture
from ..training.judge_model import judge_pictures
from ..training.sounds import CLASSES, SECONDS, real_clips
from .artist import unit
from .exam import FIRST_SOUND, LIBRARY, SEEDS, Exam
from .figures import Row, mean, percent, share

HEADS = {"thing": len(THINGS), "place": len(PLACES), "colour": len(COLOURS), "style": len(STYLES)}
CHANCE = f"{1 / len(THINGS):.2f}"
BOUND = 3  # bounds are measured on one of so many of a row's pictures


def said_of(texts: list[str], said: list[str]) -> list[str]:
    """Captions of a sheet: what was asked for, and what the judge saw."""
    return [f"{text} | {word}" for text, word in zip(texts, said, strict=True)]


def equal(said: list[str], things: list[str]) -> list[bool]:
    return [a == b for a, b in zip(said, things, strict=True)]


def told(scene: Scene, word: str) -> str:
    """Style, colour, thing and place of a scene in words."""
    return f"a {STYLES[scene.style]} of a {scene.colour} {word} {PLACES[scene.place][0]}"


def as_told(exam: Exam, scenes: list[Scene], words: list[str], slots: Tensor | None, seed: int):
    """Paint scenes from words -> (what of each is right, by head; the pictures; captions)."""
    texts = [told(scene, word) for scene, word in zip(scenes, words, strict=True)]
    drawn, verdict = exam.judged(texts, slots, seed)
    hits = {head: equal(getattr(verdict, head), [getattr(s, head) for s in scenes]) for head in HEADS}
    return hits, drawn, said_of(texts, verdict.thing)


def few(items: list) -> list:
    """Those of a row's pictures that its bounds are measured on."""
    return items[: -(-len(items) // BOUND)]


def all_of(hits: dict[str, list[bool]], heads=tuple(HEADS)) -> list[bool]:
    return [all(together) for together in zip(*(hits[head] for head in heads), strict=True)]


def plain_words(exam: Exam) -> list[Row]:
    """Captions in plain words: is everything there?"""
    rng, things = np.random.default_rng(71), exam.named()
    scenes = [random_scene(rng, [thing]) for thing in things]
    hits, drawn, captions = as_told(exam, scenes, things, None, 0)
    some = few(scenes)
    nothing = as_told(exam, some, ["*"] * len(some), exam.random_words(len(some)), 0)[0]
    rows = [
        share(f"plain words: {h}", found, "0.95", random=percent(nothing[h]), chance=f"{1 / HEADS[h]:.2f}")
        for h, found in hits.items()
    ]
    rows.append(share("plain words: all four", all_of(hits), "0.90", random=percent(all_of(nothing))))
    rows[-1].sheet = (drawn, captions)
    if exam.second_judge is not None:
        again = equal(judge_pictures(exam.second_judge, drawn).thing, things)
        rows.append(share("plain words: thing, second judge", again, "0.95"))
    return rows


def known_sounds(exam: Exam) -> list[Row]:
    """'a photo of a A*' from sounds never heard, without training; and whether the ear or the hand errs."""
    things, asked = exam.named(), ["a photo of a *"]
    features = exam.hear(things)
    heard = [NAMED[i] for i in (features @ named_features(exam).T).argmax(1).tolist()]
    slots = exam.artist.words_of(features, exam.bridge)[:, None]
    drawn, verdict = exam.judged(asked * len(things), slots, 11)
    nearest = exam.artist.words_of(features, exam.bridge, nearest=1.0)[:, None]
    clear = exam.judged(asked * len(things), nearest, 11)[1].thing
    plain = exam.judged([f"a photo of a {t}" for t in things], None, 11)[1].thing
    some = few(things)
    lost = exam.judged(asked * len(some), exam.random_words(len(some)), 11)[1].thing
    upper = np.mean(equal(plain, things))
    row = share(
        "known sounds, never heard, no training",
        equal(verdict.thing, things),
        f"{upper - 0.05:.2f}",
        upper=f"{upper:.2f}",
        random=percent(equal(lost, some)),
        chance=CHANCE,
    )
    row.sheet = (drawn, said_of([f"sound of {t}" for t in things], verdict.thing))
    return [
        row,
        share("the same, as the nearest words", equal(clear, things), row.goal, upper=row.upper),
        share("the same, heard as the right word", equal(heard, things), "-", chance=f"{1 / 18:.2f}"),
    ]


def named_features(exam: Exam) -> Tensor:
    """The text features of the named things' words (18, 768), unit norm."""
    return unit(exam.artist.features(torch.stack([exam.artist.row(t) for t in NAMED])))


def mixtures(exam: Exam) -> list[Row]:
    """Two sounds in one recording: are both among the two words that it is nearest to?"""
    rng = np.random.default_rng(74)
    pairs = [rng.choice(len(NAMED), 2, replace=False) for _ in exam.named()]
    first = FIRST_SOUND + 25000
    waves = [mixture(NAMED[a], NAMED[b], 0.6, first + 2 * i) for i, (a, b) in enumerate(pairs)]
    likeness = exam.hear_waves(waves) @ named_features(exam).T
    two, one = likeness.topk(2).indices.tolist(), likeness.argmax(1).tolist()
    both = [set(near) == set(pair.tolist()) for near, pair in zip(two, pairs, strict=True)]
    either = [near in pair for near, pair in zip(one, pairs, strict=True)]
    name = "a mixture of two sounds"
    return [
        share(f"{name}: heard as both words", both, "-", chance=f"{2 / (18 * 17):.2f}"),
        share(f"{name}: the nearest word is one of them", either, "-", chance=f"{2 / 18:.2f}"),
    ]


def sentences(exam: Exam) -> list[Row]:
    """A* in a sentence: place, colour and style as told, and the thing right."""
    rng, things = np.random.default_rng(72), exam.named()
    scenes = [random_scene(rng, [thing]) for thing in things]
    slot = ["*"] * len(things)
    own, drawn, captions = as_told(exam, scenes, slot, exam.words(things, FIRST_SOUND + 5000), 12)
    some = few(scenes)
    plain = as_told(exam, some, few(things), None, 12)[0]
    lost = as_told(exam, some, few(slot), exam.random_words(len(some)), 12)[0]
    rows = []
    for name, heads, goal in (("all four", tuple(HEADS), "0.75"), ("thing and place", ("thing", "place"), "-")):
        bounds = {"upper": percent(all_of(plain, heads)), "random": percent(all_of(lost, heads))}
        rows.append(share(f"A* in a sentence: {name}", all_of(own, heads), goal, **bounds))
    rows[0].sheet = (drawn, captions)
    return rows


def two_sounds(exam: Exam) -> list[Row]:
    """Two sounds in one prompt: are both things there?"""
    rng, count = np.random.default_rng(73), len(exam.named())
    pairs = [tuple(rng.choice(NAMED, 2, replace=False)) for _ in range(count)]

    def slots(nearest: float) -> Tensor:
        first = FIRST_SOUND + 7000
        return torch.cat([exam.words([p[k] for p in pairs], first + 500 * k, nearest) for k in (0, 1)], dim=1)

    def both(texts, words=None) -> tuple[list[bool], np.ndarray]:
        drawn, verdict = exam.judged(texts, words, 13)
        there = [[THINGS.index(thing) for thing in pair] for pair in pairs[: len(texts)]]
        return [bool((chances[own] > 0.5).all()) for chances, own in zip(verdict.presence, there, strict=True)], drawn

    slot = ["a photo of a * and a *"] * count
    own, drawn = both(slot, slots(0.0))
    clear = both(slot, slots(1.0))[0]
    plain = both([f"a photo of a {a} and a {b}" for a, b in few(pairs)])[0]
    some = few(slot)
    lost = both(some, torch.cat([exam.random_words(len(some), seed) for seed in (1, 2)], dim=1))[0]
    row = share("two sounds in one prompt: both there", own, "0.5", upper=percent(plain), random=percent(lost))
    row.sheet = (drawn, [f"{a} + {b} | {'both' if o else 'not both'}" for (a, b), o in zip(pairs, own, strict=True)])
    return [row, share("the same, as the nearest words", clear, "0.5")]


def hidden_things(exam: Exam) -> list[Row]:
    """Unnamed and never-seen things from their sounds alone."""
    rows = []
    for name, asked in (("unnamed", UNNAMED), ("never-seen", UNSEEN)):
        things = list(asked) * (6 * exam.repeats)
        slots, nearest = (exam.words(things, FIRST_SOUND + 15000, share) for share in (0.0, 1.0))
        drawn, verdict = exam.judged(["a photo of a *"] * len(things), slots, 15)
        some = few(things)
        lost = exam.judged(["a photo of a *"] * len(some), exam.random_words(len(some)), 15)[1].thing
        right, random = equal(verdict.thing, things), percent(equal(lost, some))
        row = share(f"{name} things: their sound alone", right, "-", random=random, chance=CHANCE)
        row.sheet = (drawn, said_of([f"sound of {t}" for t in things], verdict.thing))
        clear = exam.judged(["a photo of a *"] * len(things), nearest, 15)[1].thing
        rows += [row, share("the same, as the nearest words", equal(clear, things), "-")]
    return rows


def retrieval(exam: Exam) -> list[Row]:
    """Of `LIBRARY` drawings the five nearest to a sound: how many show its thing?"""
    library, rows = exam.library, []
    count = len(exam.named())

    def precision(features: Tensor, things: list[str]) -> tuple[np.ndarray, np.ndarray]:
        near = (features @ library.features.T).topk(5).indices.numpy()
        return np.array([[library.things[j] == t for j in five] for five, t in zip(near, things, strict=True)]), near

    for name, asked in (("known", NAMED), ("unnamed", UNNAMED), ("never-seen", UNSEEN)):
        things = [thing for thing in asked for _ in range(count // len(asked))]
        hits, near = precision(exam.hear(things, FIRST_SOUND + 13000), things)
        bounds = {"random": f"{precision(unit(torch.randn(count, 768)), things)[0].mean():.2f}", "chance": CHANCE}
        if name == "known":
            words = exam.artist.features(torch.stack([exam.artist.row(t) for t in things]))
            bounds["upper"] = f"{precision(unit(words), things)[0].mean():.2f}"
        title = f"retrieval by sound, precision at 5 of {LIBRARY}: {name} things"
        row = mean(title, hits.mean(1), "0.8" if name == "known" else "-", **bounds)
        shown = range(0, len(things), max(1, len(things) // 14))
        row.sheet = (
            library.pictures[np.concatenate([near[i] for i in shown])],
            [f"sound of {things[i]} | {library.things[j]}" for i in shown for j in near[i]],
        )
        row.together = 10
        rows.append(row)
    return rows


def heard_recordings(exam: Exam, loudest: float | None = None) -> tuple[Tensor, Tensor]:
    """ESC-10's third fold, or only the `loudest` so many seconds of each recording, as an ear hears it that was trained
    without: features (N, 768) and classes (N,)."""
    fbank, labels, _ = real_clips(exam.recordings, (3,), frames=1024, loudest=loudest)
    with torch.no_grad():
        return torch.cat([exam.ear_of_two_folds.encode_audio(part) for part in fbank.float().split(16)]), labels


def recordings(exam: Exam) -> list[Row]:
    """ESC-10's third fold to pictures, by an ear that learned from the first two; the shipped one learned from all."""
    name = "real recordings: ESC-10's fold 3"
    if exam.recordings is None:
        return [Row(f"{name} (not measured: needs AAI_RECORDINGS)", float("nan"), (float("nan"),) * 2, 0, "0.60")]
    features, labels = heard_recordings(exam)
    things = [CLASSES[i] for i in labels.tolist()]
    slots = exam.artist.words_of(features, exam.bridge)[:, None]
    asked, everything = ["a photo of a *"] * (SEEDS * len(things)), things * SEEDS
    drawn, verdict = exam.judged(asked, slots.repeat(SEEDS, 1, 1), 16)
    some = few(everything)
    plain = exam.judged([f"a photo of a {t}" for t in some], None, 16)[1].thing
    lost = exam.judged(few(asked), exam.random_words(len(some)), 16)[1].thing
    ten = named_features(exam)[:10]
    heard, loudest = ((x @ ten.T).argmax(1) == labels for x in (features, heard_recordings(exam, SECONDS)[0]))
    nearest = exam.artist.words_of(features, exam.bridge, nearest=1.0)[:, None]
    clear = exam.judged(asked, nearest.repeat(SEEDS, 1, 1), 16)[1].thing
    bounds = {"upper": percent(equal(plain, some)), "random": percent(equal(lost, some)), "chance": CHANCE}
    clips = [*range(len(things))] * SEEDS
    row = share(f"{name}, no training", equal(verdict.thing, everything), "0.60", of=clips, **bounds)
    row.sheet = (drawn, said_of(everything, verdict.thing))
    return [
        row,
        share(f"{name}: as the nearest words", equal(clear, everything), "0.60", of=clips),
        share(f"{name}: heard as the right one of ten words", heard.tolist(), "0.80", chance="0.10"),
        share("the same, of its loudest 2.56 seconds", loudest.tolist(), "-", chance="0.10"),
    ]


ROWS = (plain_words, known_sounds, sentences, two_sounds, mixtures, hidden_things, retrieval, recordings)
