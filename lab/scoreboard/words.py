"""Words trained on references by the pack's own node: known, unnamed and never-seen things; the four modes of a word."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from aai_pack.nodes.host.adapt import bridge, training
from torch import Tensor

from ...aai_models.adapt.config import AdaptConfig
from ...aai_models.adapt.token import AudioToken
from ...pocket.world.names import UNNAMED, UNSEEN
from ...pocket.world.scene import draw, random_scene
from ..training.judge_model import judge_pictures
from .exam import FIRST_SOUND, Exam
from .figures import Row, mean, percent, share
from .rows import BOUND, CHANCE, equal, said_of
from .studio import Studio

KNOWN = ("rooster", "bell", "train", "fire", "cat", "drum")
SOUNDS_OF_HIDDEN = 2  # of each unnamed and each never-seen thing
REFERENCES = 5
TRAINING = AdaptConfig(
    steps=100,
    learning_rate=0.02,
    batch_size=4,
    resolution=128,
    prompt="a photo of a <A*>",
    start="zero",
    bridge="ridge",
    timesteps="stratified",
    evaluate_every=25,
)
SOUND, OTHER_SOUND, PICTURES = FIRST_SOUND + 17000, FIRST_SOUND + 18000, 76  # seeds
GOALS = {"known": "0.95", "unnamed": "0.75", "never-seen": "0.50"}
HOW = {"given": "5 references", "found": "5 references that the sound found"}


class Hosted(Exam):
    """An exam whose models also stand in a ComfyUI."""

    @cached_property
    def studio(self) -> Studio:
        return Studio()

    def directions(self, feature: Tensor) -> dict[str, Tensor]:
        """Where the node's bridge carries a sound's feature (D,)."""
        with torch.inference_mode():
            return bridge.bridge_of(self.studio.clip).carry(feature)


def train(exam: Hosted, feature: Tensor, pictures: np.ndarray, **settings) -> tuple[AudioToken, float]:
    """The word of a sound's feature (D,) and pictures (n, 128, 128, 3), and the seconds that it took."""
    studio, started = exam.studio, time.monotonic()
    with torch.inference_mode():
        shown = [torch.from_numpy(picture).float()[None] / 255 for picture in pictures]
        config = replace(TRAINING, **settings)
        done = training.train(studio.model, studio.clip, studio.vae, feature[None], [shown], config)
    return done.token, time.monotonic() - started


@dataclass(frozen=True)
class Lesson:
    """A sound with pictures to learn from."""

    kind: str  # known, unnamed, never-seen
    thing: str
    feature: Tensor  # (D,)
    other: Tensor  # of another sound of the thing
    given: np.ndarray  # (5, 128, 128, 3) drawings of the thing
    found: np.ndarray  # those of the library that the sound chose


def lessons(exam: Hosted) -> list[Lesson]:
    """Sounds that no training has heard, with what they are taught by."""
    share = min(1.0, exam.repeats / 12)  # a short exam teaches few words
    known, unnamed, unseen = (names[: max(1, round(share * len(names)))] for names in (KNOWN, UNNAMED, UNSEEN))
    sounds = max(1, round(share * SOUNDS_OF_HIDDEN))
    asked = [("known", t) for t in known]
    asked += [("unnamed", t) for t in unnamed * sounds] + [("never-seen", t) for t in unseen * sounds]
    things, rng = [t for _, t in asked], np.random.default_rng(PICTURES)
    own, others = exam.hear(things, SOUND), exam.hear(things, OTHER_SOUND)
    near = (own @ exam.library.features.T).topk(REFERENCES).indices.numpy()
    return [
        Lesson(
            *(kind, thing, own[i], others[i]),
            np.stack([draw(random_scene(rng, [thing]))[0] for _ in range(REFERENCES)]),
            exam.library.pictures[near[i]],
        )
        for i, (kind, thing) in enumerate(asked)
    ]


@dataclass
class Learned:
    """The words of a lesson in its modes."""

    lesson: Lesson
    modes: dict[str, Tensor]  # what made the word -> (768,)
    seconds: float  # the longest training


def learn(exam: Hosted, lesson: Lesson) -> Learned:
    """A known thing is taught by the pictures that it was given; the others by what the sound found, and by both."""
    source = "given" if lesson.kind == "known" else "found"
    token, seconds = train(exam, lesson.feature, getattr(lesson, source))
    alone, _ = train(exam, lesson.feature, getattr(lesson, source), mode="adapter_only", bridge="none", start="random")
    other = token.of_sound(lesson.other, 1.0, exam.directions(lesson.other))
    words = {
        f"{HOW[source]}: sound and adapter": token,
        "adapter without sound": alone,
        "the adapter under another sound of the class (Fig. 6b)": other,
    }
    if source == "given":  # the sound alone of the others is a row of its own, over many more sounds
        bare = {key: torch.zeros_like(adapter) for key, adapter in token.adapters.items()}
        words["sound without adapter"] = replace(token, adapters=bare)
    else:
        words[f"{HOW['given']}: sound and adapter"], _ = train(exam, lesson.feature, lesson.given)
    return Learned(lesson, {mode: word.vectors["clip_l"].float().mean(0) for mode, word in words.items()}, seconds)


def trained_words(exam: Hosted) -> list[Row]:
    """Known, unnamed and never-seen things from a sound and five references, and the four modes."""
    learned = [learn(exam, lesson) for lesson in lessons(exam)]
    rows = []
    for kind, goal in GOALS.items():
        rows += _rows_of_kind(exam, kind, goal, [one for one in learned if one.lesson.kind == kind])
    seconds = [one.seconds for one in learned]
    longest = Row("seconds of the longest training", max(seconds), (float("nan"),) * 2, len(seconds), "< 60", digits=0)
    return [*rows, mean("seconds of a training, mean", seconds, "< 60", digits=0), longest]


def _rows_of_kind(exam: Hosted, kind: str, goal: str, learned: list[Learned]) -> list[Row]:
    each = -(-18 * exam.repeats // len(learned))  # pictures of a word
    things = [one.lesson.thing for one in learned for _ in range(each)]
    of = [number for number in range(len(learned)) for _ in range(each)]
    prompt = ["a photo of a *"] * len(things)
    some = things[::BOUND]
    random = percent(equal(exam.judged(prompt[::BOUND], exam.random_words(len(some)), 21)[1].thing, some))
    bounds = {"random": random, "chance": CHANCE}
    if kind == "known":
        bounds["upper"] = percent(equal(exam.judged([f"a photo of a {t}" for t in some], None, 21)[1].thing, some))
    rows, own = [], None
    for mode in learned[0].modes:
        words = torch.stack([one.modes[mode] for one in learned]).repeat_interleave(each, 0)[:, None]
        drawn, verdict = exam.judged(prompt, words, 21)
        right = equal(verdict.thing, things)
        own = np.mean(right) if own is None else own
        wanted = goal if mode == next(iter(learned[0].modes)) else f"{0.8 * own:.2f}" if "6b" in mode else "-"
        row = share(f"{kind} things, {mode}", right, wanted, of=of, **bounds)
        row.sheet = (drawn, said_of([f"sound of {t}" for t in things], verdict.thing))
        rows.append(row)
    if kind != "known":
        rows.append(_found(exam, kind, learned))
    return rows


def _found(exam: Hosted, kind: str, learned: list[Learned]) -> Row:
    """How many of the pictures that the sounds found show their thing."""
    said = [judge_pictures(exam.judge, one.lesson.found).thing for one in learned]
    hits = [name == one.lesson.thing for names, one in zip(said, learned, strict=True) for name in names]
    row = share(f"{kind} things, of the references that the sound found, right", hits, "-", chance=CHANCE)
    pictures = np.concatenate([one.lesson.found for one in learned])
    row.sheet = (
        pictures,
        said_of(
            [f"for {one.lesson.thing}" for one in learned for _ in range(REFERENCES)], [n for all in said for n in all]
        ),
    )
    return row
