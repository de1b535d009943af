"""Trains the pocket CAVT-MAE: sounds and drawn pictures towards the pocket CLIP's text features, and towards each other.

Real recordings of ESC-10's folds 1-3 join the synthetic sounds where a folder of them is given. Some clips are mixtures of two
sounds; they belong to pictures with both things, and half to either word. The text features are those of the pictures' run
beside it, else of the weights that came with the pack.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...aai_models.align.cavt_mae import CAVTMAE
from ...aai_models.align.losses import info_nce
from ...aai_models.audio.decode import decode_audio
from ...aai_models.audio.fbank import FBANK_STD, encoder_input
from ...pocket.models.hearing import HALF, KERNEL, PERIOD_FRAMES, build, encode_half, encode_period, full_kernel
from ...pocket.world.captions import word_of
from ...pocket.world.names import ESC_10, NAMED, UNNAMED
from ...pocket.world.scene import draw, random_scene
from ...pocket.world.sounds import RATE, synthesise
from .diffusion import NUMBER, Model
from .pictures import SHAPES
from .runs import Average, Budget, Run
from .words import Words, end_columns, indices

SECONDS = PERIOD_FRAMES / 100
CLASSES = [*NAMED, *UNNAMED]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class SoundConfig:
    """Settings of the run."""

    seed: int = 0
    minutes: float = 32.0  # of one core, as the processor counts them
    batch: int = 56  # sounds
    pictures: int = 56  # of the batch's things
    shapes: int = 8  # pictures of random shapes
    fresh: float = 0.25  # share of pictures that are drawn anew
    most: int = 400  # drawings of a thing that are kept for the others
    rate: float = 1e-3
    clips: int = 64  # synthetic clips of each thing
    real: float = 0.25  # share of a batch that is recorded, where recordings are given
    tau: float = 0.05
    mixed: float = 0.15  # share of a batch that holds a second sound
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
def text_features(words: Words, things: list[str]) -> Tensor:
    """The pocket CLIP's feature of each thing's bare word, the end token's state behind it, unit vectors (N, 768).

    The bare word, as in the paper's label prompts: it is what the bridge from features to words starts from.
    """
    rows = torch.tensor([indices(word_of(thing)) for thing in things])
    states = words(rows, torch.tensor([NUMBER.get(thing, 0) for thing in things]))
    return F.normalize(states[torch.arange(len(things)), end_columns(rows)].float(), dim=-1)


def augment(fbank: Tensor, rng: np.random.Generator) -> Tensor:
    """Spectrograms (B, 256, 128) of another take: speed, pitch, level, start, microphone and noise differ, and now and then
    a band or a moment is lost."""
    count, frames, bands = fbank.shape

    def normal(spread: float) -> Tensor:
        return torch.from_numpy(rng.normal(0, spread, count).astype(np.float32))

    warp = torch.zeros(count, 2, 3)  # of (band, frame) in -1..1
    warp[:, 0, 0], warp[:, 0, 2] = normal(0.02).exp(), normal(0.02)
    warp[:, 1, 1] = normal(0.08).exp().clamp_max(1.0)
    grid = F.affine_grid(warp, [count, 1, frames, bands], align_corners=False)
    taken = F.grid_sample(fbank[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    starts = rng.integers(0, frames, count)
    taken = torch.stack([one.roll(int(start), 0) for one, start in zip(taken, starts, strict=True)])
    noise = torch.from_numpy(rng.random(fbank.shape, dtype=np.float32) * rng.random() / 10)
    taken += noise + normal(0.35).view(-1, 1, 1) + normal(0.15).view(-1, 1, 1) * torch.linspace(-1, 1, bands)
    lost = _strips(count, frames, 32, rng)[:, :, None] | _strips(count, bands, 12, rng)[:, None]
    return torch.where(lost, taken.mean((1, 2), keepdim=True), taken)


def _strips(count: int, length: int, widest: int, rng: np.random.Generator) -> Tensor:
    """In two of five rows of (count, length) a strip that is True."""
    first = rng.integers(0, length - widest, (count, 1))
    width = rng.integers(0, widest, (count, 1)) * (rng.random((count, 1)) < 0.4)
    place = np.arange(length)
    return torch.from_numpy((place >= first) & (place < first + width))


def mix(first: Tensor, second: Tensor, rng: np.random.Generator) -> Tensor:
    """Spectrograms (B, 256, 128) of sounds that are heard together, some 3 dB louder or quieter than each other: powers add."""
    level = torch.from_numpy(rng.normal(0, 0.7, len(first)).astype(np.float32)).view(-1, 1, 1)
    return torch.logaddexp(FBANK_STD * first, FBANK_STD * second + level) / FBANK_STD


def picture_of(thing: str, rng: np.random.Generator, second: str | None = None) -> Tensor:
    """A drawing of a thing, or of two (3, 112, 112) in 0..255."""
    scene = replace(random_scene(rng, [thing]), second=second)
    drawn = torch.tensor(draw(scene)[0]).permute(2, 0, 1).float()
    return F.interpolate(drawn[None], size=(HALF, HALF), mode="bilinear", antialias=True)[0]


def as_input(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in 0..255, ImageNet-normalised."""
    return (pictures.float() / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)


class Gallery:
    """Drawings of each thing, some fresh in every batch and the others from before: drawing costs more than training."""

    def __init__(self, things: list[str], config: SoundConfig):
        self.things, self.config = things, config
        self.kept: list[list[Tensor]] = [[] for _ in things]

    def batch(self, classes: list[int], seconds: list[int], rng: np.random.Generator) -> Tensor:
        """One picture for each class and second class (B, 3, 112, 112), ImageNet-normalised; equal ones are one thing."""
        return as_input(torch.stack([self._one(*both, rng) for both in zip(classes, seconds, strict=True)]))

    def _one(self, label: int, second: int, rng: np.random.Generator) -> Tensor:
        if second != label:
            return picture_of(self.things[label], rng, self.things[second]).round()
        kept = self.kept[label]
        if not kept or (len(kept) < self.config.most and rng.random() < self.config.fresh):
            kept.append(picture_of(self.things[label], rng).round().byte())
            return kept[-1]
        return kept[rng.integers(len(kept))]


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
        tensors[KERNEL] = full_kernel(self.kernel.detach())
        return tensors


def run_name(folds: tuple[int, ...]) -> str:
    """The folder of a run: `sounds`, or for less than all three folds a name that says so."""
    return "sounds" if folds == (1, 2, 3) else "sounds_folds_" + "_".join(map(str, folds))


def train(config: SoundConfig, out: Path, recordings: Path | None = None) -> Path:
    """Train or go on. Returns the file of the averaged weights."""
    run = Run(out, run_name(config.folds), config)
    torch.manual_seed(config.seed)
    targets = text_features(_words(out), CLASSES + SHAPES)
    fbank, labels = synthetic_clips(config, out)
    real = real_clips(recordings, config.folds) if recordings else None
    model, gallery = Hearing(), Gallery(CLASSES + SHAPES, config)
    average = Average(model, decay=0.995)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.rate, weight_decay=0.02, betas=(0.9, 0.99), fused=True)
    state, step, parts = run.load(), 0, {}
    if state:
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    budget = Budget(config.minutes, state["spent"] if state else 0.0, clock=time.process_time)

    def checkpoint(now: bool = False) -> None:
        tensors = {"model": model.state_dict(), "average": average.module.state_dict()}
        run.save(now, **tensors, optimiser=optimiser.state_dict(), step=step, spent=budget.spent)

    while budget.share < 1:
        rng = np.random.default_rng((config.seed, 4, step))
        optimiser.param_groups[0]["lr"] = budget.rate(config.rate, step, warm_up=40, flat=0.4, last=0.02)
        clips, heard = _mixed(*_clips(fbank, labels, real, config, rng), config, rng)
        shapes = len(CLASSES) + torch.from_numpy(rng.integers(len(SHAPES), size=config.shapes))
        seen = torch.cat([heard[: config.pictures], shapes[:, None].expand(-1, 2)])
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            a = encode_period(model.towers, augment(clips, rng))
            v = encode_half(model.towers, gallery.batch(*seen.T.tolist(), rng), model.kernel)
        loss, parts = _loss(a, v, heard, seen, targets, config)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        average.update(model, step)
        run.log(step=step, minutes=budget.spent / 60, **parts)
        checkpoint()
    checkpoint(True)
    run.log(True, step=step, minutes=budget.spent / 60, **parts)
    path = run.folder / "weights.pt"
    torch.save(average.module.state(), path)
    return path


def trained_ear(config: SoundConfig, out: Path, recordings: Path | None = None) -> CAVTMAE:
    """The ear of a run in `out`; trained now where there is none."""
    path = out / run_name(config.folds) / "weights.pt"
    if not path.is_file():
        train(config, out, recordings)
    return CAVTMAE.from_state_dict(torch.load(path, weights_only=True))


def _words(out: Path) -> Words:
    """Those of the pictures' run in `out`, else those that came with the pack."""
    trained = out / "pictures" / "weights.pt"
    if not trained.is_file():
        return Words.shipped()
    model = Model()
    model.load_state_dict(torch.load(trained, weights_only=True))
    return model.words


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


def _mixed(clips: Tensor, classes: Tensor, config: SoundConfig, rng) -> tuple[Tensor, Tensor]:
    """The first clips of a batch with the last ones heard too; all clips, and the classes in each (B, 2), equal for one."""
    count = round(config.mixed * len(clips))
    heard = classes[:, None].repeat(1, 2)
    if not count:
        return clips, heard
    heard[:count, 1] = classes[-count:]
    heard[:count] = heard[:count].sort(1).values  # a pair has no order
    return torch.cat([mix(clips[:count], clips[-count:], rng), clips[count:]]), heard


def _loss(a: Tensor, v: Tensor, heard: Tensor, seen: Tensor, targets: Tensor, config: SoundConfig):
    """(loss, its parts): Eq. 4 of sounds and pictures to all texts and to each other, and the distance to the texts.

    `a` (B, D) sounds in which `heard` (B, 2) is; `v` (P, D) pictures on which `seen` (P, 2) is, whose first
    `config.pictures` belong to the first sounds.
    """
    paired = config.pictures
    pair = heard[:, 0] * len(CLASSES) + heard[:, 1]
    parts = {"sound_picture": info_nce(a[:paired], v[:paired], config.tau, pair[:paired])}
    loss = 0.5 * parts["sound_picture"]
    # Against every class there is, not only those of the batch.
    for name, features, own in (("sound_text", a, heard), ("picture_text", v, seen)):
        logits = features @ targets.T / config.tau
        parts[name] = (F.cross_entropy(logits, own[:, 0]) + F.cross_entropy(logits, own[:, 1])) / 2
        distance = 1 - (features * F.normalize(targets[own].sum(1), dim=-1)).sum(1).mean()
        right = (logits.argmax(1, keepdim=True) == own).any(1)
        parts[f"{name}_distance"], parts[f"{name}_right"] = distance, right.float().mean()
        loss = loss + parts[name] + config.regression * distance
    return loss, {name: float(value.detach()) for name, value in parts.items()}
