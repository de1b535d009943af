"""Editing and stylisation by the pack's prompt-to-prompt, each beside the same prompt without injection."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import torch

from ...aai_models.adapt.config import from_preset
from ...devtools.on_pocket import EDIT
from ...pocket.world.names import NAMED, PLACES, STYLES
from ...pocket.world.scene import draw, random_scene
from ..training.judge_model import judge_pictures
from .exam import FIRST_SOUND
from .figures import Row, mean, percent, share
from .finder import outside, overlap
from .likeness import psnr, ssim
from .rows import CHANCE, equal, few
from .studio import WORD, Edited
from .words import REFERENCES, Hosted, train

STYLE_OF = {"bell": "mosaic", "drum": "sketch", "bee": "dots"}  # a sound -> the style that it is bound to
STYLE_PROMPT = "a picture of a thing in the style of a <A*>"
STYLISE = {"cross_end": 0.6, "self_end": 0.25}
OTHERWISE = {  # what else an artist would try
    "windows to 0.4 and 0.2": {"cross_end": 0.4, "self_end": 0.2},
    "windows to 0.8 and 0.4": {"cross_end": 0.8, "self_end": 0.4},
    "with local blend": {**EDIT, "blend_words": WORD},
}
SHOWN = 18  # triples of pictures on a sheet


def _sheet(drawn: Edited, captions: list[str]) -> tuple[np.ndarray, list[str]]:
    """Triples of pictures: source, edit, the edit's prompt without injection."""
    chosen = np.random.default_rng(0).permutation(len(captions))[:SHOWN]
    pictures = np.stack([p[i] for i in chosen for p in (drawn.source, drawn.edit, drawn.free)])
    return pictures, [text for i in chosen for text in ("source", captions[i], "without injection")]


def editing(exam: Hosted) -> list[Row]:
    """ "a beach" -> "a beach with A*": is the thing there, and does the beach stay?"""
    things = exam.named()
    source, target = ["a photo of a beach"] * len(things), "a photo of a beach with a {}"

    def edited(words: list[str], rows, free: bool = False, windows: dict = EDIT) -> Edited:
        return exam.studio.edit(source[: len(words)], [target.format(w) for w in words], rows, 31, free, **windows)

    sounds = exam.words(things, FIRST_SOUND + 21000)[:, 0]
    own = edited(["*"] * len(things), sounds, free=True)
    some = few(things)
    plain, lost = edited(some, None), edited(["*"] * len(some), exam.random_words(len(some))[:, 0])
    said, free, upper, random = (
        judge_pictures(exam.judge, p).thing for p in (own.edit, own.free, plain.edit, lost.edit)
    )
    with_it, without = (psnr(p, own.source, outside(exam.finder, p)) for p in (own.edit, own.free))
    gain = with_it - without
    kept = np.isfinite(gain)
    bounds = {"upper": percent(equal(upper, some)), "random": percent(equal(random, some)), "chance": CHANCE}
    goal = f"no worse: {percent(equal(free, things))}"
    rows = [
        share("editing 'a beach' -> 'a beach with A*': thing right", equal(said, things), goal, **bounds),
        mean("the same, dB gained outside the thing by injection", gain[kept], "+6", digits=1),
        mean("the same, dB outside the thing, with injection", with_it[kept], "-", digits=1),
        Row(
            "how well the thing is found for that, IoU on drawings", overlap(exam.finder), (float("nan"),) * 2, 500, "-"
        ),
    ]
    rows[0].sheet, rows[0].together = _sheet(own, [f"{t} | {s}" for t, s in zip(things, said, strict=True)]), 9
    for name, settings in OTHERWISE.items():
        drawn = edited(["*"] * len(some), sounds[: len(some)], False, settings)
        right = equal(judge_pictures(exam.judge, drawn.edit).thing, some)
        gain = psnr(drawn.edit, drawn.source, outside(exam.finder, drawn.edit)) - without[: len(some)]
        rows.append(share(f"editing, {name}: thing right", right, "-"))
        rows.append(mean(f"editing, {name}: dB gained outside the thing", gain[np.isfinite(gain)], "-", digits=1))
    return rows


def style_words(exam: Hosted, each: int, start: str = "best_word") -> list[tuple[str, torch.Tensor]]:
    """(style, word (768,)): `each` sounds bound to each style by five pictures of different things in it."""
    learned = []
    for number, (thing, style) in enumerate(STYLE_OF.items()):
        for k, feature in enumerate(exam.hear([thing] * each, FIRST_SOUND + 23000 + 10 * number)):
            rng = np.random.default_rng((77, number, k))
            scenes = [random_scene(rng, [t]) for t in rng.choice(NAMED, REFERENCES, replace=False)]
            pictures = np.stack([draw(replace(s, style=style))[0] for s in scenes])
            settings = asdict(from_preset("style", prompt=STYLE_PROMPT, resolution=128)) | {"start": start}
            learned.append((style, train(exam, feature, pictures, **settings)[0].vectors["clip_l"].float().mean(0)))
    return learned


def stylisation(exam: Hosted) -> list[Row]:
    """ "in the style of A*": is the style there, and does the composition stay?"""
    each, rng = 2 if exam.repeats >= 6 else 1, np.random.default_rng(78)
    learned, things = style_words(exam, each), exam.named()
    of = [i % len(learned) for i in range(len(things))]
    scenes = [random_scene(rng, [thing]) for thing in things]
    styles = [learned[i][0] for i in of]
    source = [f"a photo of a {s.thing} {PLACES[s.place][0]}" for s in scenes]
    target = [f"a picture of a {s.thing} {PLACES[s.place][0]} in the style of a {{}}" for s in scenes]
    slot, some = ["*"] * len(things), few(styles)

    def stylised(nouns: list[str], rows) -> Edited:
        texts = [text.format(noun) for text, noun in zip(target, nouns, strict=False)]
        return exam.studio.edit(source[: len(nouns)], texts, rows, 32, True, **STYLISE)

    def words(found: list[tuple[str, torch.Tensor]], count: int) -> torch.Tensor:
        return torch.stack([found[i][1] for i in of[:count]])

    own = stylised(slot, words(learned, len(things)))
    plain = stylised([STYLES[s] for s in some], None)
    lost = stylised(few(slot), exam.random_words(len(some))[:, 0])
    at_sound = stylised(few(slot), words(style_words(exam, each, "zero"), len(some)))
    verdict = judge_pictures(exam.judge, own.edit)
    right = {
        name: equal(judge_pictures(exam.judge, drawn.edit).style, some)
        for name, drawn in (("upper", plain), ("random", lost), ("at the sound", at_sound))
    }
    bounds = {name: percent(right[name]) for name in ("upper", "random")}
    gain, other = (ssim(p.edit, p.source) - ssim(p.free, p.source) for p in (own, plain))
    flat, styled = (
        np.stack([draw(replace(s, style=style or styles[i]))[0] for i, s in enumerate(scenes)])
        for style in ("flat", "")
    )
    kept, kept_by_word = ssim(own.edit, own.source), ssim(plain.edit, plain.source)
    rows = [
        share("'in the style of A*': style right", equal(verdict.style, styles), "0.7", of, **bounds, chance="0.25"),
        share("the same, begun at the sound and not at the best word", right["at the sound"], "-", of[: len(some)]),
        mean("'in the style of A*': SSIM to the source gained by injection", gain, "+0.2", upper=f"{other.mean():.2f}"),
        mean("'in the style of A*': SSIM to the source", kept, "-", upper=f"{kept_by_word.mean():.2f}"),
        mean("SSIM of drawings of one scene, as a photo and in the style", ssim(styled, flat), "-"),
        share("'in the style of A*': the thing is still there", equal(verdict.thing, things), "-"),
    ]
    rows[0].sheet, rows[0].together = _sheet(own, [f"{s} | {v}" for s, v in zip(styles, verdict.style, strict=True)]), 9
    return rows
