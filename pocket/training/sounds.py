"""Trains the pocket CAVT-MAE: sounds towards the pocket CLIP's text features and towards drawn pictures.

Real recordings of ESC-10's folds 1-3 join the synthetic sounds where a folder of them is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...aai_models.align.losses import info_nce
from ...aai_models.audio.decode import decode_audio
from ...aai_models.audio.fbank import encoder_input
from ..models.hearing import HALF, PERIOD_FRAMES, build, encode_half, encode_period, full_kernel
from ..world.captions import SLOT, word_of
from ..world.names import ESC_10, NAMED, STYLES, UNNAMED
from ..world.scene import draw, random_scene
from ..world.sounds import RATE, synthesise
from .diffusion import NUMBER, Model
from .pictures import SHAPES
from .runs import Average, Budget, Run
from .words import end_columns, indices

SECONDS = PERIOD_FRAMES / 100
CLASSES = [*NAMED, *UNNAMED]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class SoundConfig:
    """Settings of the run."""

    seed: int = 0
    minutes: float = 6.0  # of one core
    batch: int = 64
    rate: float = 1e-3
    clips: int = 110  # synthetic clips of each thing
    real: float = 0.25  # share of a batch that is recorded, where recordings are given
    tau: float = 0.05
    regression: float = 2.0  # weight of 1 - cosine to the text feature
    folds: tuple[int, ...] = (1, 2, 3)  # of ESC-10
    bf16: bool = True  # autocast


def spectrogram(wave: np.ndarray) -> Tensor:
    """2.56 s at 16 kHz -> normalised log-mel (256, 128) of the clip repeated for ever."""
    waveform = torch.from_numpy(wave)[None, None]
    return encoder_input(waveform, RATE, short_clip="tile")[0, :PERIOD_FRAMES]


def synthetic_clips(config: SoundConfig, cache: Path) -> tuple[Tensor, Tensor]:
    """Spectrograms (N, 256, 128) float16 and classes (N,), kept in a file for the next run."""
    path = cache / f"clips_{config.clips}_{config.seed}.pt"
    if path.is_file():
        stored = torch.load(path, weights_only=True)
        return stored["fbank"], stored["label"]
    found, labels = [], []
    for number in range(config.clips):
        for label, thing in enumerate(CLASSES):
            loudness = float(np.random.default_rng((config.seed, number, label)).random())
            found.append(spectrogram(synthesise(thing, loudness, 10_000 + number)).half())
            labels.append(label)
    stored = {"fbank": torch.stack(found), "label": torch.tensor(labels)}
    torch.save(stored, path)
    return stored["fbank"], stored["label"]


def real_clips(folder: Path, folds: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """ESC-10's recordings as spectrograms of their whole length (N, frames, 128), classes and folds.

    The fold is the first number of a file's name, as ESC-50 publishes them; other folds than those asked for are not opened.
    """
    found, labels, of_fold = [], [], []
    for path in sorted(folder.rglob("*-*-*")):
        name = ESC_10.get(path.parent.name)
        fold = path.name.split("-")[0]
        if name is None or not fold.isdigit() or int(fold) not in folds:
            continue
        waveform, rate = decode_audio(path)
        window = encoder_input(waveform[None], rate, short_clip="tile", long_clip="first")[0]
        found.append(window[:480].half())
        labels.append(CLASSES.index(name))
        of_fold.append(int(fold))
    return torch.stack(found), torch.tensor(labels), torch.tensor(of_fold)


@torch.no_grad()
def text_features(model: Model, things: list[str]) -> Tensor:
    """The pocket CLIP's end state of each thing, averaged over "a photo of a ...", "a sketch of a ..." and so on, (N, 768)."""
    total = 0
    for noun in STYLES.values():
        rows = torch.tensor([indices(f"a {noun} of a {word_of(t) if t in NAMED else SLOT}") for t in things])
        states = model.words(rows, torch.tensor([NUMBER.get(t, 0) for t in things]))
        total = total + F.normalize(states[torch.arange(len(things)), end_columns(rows)].float(), dim=-1)
    return F.normalize(total, dim=-1)


def augment(fbank: Tensor, rng: np.random.Generator) -> Tensor:
    """Another level, another start, a little noise, and now and then a quiet band; (B, 256, 128) float."""
    shift = torch.from_numpy(rng.normal(0, 0.35, (len(fbank), 1, 1)).astype(np.float32))
    rolled = torch.stack(
        [f.roll(int(r), 0) for f, r in zip(fbank, rng.integers(0, PERIOD_FRAMES, len(fbank)), strict=True)]
    )
    noise = torch.from_numpy(rng.random(fbank.shape, dtype=np.float32) * rng.random() / 10)
    return rolled + shift + noise


def picture_batch(things: list[str], rng: np.random.Generator) -> Tensor:
    """Drawings of things (B, 3, 112, 112), ImageNet-normalised."""
    drawn = np.stack([draw(random_scene(rng, [thing]))[0] for thing in things])
    pixels = torch.from_numpy(drawn).float() / 255
    pixels = ((pixels - MEAN) / STD).permute(0, 3, 1, 2)
    return F.interpolate(pixels, size=(HALF, HALF), mode="bilinear", antialias=True)


class Hearing(nn.Module):
    """The towers, with the image tower's kernel at half size."""

    def __init__(self):
        super().__init__()
        self.towers = build()
        self.kernel = nn.Parameter(torch.randn(768, 3, 16, 16) * 0.02)
        self.towers.patch_embed_v.proj.weight.requires_grad_(False)
        for name in ("norm1", "norm2"):  # of the joint stream, which neither tower runs
            getattr(self.towers.blocks_u[0], name).requires_grad_(False)
        self.towers.norm.requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        """CAVT-MAE's tensors."""
        tensors = dict(self.towers.state_dict())
        tensors["patch_embed_v.proj.weight"] = full_kernel(self.kernel.detach())
        return tensors


def train(config: SoundConfig, out: Path, recordings: Path | None = None) -> Path:
    """Train from the start; returns the file of the averaged weights."""
    run = Run(out, "sounds", config)
    torch.manual_seed(config.seed)
    pictures_model = Model()
    pictures_model.load_state_dict(torch.load(out / "pictures" / "weights.pt", weights_only=True))
    targets = text_features(pictures_model, CLASSES)
    shape_targets = text_features(pictures_model, SHAPES)
    fbank, labels = synthetic_clips(config, run.folder)
    real = real_clips(recordings, config.folds) if recordings else None
    model = Hearing()
    average = Average(model, decay=0.995)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.rate, weight_decay=0.02, betas=(0.9, 0.99), fused=True)
    budget, step = Budget(config.minutes), 0
    while budget.share < 1:
        rng = np.random.default_rng((config.seed, 4, step))
        optimiser.param_groups[0]["lr"] = budget.rate(config.rate, step, warm_up=60, flat=0.4, last=0.02)
        clips, classes = _clips(fbank, labels, real, config, rng)
        shapes = rng.integers(len(SHAPES), size=config.batch // 4)
        things = [CLASSES[i] for i in classes.tolist()] + [SHAPES[i] for i in shapes]
        texts = torch.cat([targets[classes], shape_targets[torch.from_numpy(shapes)]])
        names = torch.cat([classes, len(CLASSES) + torch.from_numpy(shapes)])
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            a = encode_period(model.towers, augment(clips, rng))
            v = encode_half(model.towers, picture_batch(things, rng), model.kernel)
        loss, parts = _loss(a, v, texts, names, config)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        average.update(model, step)
        run.log(step=step, minutes=budget.spent / 60, **parts)
    path = run.folder / "weights.pt"
    torch.save(average.module.state(), path)
    return path


def _clips(fbank: Tensor, labels: Tensor, real, config: SoundConfig, rng) -> tuple[Tensor, Tensor]:
    count = round(config.real * config.batch) if real else 0
    chosen = torch.from_numpy(rng.integers(len(fbank), size=config.batch - count))
    clips, classes = fbank[chosen].float(), labels[chosen]
    if count:
        chosen = torch.from_numpy(rng.integers(len(real[0]), size=count))
        starts = rng.integers(0, real[0].shape[1] - PERIOD_FRAMES + 1, size=count)
        cut = [real[0][i, s : s + PERIOD_FRAMES].float() for i, s in zip(chosen.tolist(), starts, strict=True)]
        clips, classes = torch.cat([clips, torch.stack(cut)]), torch.cat([classes, real[1][chosen]])
    return clips, classes


def _loss(a: Tensor, v: Tensor, texts: Tensor, names: Tensor, config: SoundConfig) -> tuple[Tensor, dict]:
    """Eq. 4 between sounds and texts, sounds and pictures, pictures and texts, and the distance to the text features."""
    count = len(a)
    sound_text = info_nce(a, texts[:count], config.tau, names[:count])
    sound_picture = info_nce(a, v[:count], config.tau)
    picture_text = info_nce(v, texts, config.tau, names)
    distance = 2 - (a * texts[:count]).sum(1).mean() - (v * texts).sum(1).mean()
    loss = sound_text + 0.5 * sound_picture + picture_text + config.regression * distance
    parts = {
        "sound_text": sound_text,
        "sound_picture": sound_picture,
        "picture_text": picture_text,
        "distance": distance,
    }
    return loss, {name: float(value.detach()) for name, value in parts.items()}
