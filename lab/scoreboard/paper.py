"""The paper's figures 3, 4 and 6 to 11 on the pocket models: sheets to lay beside it, each with what the judge says."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from aai_pack.nodes.host.inject import loudness
from PIL import Image
from torch import Tensor

from ...aai_models.adapt.token import AudioToken
from ...aai_models.audio.fbank import kaldi_fbank
from ...aai_models.draw import contact_sheet, heat
from ...devtools.on_pocket import EDIT
from ...pocket.world.names import PLACES
from ...pocket.world.scene import Scene, draw
from ...pocket.world.sounds import RATE, synthesise
from ..training.judge_model import judge_pictures
from .edits import STYLE_OF, STYLISE, style_words
from .exam import FIRST_SOUND
from .words import Hosted, train

SIDE = 160  # of a tile, in pixels
SEED, SOUND = 51, FIRST_SOUND + 30000
COLOURS, GROUNDS = ("red", "blue", "yellow", "green", "purple"), ("meadow", "snow", "city", "beach", "desert")
PROMPTS = ("a photo of a *", "a photo of a * in the snow", "a sketch of a *", "a poster of a * on a beach")


class Sheet:
    """Tiles in rows, and what the judge says of the pictures among them."""

    def __init__(self, columns: int):
        self.columns, self.tiles, self.captions, self.right = columns, [], [], []

    def add(self, picture: np.ndarray, caption: str = "", right: bool | None = None) -> None:
        self.tiles.append(Image.fromarray(np.ascontiguousarray(picture)))
        self.captions.append(caption)
        if right is not None:
            self.right.append(right)

    def save(self, path: Path) -> None:
        contact_sheet(self.tiles, self.captions, self.columns, SIDE).save(path, optimize=True)


def seen(wave: np.ndarray) -> np.ndarray:
    """The log-mel spectrogram of a sound, low pitches below: (128, 128, 3) uint8."""
    features = kaldi_fbank(torch.from_numpy(wave)[None])[0]
    low = float(features.max()) - 18.0
    picture = Image.fromarray(heat(((features - low) / 18.0).clamp(0, 1).T.flip(0).numpy()))
    return np.asarray(picture.resize((128, 128), Image.Resampling.BILINEAR))


class Painter:
    """Words of things, each trained once, and pictures of them."""

    def __init__(self, exam: Hosted):
        self.exam, self._words = exam, {}

    def wave(self, thing: str, level: float = 0.6) -> np.ndarray:
        return synthesise(thing, level, SOUND)

    def references(self, thing: str, count: int = 5, **changes) -> np.ndarray:
        """Drawings of a thing, different in all that `changes` does not hold."""
        scenes = [{"colour": COLOURS[k], "place": GROUNDS[k], "x": 0.4 + 0.05 * k, "seed": k} for k in range(count)]
        return np.stack([draw(Scene(thing=thing, **{**own, **changes}))[0] for own in scenes])

    def learn(self, thing: str, pictures: np.ndarray, **settings) -> AudioToken:
        return train(self.exam, self.exam.hear([thing], SOUND)[0], pictures, **settings)[0]

    def token(self, thing: str) -> AudioToken:
        """The word of a thing's sound, from five drawings of it."""
        if thing not in self._words:
            self._words[thing] = self.learn(thing, self.references(thing))
        return self._words[thing]

    def row(self, thing: str) -> Tensor:
        return row_of(self.token(thing))

    @cached_property
    def styles(self) -> list[tuple[str, Tensor]]:
        return style_words(self.exam, each=1)

    def paint(
        self, sheet: Sheet, texts: list[str], row: Tensor, thing: str, captions: list[str] | None = None, **more
    ) -> None:
        drawn = self.exam.studio.paint(texts, row.expand(len(texts), -1), SEED, **more)
        said = judge_pictures(self.exam.judge, drawn).thing
        for picture, caption, name in zip(drawn, captions or [t.replace("*", "A*") for t in texts], said, strict=True):
            sheet.add(picture, caption, name == thing)


def row_of(token: AudioToken) -> Tensor:
    return token.vectors["clip_l"].float().mean(0)


def generation(painter: Painter, things: tuple[str, ...], prompts: tuple[str, ...]) -> Sheet:
    sheet = Sheet(1 + len(prompts))
    for thing in things:
        sheet.add(seen(painter.wave(thing)), f"sound of {thing}")
        painter.paint(sheet, list(prompts), painter.row(thing), thing)
    return sheet


def figure_3(painter: Painter) -> Sheet:
    """generation: thunder, fire, sea waves, an animal"""
    return generation(painter, ("thunder", "fire", "waves", "cat"), PROMPTS)


def figure_7(painter: Painter) -> Sheet:
    """more generation, one prompt"""
    return generation(painter, ("helicopter", "rain", "dog", "chainsaw"), ("a photo of a *",) * 5)


def edited(painter: Painter, sheet: Sheet, pairs: list[tuple[str, str]]) -> None:
    """Source, edit and their difference for (place, thing)."""
    for place, thing in pairs:
        source = f"a photo of {PLACES[place][1]}"
        found = painter.exam.studio.edit(
            [source], [f"{source} with a *"], painter.row(thing)[None], SEED, False, **EDIT
        )
        before, after = found.source[0], found.edit[0]
        sheet.add(seen(painter.wave(thing)), f"sound of {thing}")
        sheet.add(before, source)
        sheet.add(after, "... with a A*", judge_pictures(painter.exam.judge, found.edit).thing[0] == thing)
        changed = np.abs(after.astype(int) - before).max(-1, keepdims=True).repeat(3, -1)
        sheet.add(np.minimum(255, 2 * changed).astype(np.uint8), "difference x 2")


def stylised(painter: Painter, sheet: Sheet, scenes: list[tuple[str, str]]) -> None:
    """Each (thing, place) in the style of each sound."""
    sources = [f"a photo of a {thing} {PLACES[place][0]}" for thing, place in scenes]
    targets = [f"a picture of a {thing} {PLACES[place][0]} in the style of a *" for thing, place in scenes]
    for (sound, _), (style, row) in zip(STYLE_OF.items(), painter.styles, strict=True):
        rows = row.expand(len(scenes), -1)
        found = painter.exam.studio.edit(sources, targets, rows, SEED, True, **STYLISE)
        said = judge_pictures(painter.exam.judge, found.edit).style
        for k in range(len(scenes)):
            sheet.add(seen(painter.wave(sound)), f"{sound}, bound to {style}")
            sheet.add(found.source[k], sources[k])
            sheet.add(found.edit[k], "in the style of A*", said[k] == style)
            sheet.add(found.free[k], "without injection")


def figure_4(painter: Painter) -> Sheet:
    """editing, then stylisation"""
    sheet = Sheet(4)
    edited(painter, sheet, [("beach", "waves"), ("city", "thunder")])
    stylised(painter, sheet, [("train", "forest")])
    return sheet


def figure_8(painter: Painter) -> Sheet:
    """more editing"""
    sheet = Sheet(4)
    edited(painter, sheet, [("night", "helicopter"), ("meadow", "dog"), ("forest", "fire"), ("snow", "cat")])
    return sheet


def figure_9(painter: Painter) -> Sheet:
    """more stylisation"""
    sheet = Sheet(4)
    stylised(painter, sheet, [("cat", "snow"), ("bird", "forest"), ("clock", "city")])
    return sheet


def figure_6(painter: Painter) -> Sheet:
    """(a) other references for one sound; (b) one adapter under other sounds of the class"""
    sheet, thing = Sheet(6), "rooster"
    for changes in ({"colour": "red"}, {"colour": "blue", "place": "snow"}, {"style": "sketch"}):
        pictures = painter.references(thing, 3, **changes)
        for picture in pictures:
            sheet.add(picture, "reference")
        painter.paint(sheet, ["a picture of a *"] * 3, row_of(painter.learn(thing, pictures)), thing, ["A*"] * 3)
    token = painter.token(thing)
    for k, feature in enumerate(painter.exam.hear([thing] * 3, SOUND + 100)):
        sheet.add(seen(synthesise(thing, 0.6, SOUND + 100 + k)), f"another {thing}")
        other = row_of(token.of_sound(feature, 1.0, painter.exam.directions(feature)))
        painter.paint(sheet, ["a photo of a *"] * 5, other, thing, ["the same adapter"] * 5)
    return sheet


def figure_10(painter: Painter) -> Sheet:
    """number of references (down) and of steps (across)"""
    sheet, thing, steps = Sheet(5), "frog", (20, 60, 150)
    for count in (1, 3, 5):
        pictures = painter.references(thing, count)
        sheet.add(pictures[0], f"{count} reference{'s' if count > 1 else ''} of a {thing}")
        painter.paint(sheet, ["a photo of a *"], painter.exam.words([thing], SOUND)[0, 0], thing, ["the sound alone"])
        for number in steps:
            row = row_of(painter.learn(thing, pictures, steps=number))
            painter.paint(sheet, ["a photo of a *"], row, thing, [f"{number} steps"])
    return sheet


def figure_11(painter: Painter) -> Sheet:
    """thunder that grows louder: the sound, its LUFS and scale, the picture; below, drawings of such thunder"""
    levels, thing = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0), "thunder"
    sheet, scales = Sheet(len(levels)), []
    reference = float(loudness.integrated(torch.from_numpy(painter.wave(thing, 0.55))[None, None], RATE)[0])
    for level in levels:
        audio = {"waveform": torch.from_numpy(painter.wave(thing, level))[None, None], "sample_rate": RATE}
        lufs = float(loudness.integrated(audio["waveform"], RATE)[0])
        scales.append(loudness.scale_of(audio, None, "relative", reference, 1.0))
        sheet.add(seen(painter.wave(thing, level)), f"{lufs:.0f} LUFS")
    for scale in scales:
        painter.paint(sheet, ["a photo of a *"], painter.row(thing), thing, [f"scale {scale:.2f}"], scale=scale)
    for level in levels:
        sheet.add(draw(Scene(thing=thing, place="night", loudness=level))[0], f"drawn, loudness {level:g}")
    return sheet


FIGURES = (figure_3, figure_4, figure_6, figure_7, figure_8, figure_9, figure_10, figure_11)


def make(exam: Hosted, folder: Path, figures: list = FIGURES) -> list[list[str]]:
    """Draw figures into a folder -> a line for each."""
    folder.mkdir(parents=True, exist_ok=True)
    painter, lines = Painter(exam), []
    for figure in figures:
        sheet, path = figure(painter), folder / f"{figure.__name__}.png"
        sheet.save(path)
        what = " ".join(figure.__doc__.split())
        lines.append([figure.__name__.replace("_", " "), what, f"{sum(sheet.right)} of {len(sheet.right)}", path.name])
        print("  ".join(lines[-1]), flush=True)
    return lines
