"""Trains the pocket CAVT-MAE: sounds and drawn pictures towards the pocket CLIP's text features, and towards each other.

Real recordings of ESC-10's folds 1-3 join the synthetic sounds where a folder of them is given. Some clips are mixtures of two
sounds; they belong to pictures with both things, and half to either word. The text features are those of the pictures' run
beside it, else of the weights that came with the pack.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...aai_models.align.losses import info_nce
from ...aai_models.audio.decode import decode_audio
from ...aai_models.audio.fbank import encoder_input
from ...aai_models.audio.windows import cut_windows
from ...aai_models.errors import TrainingError
from ...aai_models.files import write_atomically
from ...pocket.models.hearing import (
    CONFIG,
    HALF,
    KERNEL,
    MEL_ROWS,
    PERIOD,
    PERIOD_FRAMES,
    PocketCAVTMAE,
    build,
    encode_half,
    encode_period,
    full_kernel,
)
from ...pocket.world.captions import word_of
from ...pocket.world.names import ESC_10, NAMED, UNNAMED
from ...pocket.world.scene import draw, random_scene
from ...pocket.world.sounds import RATE, synthesise
from .diffusion import NUMBER, Model
from .pictures import SHAPES
from .runs import Budget, Machine, Run, Session, at_work
from .takes import audible_starts, augment, mix, some_patches
from .words import Words, end_columns, indices
from .workers import Workers

SECONDS = PERIOD_FRAMES / 100
LESSONS_AHEAD = 4  # whose pictures are being drawn
CLASSES = [*NAMED, *UNNAMED]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class SoundConfig:
    """Settings of the run."""

    seed: int = 0
    minutes: float = 85.0  # of one core, as the processor counts them
    batch: int = 56  # sounds
    pictures: int = 56  # of the batch's things
    shapes: int = 8  # pictures of random shapes
    fresh: float = 0.25  # share of pictures that are drawn anew
    most: int = 400  # drawings of a thing that are kept for the others
    rate: float = 1e-3
    clips: int = 64  # synthetic clips of each thing
    real: float = 0.5  # share of a batch that is recorded, where recordings are given
    tau: float = 0.05
    mixed: float = 0.15  # share of a batch that holds a second sound
    regression: float = 2.0  # weight of 1 - cosine to the text feature
    weight_decay: float = 0.1
    kept: float = (
        0.6  # share of the patches of each clip and picture that a step takes in (patchout, Koutini et al., 2022)
    )
    folds: tuple[int, ...] = (1, 2, 3)  # of ESC-10
    bf16: bool = True  # autocast


def spectrogram(wave: np.ndarray) -> Tensor:
    """2.56 s at 16 kHz -> normalised log-mel (256, 128) of the clip repeated for ever."""
    waveform = torch.from_numpy(wave)[None, None]
    return encoder_input(waveform, RATE, short_clip="tile")[0, :PERIOD_FRAMES]


def clips_of(config: SoundConfig, number: int) -> np.ndarray:
    """One spectrogram of each class (C, 256, 128) float16, each a function of the seed, the number and the class."""
    found = []
    for label, thing in enumerate(CLASSES):
        loudness = float(np.random.default_rng((config.seed, number, label)).random())
        found.append(spectrogram(synthesise(thing, loudness, 10_000 + number)).half())
    return torch.stack(found).numpy()


def synthetic_clips(config: SoundConfig, cache: Path, workers: Workers) -> tuple[Tensor, Tensor]:
    """Spectrograms (N, 256, 128) float16 and classes (N,), kept in a file for the next run."""
    path = cache / f"clips_{config.clips}_{config.seed}.pt"
    if path.is_file():
        stored = torch.load(path, weights_only=True)
        return stored["fbank"], stored["label"]
    found = list(workers.ahead(clips_of, ((config, number) for number in range(config.clips))))
    stored = {
        "fbank": torch.from_numpy(np.concatenate(found)),
        "label": torch.arange(len(CLASSES)).repeat(config.clips),
    }
    write_atomically(path, lambda part: torch.save(stored, part), TrainingError, "200 megabytes")
    return stored["fbank"], stored["label"]


def real_clips(
    folder: Path, folds: tuple[int, ...], frames: int = 480, loudest: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """ESC-10's recordings as spectrograms of their first `frames` (N, frames, 128), classes and folds.

    `loudest`: only the loudest so many seconds of each, repeated. The fold is the first number of a file's name, as
    ESC-50 publishes them; other folds than those asked for are not opened.
    """
    found, labels, of_fold = [], [], []
    for path in sorted(folder.rglob("*-*-*")):
        name = ESC_10.get(path.parent.name)
        fold = path.name.split("-")[0]
        if name is None or not fold.isdigit() or int(fold) not in folds:
            continue
        waveform, rate = decode_audio(path)
        if loudest:
            waveform = cut_windows(waveform.mean(0, keepdim=True), rate, round(loudest * rate), "loudest")
        window = encoder_input(waveform[None], rate, short_clip="tile", long_clip="first")[0]
        found.append(window[:frames].half())
        labels.append(CLASSES.index(name))
        of_fold.append(int(fold))
    return torch.stack(found), torch.tensor(labels), torch.tensor(of_fold)


def recorded(folder: Path, config: SoundConfig) -> tuple[Tensor, Tensor, list[np.ndarray]]:
    """The recordings of the run's folds (N, 480, 128), their classes (N,), and where their audible parts begin."""
    fbank, labels, _ = real_clips(folder, config.folds)
    return fbank, labels, audible_starts(fbank, PERIOD_FRAMES)


@torch.no_grad()
def text_features(words: Words, things: list[str]) -> Tensor:
    """The pocket CLIP's feature of each thing's bare word, the end token's state behind it, unit vectors (N, 768).

    The bare word, as in the paper's label prompts: it is what the bridge from features to words starts from.
    """
    rows = torch.tensor([indices(word_of(thing)) for thing in things])
    states = words(rows, torch.tensor([NUMBER.get(thing, 0) for thing in things]))
    return F.normalize(states[torch.arange(len(things)), end_columns(rows)].float(), dim=-1)


def picture_of(seed: tuple[int, ...], thing: str, second: str | None = None) -> np.ndarray:
    """A drawing of a thing, or of two (3, 112, 112) uint8, as the numbers of its seed decide."""
    scene = replace(random_scene(np.random.default_rng(seed), [thing]), second=second)
    drawn = torch.tensor(draw(scene)[0]).permute(2, 0, 1).float()
    return F.interpolate(drawn[None], size=(HALF, HALF), mode="bilinear", antialias=True)[0].round().byte().numpy()


def as_input(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in 0..255, ImageNet-normalised."""
    mean, std = (x.to(pictures.device).view(3, 1, 1) for x in (MEAN, STD))
    return (pictures.float() / 255 - mean) / std


class Gallery:
    """Drawings of each thing, some fresh in every batch and the others from before: drawing costs more than training."""

    def __init__(self, things: list[str], config: SoundConfig, workers: Workers):
        self.things, self.config, self.workers = things, config, workers
        self.kept: list[list[Callable[[], np.ndarray]]] = [[] for _ in things]

    def choose(self, seen: Tensor, step: int) -> list[Callable[[], np.ndarray]]:
        """A picture for each class and second class (P, 2) of a step, to be waited for; equal ones are one thing."""
        rng = np.random.default_rng((self.config.seed, 6, step))
        return [self._one(*both, rng, (self.config.seed, 7, step, place)) for place, both in enumerate(seen.tolist())]

    def _one(self, label: int, second: int, rng: np.random.Generator, seed: tuple[int, ...]):
        if second != label:
            return self.workers.submit(picture_of, seed, self.things[label], self.things[second])
        kept = self.kept[label]
        if not kept or (len(kept) < self.config.most and rng.random() < self.config.fresh):
            kept.append(self.workers.submit(picture_of, seed, self.things[label]))
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


@dataclass
class Lesson:
    """What one step learns from."""

    rng: np.random.Generator  # that of the step, for what is still to be drawn
    clips: Tensor  # (B, 256, 128)
    heard: Tensor  # classes in each clip (B, 2)
    seen: Tensor  # classes on each picture (P, 2)
    pictures: list[Callable[[], np.ndarray]]  # to be waited for


def lessons(config: SoundConfig, sounds, real, gallery: Gallery, step: int) -> Iterator[Lesson]:
    """Those of the steps from `step` on. With workers some are begun ahead, so that their pictures are drawn meanwhile."""

    def begin(step: int) -> Lesson:
        rng = np.random.default_rng((config.seed, 4, step))
        clips, heard = _mixed(*_clips(*sounds, real, config, rng), config, rng)
        shapes = len(CLASSES) + torch.from_numpy(rng.integers(len(SHAPES), size=config.shapes))
        seen = torch.cat([heard[: config.pictures], shapes[:, None].expand(-1, 2)])
        return Lesson(rng, clips, heard, seen, gallery.choose(seen, step))

    waiting: deque[Lesson] = deque()
    for number in itertools.count(step):
        waiting.append(begin(number))
        if len(waiting) > (LESSONS_AHEAD if gallery.workers.count else 0):
            yield waiting.popleft()


def train(config: SoundConfig, out: Path, recordings: Path | None = None, machine: Machine | None = None) -> Path:
    """Train or go on. Returns the file of the averaged weights. Ctrl-C finishes the step, saves and raises."""
    run, machine = Run(out, run_name(config.folds), config), machine or Machine()
    torch.manual_seed(config.seed)
    targets = text_features(_words(out), CLASSES + SHAPES).to(machine.device)
    real = recorded(recordings, config) if recordings else None
    model = Hearing().to(machine.device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=config.rate, weight_decay=config.weight_decay, betas=(0.9, 0.99), fused=True
    )
    with at_work(machine) as (workers, stop):
        sounds, gallery = synthetic_clips(config, out, workers), Gallery(CLASSES + SHAPES, config, workers)
        session, parts = Session(run, model, optimiser, Budget(config.minutes, clock=machine.clock), decay=0.995), {}
        course = lessons(config, sounds, real, gallery, session.step)
        while (share := session.budget.share) < 1 and not stop.asked:
            rate = session.budget.rate(config.rate, session.step, 40, flat=0.4, last=0.02, share=share)
            optimiser.param_groups[0]["lr"] = rate
            parts = _step(model, next(course), targets, config, machine, optimiser, trained)
            session.step += 1
            session.average.update(model, session.step)
            session.log(**parts)
            session.checkpoint()
        session.checkpoint(True)
    session.log(True, **parts)
    return run.finish(session.average.module.state())


def _step(model: Hearing, lesson: Lesson, targets: Tensor, config: SoundConfig, machine: Machine, optimiser, trained):
    """Train on a lesson -> the parts of its loss."""
    pictures = torch.from_numpy(np.stack([picture() for picture in lesson.pictures]))
    clips, pictures, heard, seen = (
        x.to(machine.device, non_blocking=True) for x in (lesson.clips, pictures, lesson.heard, lesson.seen)
    )

    def kept(batch: Tensor, patches: int) -> Tensor:
        return some_patches(len(batch), patches, config.kept, lesson.rng).to(machine.device)

    with machine.autocast(config.bf16):
        a = encode_period(model.towers, augment(clips, lesson.rng), kept(clips, MEL_ROWS * PERIOD))
        v = encode_half(model.towers, as_input(pictures), model.kernel, kept(pictures, CONFIG.image_tokens))
    loss, parts = _loss(a, v, heard, seen, targets, config)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    return parts


def trained_ear(config: SoundConfig, out: Path, recordings: Path | None = None) -> PocketCAVTMAE:
    """The ear of a run in `out`; trained now where there is none."""
    path = out / run_name(config.folds) / "weights.pt"
    if not path.is_file():
        train(config, out, recordings)
    return PocketCAVTMAE.from_state_dict(torch.load(path, weights_only=True))


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
        starts = [rng.choice(real[2][i]) for i in chosen.tolist()]
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
    return loss, {name: value.detach() for name, value in parts.items()}
