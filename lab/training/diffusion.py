"""Trains the UNet and the text encoder together on latents of drawings and their captions; then the UNet further.

Besides the noise, the text's end state learns to tell its own picture from the batch's others (CLIP's loss), so that
sounds have something to be aligned with. Afterwards the words stay as they are, and the UNet goes on with pictures most
of which hold two things; and then with styles that have no word, with ever new shapes, and with words that are a little off,
as those of sounds are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...pocket.models import weights
from ...pocket.models.autoencoder import Autoencoder
from ...pocket.models.text import WIDTH, key_bias
from ...pocket.models.unet import UNet
from ...pocket.world.captions import caption
from ...pocket.world.grammar import shape_number
from ...pocket.world.scene import Scene, draw
from .glance import Glance, portraits_of
from .pictures import RANDOM_STYLES, to_tensor, to_uint8, training_scene
from .runs import STOPPED, Budget, Machine, Run, Session, Stop, Team, at_work
from .sampling import alphas_bar, guided, sample
from .words import HIDDEN, Words, end_columns, indices
from .workers import Workers

NUMBER = {name: number for number, name in enumerate(HIDDEN)}
PIECE = 16  # drawings that a worker makes at a time
STYLE_NUMBER = {name: number for number, name in enumerate(RANDOM_STYLES)}


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings of the run."""

    run: str = "pictures"  # the name of its folder
    seed: int = 0
    minutes: float = 65.0  # of one core
    batch: int = 32
    rate: float = 8e-4  # AdamW's learning rate at its peak
    snr: float = 5.0  # min-SNR's bound
    contrast: float = 0.05  # weight of CLIP's loss
    temperature: float = 0.07  # of CLIP's loss
    hide_end: float = 0.6  # share of captions whose end token the UNet does not see
    first: int = 4096  # drawings encoded before the first step
    fresh: int = 8  # further ones a step
    most: int = 60000  # drawings kept
    bf16: bool = True  # autocast
    second: float = 0.25  # share of the pictures of named things that hold a second one
    styled: float = 0.0  # share of the pictures in a random style; their rows of words are then trained too
    unnumbered: float = 0.0  # share of the pictures of a shape without a number, whose row `Glance` reads from it
    disturbed: float = 0.0  # share of the captions whose words are off
    furthest: float = 0.7  # how far off, in sizes of a word
    stream: int = 1  # of the random numbers that decide the drawings
    begins_with: str = ""  # the run whose averaged weights it starts from; the words then stay as they are


@dataclass(frozen=True)
class PairsConfig(DiffusionConfig):
    """Settings of the second run."""

    run: str = "pairs"
    minutes: float = 45.0
    rate: float = 5e-4
    contrast: float = 0.0
    second: float = 0.6
    stream: int = 3
    begins_with: str = "pictures"


@dataclass(frozen=True)
class StylesConfig(PairsConfig):
    """Settings of the third run."""

    run: str = "styles"
    minutes: float = 50.0
    styled: float = 0.3
    unnumbered: float = 0.2
    disturbed: float = 0.3
    stream: int = 5
    begins_with: str = "pairs"


class PictureHead(nn.Module):
    """Latents (B, 4, 16, 16) -> features (B, 768), for CLIP's loss alone."""

    def __init__(self):
        super().__init__()
        layers = []
        for n_in, n_out, stride in ((4, 48, 1), (48, 96, 2), (96, 128, 2)):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1), nn.GroupNorm(8, n_out), nn.SiLU()]
        self.body, self.out = nn.Sequential(*layers), nn.Linear(128 * 16, WIDTH)

    def forward(self, latents: Tensor) -> Tensor:
        return self.out(self.body(latents).flatten(1))


class Model(nn.Module):
    """Everything that this run trains."""

    def __init__(self):
        super().__init__()
        self.unet, self.words, self.head, self.glance = UNet(), Words(), PictureHead(), Glance()


class Batch(NamedTuple):
    """What one step learns from."""

    latents: Tensor  # (B, 4, 16, 16)
    rows: Tensor  # indices of the captions' words (B, L)
    thing: Tensor  # numbers of things without a word (B,)
    style: Tensor  # numbers of random styles (B,)
    unnumbered: Tensor  # which pictures (U,) are of shapes without a number
    portraits: Tensor  # of those shapes (U, 3, 32, 32) uint8
    ends: Tensor  # columns of the captions' end tokens (B,)
    told: Tensor  # which captions (T,) are not empty

    def to(self, device: torch.device) -> Batch:
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class Drawn(NamedTuple):
    """One drawing."""

    scene: Scene
    picture: np.ndarray  # (128, 128, 3) uint8
    portrait: Tensor | None  # of a shape without a number (3, 32, 32) uint8


def drawings(config: DiffusionConfig, numbers: range) -> list[Drawn]:
    """The drawings of these numbers, each a function of the seed and its number."""
    found = []
    for number in numbers:
        rng = np.random.default_rng((config.seed, config.stream, number))
        scene = training_scene(rng, config.second, config.styled, config.unnumbered)
        portrait = portraits_of([scene.thing])[0] if is_unnumbered(scene.thing) else None
        found.append(Drawn(scene, draw(scene)[0], portrait))
    return found


class Pool:
    """Drawings as latents; drawing i is a function of the seed and i. Each process of a team holds every n-th."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        config: DiffusionConfig,
        team: Team,
        first: int = 0,
        machine: Machine | None = None,
        workers: Workers | None = None,
    ):
        self.machine = machine or Machine()
        self.autoencoder, self.config, self.team = autoencoder.to(self.machine.device), config, team
        shape = (config.most // team.size, 4, 16, 16)
        self.latents = torch.empty(shape, dtype=torch.float16, device=self.machine.device)
        self.scenes: list[Scene] = []
        self.portraits: list[Tensor | None] = []
        numbers = range(first + team.rank, first + team.rank + len(self.latents) * team.size, team.size)
        pieces = ((config, numbers[start : start + PIECE]) for start in range(0, len(numbers), PIECE))
        self._drawn = chain.from_iterable((workers or Workers()).ahead(drawings, pieces))

    @torch.no_grad()
    def grow(self, count: int) -> None:
        """Draw so many more, as far as there is room."""
        held = len(self.scenes)
        drawn = list(islice(self._drawn, count))
        if not drawn:
            return
        pictures = to_tensor(np.stack([one.picture for one in drawn]), self.machine.device)
        with self.machine.autocast(self.config.bf16):
            encoded = self.autoencoder.encoder(pictures)
        self.latents[held : held + len(drawn)] = encoded.half()
        self.scenes += [one.scene for one in drawn]
        self.portraits += [one.portrait for one in drawn]

    def batch(self, rng: np.random.Generator) -> Batch:
        """What a step learns from; the latents lie on the device, all else on the CPU."""
        chosen = rng.integers(len(self.scenes), size=self.config.batch // self.team.size)
        scenes = [self.scenes[i] for i in chosen]
        rows = torch.tensor([indices(caption(scene, rng)) for scene in scenes])
        ends = end_columns(rows)
        rows = rows[:, : int(ends.max()) + 2]  # the longest caption and one empty column
        hidden = torch.tensor([NUMBER.get(scene.thing, 0) for scene in scenes])
        style = torch.tensor([STYLE_NUMBER.get(scene.style, 0) for scene in scenes])
        portraits = {place: self.portraits[i] for place, i in enumerate(chosen) if self.portraits[i] is not None}
        unnumbered = torch.tensor(list(portraits), dtype=torch.long)
        seen = torch.stack(list(portraits.values())) if portraits else portraits_of([])
        latents = self.latents[torch.from_numpy(chosen).to(self.latents.device)].float()
        told = (ends > 1).nonzero().flatten()  # an empty caption has no picture of its own
        return Batch(latents, rows, hidden, style, unnumbered, seen, ends, told)


def is_unnumbered(thing: str | None) -> bool:
    """Whether a thing is a shape without a row of its own."""
    return thing is not None and shape_number(thing) is not None and thing not in NUMBER


def embed(
    model: Model, rows: Tensor, batch: Batch, config: DiffusionConfig, generator: torch.Generator | None
) -> Tensor:
    """The words of captions (B, L, 768), some of them off in a drawn direction."""
    thing = model.words.hidden[batch.thing]
    if len(batch.unnumbered):
        thing = thing.index_put((batch.unnumbered,), model.glance(batch.portraits))
    embedded = model.words.embed(rows, thing, model.words.styles[batch.style])
    if not config.disturbed:
        return embedded
    chance = {"generator": generator, "device": rows.device}
    far = config.furthest * torch.rand(rows.shape, **chance)
    is_word = (rows < 0) | (rows > 1)  # 0 is the start, 1 the end
    off = is_word & (torch.rand(len(rows), 1, **chance) < config.disturbed)
    drawn = F.normalize(torch.randn(embedded.shape, **chance), dim=-1)
    size = embedded.detach().norm(dim=-1)
    return embedded + (off * far * size).unsqueeze(-1) * drawn


def loss_of(
    model: Model, batch: Batch, bar: Tensor, config: DiffusionConfig, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, noise error, CLIP's loss) of a batch, with everything on one device."""
    latents, rows, ends = batch.latents, batch.rows, batch.ends
    chance = {"generator": generator, "device": latents.device}
    timesteps = torch.randint(0, len(bar), (len(latents),), **chance)
    noise = torch.randn(latents.shape, **chance)
    level = bar[timesteps].view(-1, 1, 1, 1)
    states = model.words.states(embed(model, rows, batch, config, generator), rows)
    # The end token knows the whole caption. It is hidden often, so that the words are read and not their summary.
    shown = torch.rand(len(ends), **chance) >= config.hide_end
    columns = torch.arange(rows.shape[1], device=rows.device)
    context = states * (shown[:, None] | (columns != ends[:, None])).unsqueeze(-1)
    noisy = level.sqrt() * latents + (1 - level).sqrt() * noise
    predicted = model.unet(noisy, timesteps, context, key_bias(rows.shape[1], rows.device))
    snr = level / (1 - level)
    error = ((predicted.float() - noise).square() * (snr.clamp_max(config.snr) / snr)).mean()
    text = F.normalize(states[batch.told, ends[batch.told]].float(), dim=-1)
    picture = F.normalize(model.head(latents[batch.told]).float(), dim=-1)
    logits = text @ picture.T / config.temperature
    target = torch.arange(len(logits), device=logits.device)
    contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return error + config.contrast * contrast, error, contrast


def load_autoencoder(out: Path) -> Autoencoder:
    """That of the run in `out`, else the one that came with the pack."""
    path, autoencoder = out / "autoencoder" / "weights.pt", Autoencoder()
    autoencoder.load_state_dict(torch.load(path, weights_only=True) if path.is_file() else weights.load()[0]["vae"])
    return autoencoder.eval().requires_grad_(False)


def load_model(out: Path, run: str) -> Model:
    """The averaged weights of a run in `out`, else those that came with the pack."""
    path, model = out / run / "weights.pt", Model()
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        model.unet.load_state_dict(weights.load()[0]["unet"])
        model.words = Words.shipped()
    return model


@torch.no_grad()
def paint(
    model: Model, autoencoder: Autoencoder, texts: list[str], hidden: list[int] | None = None, **settings
) -> np.ndarray:
    """Pictures (B, 128, 128, 3) uint8 of captions; settings: seed, steps, scale (of guidance)."""
    rows = torch.tensor([indices(text) for text in [*texts, ""]])
    states = model.words(rows, torch.tensor([*(hidden or [0] * len(texts)), 0]))
    denoise = guided(model.unet, states[:-1], states[-1:], key_bias(), settings.get("scale", 5.0))
    generator = torch.Generator().manual_seed(settings.get("seed", 0))
    latents = sample(denoise, (len(texts), 4, 16, 16), generator, settings.get("steps", 16))
    return to_uint8(autoencoder.decoder(latents))


def begin(config: DiffusionConfig, out: Path) -> Model:
    """The model that a run starts with; what the run leaves as it is has no gradient."""
    torch.manual_seed(config.seed)
    model = load_model(out, config.begins_with) if config.begins_with else Model()
    if config.begins_with:
        model.words.requires_grad_(False)
        model.head.requires_grad_(False)
    model.words.styles.requires_grad_(config.styled > 0)
    model.glance.requires_grad_(config.unnumbered > 0)
    return model


def train(config: DiffusionConfig, out: Path, machine: Machine | None = None) -> Path:
    """Train or go on, alone or in a team; returns the file of the averaged weights.

    A run that goes on draws new pictures from where the former one stopped. Ctrl-C finishes the step, saves and raises.
    """
    machine = machine or Machine()
    run = Run(out, config.run, config)
    model = begin(config, out).to(machine.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    session = Session(run, model, optimiser, Budget(config.minutes))
    drawn = config.first + config.fresh * session.step if session.step else 0
    with Team(machine) as team, at_work(machine) as (workers, stop):
        pool = Pool(load_autoencoder(out), config, team, drawn, machine, workers)
        while len(pool.scenes) < min(config.most, config.first) // team.size and not stop.asked:
            pool.grow(min(256, config.first))
        _train_steps(session, pool, parameters, stop)
        if team.leads:
            session.checkpoint(True)
    return run.finish(session.average.module.state_dict()) if team.leads else run.folder / "weights.pt"


def _train_steps(session: Session, pool: Pool, parameters: list[nn.Parameter], stop: Stop) -> None:
    """Until the time is spent, or the leader is asked to stop."""
    config, machine, team, model = pool.config, pool.machine, pool.team, session.model
    bar, share = alphas_bar().to(machine.device), session.budget.share
    if stop.asked:
        share = STOPPED
    while share < 1:
        step = session.step
        generator = machine.generator((config.seed * 1_000_003 + step) * team.size + team.rank)
        batch = pool.batch(np.random.default_rng((config.seed, 2, step, team.rank))).to(machine.device)
        session.optimiser.param_groups[0]["lr"] = session.budget.rate(config.rate, step, share=share)
        with machine.autocast(config.bf16):
            loss, error, contrast = loss_of(model, batch, bar, config, generator)
        session.optimiser.zero_grad()
        loss.backward()
        share = team.agree(parameters, STOPPED if stop.asked else session.budget.share)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        session.optimiser.step()
        session.step += 1
        pool.grow(config.fresh // team.size)
        if team.leads:
            session.average.update(model, session.step)
            session.log(images=session.step * config.batch, error=error.detach(), contrast=contrast.detach())
            session.checkpoint()
    stop.asked = stop.asked or share >= STOPPED
