"""Trains the pocket CAVT-MAE: sounds and drawn pictures towards the pocket CLIP's text features, and towards each other.

Real recordings of ESC-10's folds 1-3 join the synthetic sounds where a folder of them is given. The run may begin before
the pictures' has ended, against its last checkpoint; run again, it goes on from there against the final text features.
"""

from __future__ import annotations

import time
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
from ..world.captions import word_of
from ..world.names import ESC_10, NAMED, UNNAMED
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
    minutes: float = 5.0  # of one core, as the processor counts them
    batch: int = 56  # sounds
    pictures: int = 56  # of the batch's things
    shapes: int = 8  # pictures of random shapes
    rate: float = 1e-3
    clips: int = 64  # synthetic clips of each thing
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


def real_clips(folder: Path, folds: tuple[int, ...], frames: int = 480) -> tuple[Tensor, Tensor, Tensor]:
    """ESC-10's recordings as spectrograms of their first `frames` (N, frames, 128), classes and folds.

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
        found.append(window[:frames].half())
        labels.append(CLASSES.index(name))
        of_fold.append(int(fold))
    return torch.stack(found), torch.tensor(labels), torch.tensor(of_fold)


@torch.no_grad()
def text_features(model: Model, things: list[str]) -> Tensor:
    """The pocket CLIP's feature of each thing's bare word, the end token's state behind it, unit vectors (N, 768).

    The bare word, as in the paper's label prompts: it is what the bridge from features to words starts from.
    """
    rows = torch.tensor([indices(word_of(thing)) for thing in things])
    states = model.words(rows, torch.tensor([NUMBER.get(thing, 0) for thing in things]))
    return F.normalize(states[torch.arange(len(things)), end_columns(rows)].float(), dim=-1)


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
    """Train, from what a former run reached where there is one. Returns the file of the averaged weights."""
    run = Run(out, "sounds", config)
    torch.manual_seed(config.seed)
    targets = _targets(out)
    fbank, labels = synthetic_clips(config, out)
    real = real_clips(recordings, config.folds) if recordings else None
    model = Hearing()
    start = run.folder / "model.pt"
    if start.is_file():
        model.load_state_dict(torch.load(start, weights_only=True))
    average = Average(model, decay=0.99)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.rate, weight_decay=0.02, betas=(0.9, 0.99), fused=True)
    budget, step = Budget(config.minutes, clock=time.process_time), 0
    while budget.share < 1:
        rng = np.random.default_rng((config.seed, 4, step))
        optimiser.param_groups[0]["lr"] = budget.rate(config.rate, step, warm_up=40, flat=0.4, last=0.02)
        clips, classes = _clips(fbank, labels, real, config, rng)
        shapes = rng.integers(len(SHAPES), size=config.shapes)
        seen = torch.cat([classes[: config.pictures], len(CLASSES) + torch.from_numpy(shapes)])
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            a = encode_period(model.towers, augment(clips, rng))
            pictures = picture_batch([(CLASSES + SHAPES)[i] for i in seen.tolist()], rng)
            v = encode_half(model.towers, pictures, model.kernel)
        loss, parts = _loss(a, v, classes, seen, targets, config)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        average.update(model, step)
        run.log(step=step, minutes=budget.spent / 60, **parts)
    run.log(True, step=step, minutes=budget.spent / 60, **parts)
    torch.save(average.module.state_dict(), run.folder / "model.pt")
    path = run.folder / "weights.pt"
    torch.save(average.module.state(), path)
    return path


def _targets(out: Path) -> Tensor:
    """Text features of all classes and shapes (N, 768), of the finished pictures' run or of its last checkpoint."""
    model, final = Model(), out / "pictures" / "weights.pt"
    if final.is_file():
        model.load_state_dict(torch.load(final, weights_only=True))
    else:
        model.load_state_dict(torch.load(out / "pictures" / "state.pt", weights_only=True)["average"])
    return text_features(model, CLASSES + SHAPES)


def _clips(fbank: Tensor, labels: Tensor, real, config: SoundConfig, rng) -> tuple[Tensor, Tensor]:
    """A shuffled batch of synthetic and recorded spectrograms (B, 256, 128), and their classes."""
    count = round(config.real * config.batch) if real else 0
    chosen = torch.from_numpy(rng.integers(len(fbank), size=config.batch - count))
    clips, classes = fbank[chosen].float(), labels[chosen]
    if count:
        chosen = torch.from_numpy(rng.integers(len(real[0]), size=count))
        starts = rng.integers(0, real[0].shape[1] - PERIOD_FRAMES + 1, size=count)
        cut = [real[0][i, s : s + PERIOD_FRAMES].float() for i, s in zip(chosen.tolist(), starts, strict=True)]
        clips, classes = torch.cat([clips, torch.stack(cut)]), torch.cat([classes, real[1][chosen]])
    order = torch.from_numpy(rng.permutation(len(clips)))
    return clips[order], classes[order]


def _loss(a: Tensor, v: Tensor, classes: Tensor, seen: Tensor, targets: Tensor, config: SoundConfig):
    """(loss, its parts): Eq. 4 of sounds and pictures to all texts and to each other, and the distance to the texts.

    `a` (B, D) sounds of `classes`; `v` (P, D) pictures of `seen`, whose first `config.pictures` belong to the first sounds.
    """
    paired = config.pictures
    parts = {"sound_picture": info_nce(a[:paired], v[:paired], config.tau, classes[:paired])}
    loss = 0.5 * parts["sound_picture"]
    # Against every class there is, not only those of the batch.
    for name, features, own in (("sound_text", a, classes), ("picture_text", v, seen)):
        logits = features @ targets.T / config.tau
        parts[name] = F.cross_entropy(logits, own)
        distance = 1 - (features * targets[own]).sum(1).mean()
        parts[f"{name}_distance"], parts[f"{name}_right"] = distance, (logits.argmax(1) == own).float().mean()
        loss = loss + parts[name] + config.regression * distance
    return loss, {name: float(value.detach()) for name, value in parts.items()}
