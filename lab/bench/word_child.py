"""Words learned on the pocket models, by the pack and by diffusers' loop: prints a line of JSON.

    python word_child.py word|ablation|sheet ARGUMENTS_AS_JSON

Runs in a host's Python, whose working folder is a ComfyUI tree. The peer's steps are timed as its script makes them, with
the whole table of words in the optimiser; its path is then computed with the word's row alone, which is the same
arithmetic (the script puts all other rows back), and counted at the timed speed.
"""

from __future__ import annotations

import statistics
import time

from adapt_child import answer, timed

PROMPT = "a picture of a <A*>"
RATE, BATCH = 2e-3, 4  # README: 5e-4 --scale_lr with 4 accumulated steps of one picture each
PEER_LOOKS = (50, 100, 200, 400, 700)
TIMED = 6  # steps of the peer's own loop


class World:
    """The pocket models, five references of a thing, its sound, and drawings that nobody learns from."""

    def __init__(self, thing: str):
        import numpy as np
        import torch
        from aai_pack.nodes.host.base.types import AudioFeature
        from aai_pack.nodes.host.pocket import models
        from aai_pack.pocket.world.scene import draw, random_scene
        from aai_pack.pocket.world.sounds import RATE as HERTZ
        from aai_pack.pocket.world.sounds import synthesise

        with torch.inference_mode():
            self.model, self.clip, self.vae, ear, self.vision = models.load_pocket()
            wave = torch.from_numpy(synthesise(thing, 0.6, 1_000_123))[None, None]
            vectors, norms = ear.hear(wave, HERTZ, short_clip="tile")
            self.sounds = AudioFeature(vectors, norms=norms, aligned_with=ear.aligned_with)
        rng = np.random.default_rng(91)
        pictures = [draw(random_scene(rng, [thing]))[0] for _ in range(5 + 16)]
        pictures = [torch.from_numpy(p.copy()).float()[None] / 255 for p in pictures]
        self.references, self.unseen = pictures[:5], pictures[5:]
        self.models = (self.model, self.clip, self.vae)

    def latents(self, pictures, flip: bool = False):
        import torch
        from aai_pack.nodes.host.adapt import references

        with torch.inference_mode():
            found = references.encode_all(self.model, self.vae, [pictures], [], 128, flip).latents
        return found.clone()


class Exam:
    """Loss of a word on drawings and noise that no run has seen, and how often a judge sees the thing."""

    def __init__(self, world: World, thing: str, pictures: int):
        from pathlib import Path

        import torch
        from aai_pack.aai_models.adapt.objective import Draw, References
        from aai_pack.lab.scoreboard.artist import Artist
        from aai_pack.lab.scoreboard.board import load_judge
        from aai_pack.pocket.models import weights

        self.world, self.thing, self.count = world, thing, pictures
        sigmas = world.model.model.model_sampling.sigmas.float().cpu()
        draw = Draw(References(world.latents(world.unseen)), sigmas, (PROMPT,))
        self.samples = draw.held_out(64, torch.Generator().manual_seed(99))
        self.artist, self.judge = Artist(*weights.load()), load_judge(Path("/nowhere"))

    def loss(self, rows) -> float:
        """Mean of Eq. 6 for rows (n, 768)."""
        import torch
        from aai_pack.nodes.host.adapt.frozen import frozen
        from aai_pack.nodes.host.adapt.loss import DiffusionLoss

        with frozen(self.world.model, self.world.clip) as models, torch.no_grad():
            loss, vectors = DiffusionLoss(models), {"clip_l": rows}
            return statistics.fmean(float(loss(vectors, sample)) for sample in self.samples)

    def seen(self, rows) -> float:
        """Share of pictures of a single row (1, 768) in which the judge sees the thing."""
        from aai_pack.lab.training.judge_model import judge_pictures

        drawn = self.artist.paint(["a photo of a *"] * self.count, rows.expand(self.count, 1, -1), seed=31)
        return statistics.fmean(said == self.thing for said in judge_pictures(self.judge, drawn).thing)

    def mark(self, rows, seconds: float, step: int) -> dict:
        return {"step": step, "seconds": seconds, "loss": self.loss(rows), "rows": rows}


def ours(world: World, exam: Exam, preset: str) -> list[dict]:
    """What a preset has learned at its start, on the way, and at its end; seconds count from the click."""
    import torch
    from aai_pack.aai_models.adapt.config import from_preset
    from aai_pack.aai_models.adapt.trainer import AdapterTrainer
    from aai_pack.nodes.host.adapt import training

    marks, started = [], 0.0
    step = AdapterTrainer._train_one_step

    def watched(self):
        if self.step in (0, 25, 50, 100, 200):
            marks.append((self.step, time.process_time() - started, self.best.vectors["clip_l"].detach().clone()))
        return step(self)

    config = from_preset(preset, prompt=PROMPT, resolution=128)
    AdapterTrainer._train_one_step = watched
    try:
        with torch.inference_mode():
            started = time.process_time()
            done = training.train(*world.models, world.sounds, [world.references], config)
            marks.append((len(done.losses), time.process_time() - started, done.token.vectors["clip_l"]))
    finally:
        AdapterTrainer._train_one_step = step
    return [exam.mark(rows, seconds, number) for number, seconds, rows in marks]


def peer(world: World, exam: Exam) -> list[dict]:
    """The path of diffusers' textual_inversion.py at its documented settings, initialised with "thing"."""
    import torch
    from adapt_models import as_diffusers

    unet, text = as_diffusers(world.model, world.clip)
    unet.requires_grad_(False), text.requires_grad_(False)
    loop = Loop(world, unet, text)
    seconds = loop.timed(TIMED)
    text.resize_token_embeddings(49408)
    text.requires_grad_(False)
    rows, marks = loop.start.clone().requires_grad_(True), []
    optimizer = torch.optim.AdamW([rows], lr=RATE, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    for step in range(max(PEER_LOOKS) + 1):
        if step in PEER_LOOKS or not step:
            marks.append((step, rows.detach().clone()))
        loop.loss(BATCH, rows).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [exam.mark(found, seconds * step, step) for step, found in marks]


class Loop:
    """What a step of the peer computes."""

    def __init__(self, world: World, unet, text):
        import torch
        from aai_pack.aai_models.adapt.prompts import OBJECT_FRAMES
        from aai_pack.nodes.host.base.vocabulary import word_rows
        from diffusers import DDPMScheduler

        self.unet, self.text = unet, text
        self.latents = world.latents(world.references, flip=True)
        ends = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
        self.scheduler = DDPMScheduler(**ends)
        with torch.inference_mode():
            self.start = word_rows(world.clip, "thing")["clip_l"]
            sentences = [world.clip.tokenize(frame.format("thing"))["l"][0] for frame in OBJECT_FRAMES]
        self.start = self.start.clone()
        thing = world.clip.tokenizer.clip_l.tokenizer("thing")["input_ids"][1]
        ids = torch.tensor([[int(entry[0]) for entry in sentence] for sentence in sentences])
        self.ids = torch.where(ids == thing, 49408, ids)
        self.generator = torch.Generator().manual_seed(0)

    def loss(self, batch: int, rows=None):
        """The loss of `batch` pictures; the word's row from `rows` (1, 768), or from the text encoder's own table."""
        import torch
        import torch.nn.functional as F

        def pick(count):
            return torch.randint(0, count, (batch,), generator=self.generator)

        z, ids, t = self.latents[pick(len(self.latents))], self.ids[pick(len(self.ids))], pick(1000)
        noise = torch.randn(z.shape, generator=self.generator)
        table = self.text.get_input_embeddings()
        if rows is None:
            states = self.text(ids)[0]
        else:
            word = (ids == 49408).unsqueeze(-1)
            hook = table.register_forward_hook(lambda _, __, found: torch.where(word, rows, found))
            states = self.text(ids.clamp_max(49407))[0]
            hook.remove()
        noisy = self.scheduler.add_noise(z, noise, t)
        return F.mse_loss(self.unet(noisy, t, states).sample.float(), noise)

    def timed(self, count: int) -> float:
        """Seconds of a step as the script makes it: four passes, then AdamW on the table, all rows but one put back."""
        import torch

        self.text.resize_token_embeddings(49409)
        table = self.text.get_input_embeddings().weight
        table.requires_grad_(True)
        with torch.no_grad():
            table[49408] = self.start[0]
        optimizer = torch.optim.AdamW([table], lr=RATE, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
        original, others, seconds = table.data.clone(), torch.arange(49409) != 49408, []

        def step():
            for _ in range(BATCH):
                (self.loss(1) / BATCH).backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                table[others] = original[others]

        step = timed(step, seconds)
        for _ in range(count + 1):
            step()
        with torch.no_grad():
            table.copy_(original)
        table.requires_grad_(False)
        return statistics.median(seconds[1:])


def word(arguments: dict) -> dict:
    """Every side's way to a word of `arguments["thing"]`: side -> marks, and the seconds that the bridge took."""
    from aai_pack.nodes.host.adapt.bridge import bridge_of

    world = World(arguments["thing"])
    exam = Exam(world, arguments["thing"], arguments["pictures"])
    started = time.process_time()
    bridge_of(world.clip)
    found = {"bridge": time.process_time() - started, "runs": {}}
    sides = {"quick": lambda: ours(world, exam, "quick"), "quality": lambda: ours(world, exam, "quality")}
    for name, run in {**sides, "peer": lambda: peer(world, exam)}.items():
        marks = run()
        for mark in (marks[0], marks[-1]):
            mark["seen"] = exam.seen(mark["rows"])
        found["runs"][name] = [{k: v for k, v in mark.items() if k != "rows"} for mark in marks]
    return found


def ablation(arguments: dict) -> dict:
    """Loss on drawings and noise that no run has seen, and the sound's share, for each of `arguments["runs"]`."""
    import torch
    from aai_pack.aai_models.adapt.config import AdaptConfig
    from aai_pack.nodes.host.adapt import training

    world, found = World(arguments["thing"]), {}
    exam = Exam(world, arguments["thing"], 0)
    for name, settings in arguments["runs"]:
        settings = dict(settings)
        shown = settings.pop("shown", 5)
        config = AdaptConfig(prompt=PROMPT, resolution=128, **settings)
        with torch.inference_mode():
            shown = [world.references[:shown]]
            done = training.train(*world.models, world.sounds, shown, config, vision=world.vision)
        share = done.report.sound_share["clip_l"]
        found.setdefault(name, []).append([exam.loss(done.token.vectors["clip_l"]), share])
    return found


def sheet(arguments: dict) -> dict:
    """The final sheet of a training with previews, as a picture file."""
    import torch
    from aai_pack.aai_models.adapt.config import from_preset
    from aai_pack.nodes.host.adapt import training
    from aai_pack.nodes.host.adapt.preview import Options
    from PIL import Image

    world, options = World(arguments["thing"]), Options(preview_every=50, preview_steps=12)
    config = from_preset("quality", prompt=PROMPT, resolution=128, steps=200)
    with torch.inference_mode():
        done = training.train(*world.models, world.sounds, [world.references], config, options=options)
    drawn = Image.fromarray((done.sheet[0] * 255).round().byte().numpy())
    drawn.quantize(192).save(arguments["path"], optimize=True)
    return {"report": done.report.text()}


if __name__ == "__main__":
    answer(word, ablation, sheet)
