"""Words by labels and over a foreign tower: does what was heard reach the picture, whoever made the space of the sounds?

The foreign tower is a stand-in for a CLAP: the pocket's space turned by a random rotation into 512 values, in which every
text is moved by an error of its own, and every sound by another. The nodes then know nothing of CLIP-L.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from aai_pack.nodes.host.adapt.clip_texts import ClipTexts
from aai_pack.nodes.host.adapt.listen import Listening
from aai_pack.nodes.host.adapt.sound_word import WordSettings, make_word
from aai_pack.nodes.host.base.types import AudioFeature
from torch import Tensor

from ...aai_models.align.alignment import CLIP_L
from ...aai_models.align.texts import orthonormal
from ...aai_models.audio.neutral import RATE as NEUTRAL_RATE
from ...aai_models.audio.neutral import neutral_sounds
from ...aai_models.audio.resample import resample
from ...pocket.world.names import SYNONYMS, UNNAMED
from ...pocket.world.sounds import RATE
from ..training.sounds import CLASSES
from .exam import FIRST_SOUND, SEEDS
from .figures import Row, percent, share
from .rows import CHANCE, equal, few, heard_recordings, said_of
from .words import Hosted

FOREIGN_WIDTH = 512
FOREIGN_ERROR = 0.5  # length of what moves each text and each sound of the foreign tower
ASKED = "a photo of a *"


class ForeignTexts:
    """The pocket's texts, turned and moved; `AlignedText`."""

    name, prompt, scale, dim = "a foreign tower", "label", 20.0, FOREIGN_WIDTH

    def __init__(self, clip):
        self._texts, self.turn = ClipTexts(clip), orthonormal(768, FOREIGN_WIDTH, seed=5)
        self.digest = f"foreign-{FOREIGN_ERROR:g}-{self._texts.digest}"

    def encode(self, texts: list[str]) -> Tensor:
        return self.moved(self._texts.encode(texts), texts)

    def moved(self, features: Tensor, names: list[str]) -> Tensor:
        """Unit vectors (N, 512) of unit vectors (N, 768), each with an error that its name draws."""
        errors = torch.stack([_drawn(name) for name in names])
        turned = F.normalize(features.float() @ self.turn, dim=-1)
        return F.normalize(turned + FOREIGN_ERROR * errors, dim=-1)


def _drawn(name: str) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    return F.normalize(torch.randn(FOREIGN_WIDTH, generator=torch.Generator().manual_seed(seed)), dim=-1)


class ForeignEar:
    """An encoder with those texts, as the nodes know it."""

    def __init__(self, texts: ForeignTexts, centre: Tensor):
        self._texts, self.centre = texts, centre

    def aligned_text(self, clip) -> ForeignTexts:
        return self._texts


def foreign(exam: Hosted, features: Tensor) -> AudioFeature:
    """Features (N, 768) as a foreign encoder hears them."""
    with torch.inference_mode():
        texts = ForeignTexts(exam.studio.clip)
        waves = resample(neutral_sounds()[:, 0], NEUTRAL_RATE, RATE)
        neutral = exam.hear_waves([wave.numpy() for wave in waves])
        centre = texts.moved(neutral, [f"neutral {n}" for n in range(len(neutral))]).mean(0)
        moved = texts.moved(features, [f"sound {n}" for n in range(len(features))])
    return AudioFeature(moved, "a foreign ear", ear=ForeignEar(texts, centre))


def made(exam: Hosted, sounds: AudioFeature, bridge: str, words: list[str] | None = None) -> tuple[Tensor, list[str]]:
    """The node's word of each sound (N, 1, 768), and the first label of what its text says was drawn.

    `words`: what an artist writes for each; "" leaves it as heard. A word of several rows counts as their mean.
    """
    rows, drawn = [], []
    for index in range(len(sounds.vectors)):
        listening = Listening(words=words[index] if words else "")
        settings = WordSettings(bridge, listening=listening)
        with torch.inference_mode():
            token, told = make_word(exam.studio.clip, sounds.one(index), 1.0, settings)
        rows.append(token.vectors["clip_l"].float().mean(0, keepdim=True))
        drawn.append(told.partition("Heard: ")[2].partition(" 0.")[0])
    return torch.stack(rows), drawn


def _judged(exam: Hosted, name: str, things: list[str], slots: Tensor, goal: str, seed: int = 11, **more) -> Row:
    drawn, verdict = exam.judged([ASKED] * len(things), slots, seed)
    row = share(name, equal(verdict.thing, things), goal, **more)
    row.sheet = (drawn, said_of([f"sound of {t}" for t in things], verdict.thing))
    return row


def labels(exam: Hosted) -> list[Row]:
    """Known sounds that no training has heard, by labels and over a foreign tower, beside the plain word."""
    things = exam.named()
    features = exam.hear(things)
    plain = exam.judged([f"a photo of a {t}" for t in things], None, 11)[1].thing
    upper = percent(equal(plain, things))
    some = few(things)
    lost = exam.judged([ASKED] * len(some), exam.random_words(len(some)), 11)[1].thing
    bounds = {"upper": upper, "random": percent(equal(lost, some)), "chance": CHANCE}
    goal = f"{float(upper) - 0.05:.2f}"
    own = AudioFeature(features, "the pocket's ear", aligned_with=CLIP_L)
    slots, heard = made(exam, own, "labels")
    # The artist hears it too, and writes what it is where something else was heard.
    right = [SYNONYMS.get(said, said) == thing for said, thing in zip(heard, things, strict=True)]
    corrections = ["" if ok else thing for ok, thing in zip(right, things, strict=True)]
    corrected, _ = made(exam, own, "labels", corrections)
    other = foreign(exam, features)
    ridge, _ = made(exam, other, "ridge")
    foreign_labels, foreign_heard = made(exam, other, "labels")
    foreign_right = [SYNONYMS.get(said, said) == t for said, t in zip(foreign_heard, things, strict=True)]
    return [
        _judged(exam, "labels, known sounds, no training", things, slots, goal, **bounds),
        share("the same, the first label is right", right, "-"),
        _judged(exam, "labels, corrected by the artist", things, corrected, goal, **bounds),
        _judged(exam, "foreign tower, ridge", things, ridge, "-", **bounds),
        _judged(exam, "foreign tower, labels", things, foreign_labels, goal, **bounds),
        share("the same, the first label is right", foreign_right, "-"),
        *_without_a_name(exam),
        *_recordings(exam),
    ]


def _without_a_name(exam: Hosted) -> list[Row]:
    """What has no name: `auto` is to notice that it is not sure, and go over the ridge."""
    things = [thing for thing in UNNAMED for _ in range(6 * exam.repeats)]
    sounds = AudioFeature(exam.hear(things, FIRST_SOUND + 30000), "the pocket's ear", aligned_with=CLIP_L)
    found = []
    for bridge in ("auto", "labels"):
        slots, _ = made(exam, sounds, bridge)
        found.append(_judged(exam, f"unnamed things, bridge {bridge}", things, slots, "-", 15, chance=CHANCE))
    return found


def _recordings(exam: Hosted) -> list[Row]:
    """ESC-10's third fold by an ear that has not heard it, as `rows.recordings`."""
    name = "real recordings: ESC-10's fold 3, labels"
    if exam.recordings is None:
        return [Row(f"{name} (not measured: needs AAI_RECORDINGS)", float("nan"), (float("nan"),) * 2, 0, "0.60")]
    features, classes = heard_recordings(exam)
    things = [CLASSES[i] for i in classes.tolist()]
    slots, heard = made(exam, AudioFeature(features, "an ear of two folds", aligned_with=CLIP_L), "labels")
    clips, everything = [*range(len(things))] * SEEDS, things * SEEDS
    drawn, verdict = exam.judged([ASKED] * len(everything), slots.repeat(SEEDS, 1, 1), 16)
    row = share(name, equal(verdict.thing, everything), "0.60", of=clips, chance=CHANCE)
    row.sheet = (drawn, said_of(everything, verdict.thing))
    right = [SYNONYMS.get(said, said) == thing for said, thing in zip(heard, things, strict=True)]
    return [row, share("the same, the first label is right", right, "-")]
