"""Batch stylisation in the host: photos x sounds x scales, one finished file after the other."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import comfy.model_management as mm
import comfy.sample
import comfy.samplers
import comfy.utils
import folder_paths
import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from ....aai_models.adapt.token import AudioToken
from ....aai_models.align.images import open_picture
from ....aai_models.align.library import find_pictures
from ....aai_models.draw import contact_sheet
from ....aai_models.errors import EditError, ExplainedError
from ....aai_models.files import write_atomically
from ....aai_models.inject.batch import Job, Manifest, parse_scales, plan_jobs, table
from ..base import folders
from ..base.messages import tell
from ..base.prompt_words import encode
from ..hear.pictures import to_image, to_picture
from . import edits, loudness, photo, prompt_to_prompt
from .latents import branch_latent
from .sound_files import SoundFile

log = logging.getLogger(__name__)
SHEET_PICTURES = 64  # of a batch on its contact sheet
SHEET_SIDE = 192
SAMPLERS, SCHEDULERS = comfy.samplers.SAMPLER_NAMES, comfy.samplers.SCHEDULER_NAMES


@dataclass(frozen=True)
class StylizeConfig:
    """What every picture of a batch shares."""

    source_prompt: str  # what the photos show
    target_prompt: str  # the same in the style of <A*>
    negative_prompt: str
    method: str  # how a photo becomes a source, see photo.METHODS
    cross_end: float  # percent
    self_end: float  # percent
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    denoise: float
    seed: int
    longest_side: int  # pixels; larger photos are made smaller


@dataclass(frozen=True)
class Batch:
    """The outcome, for the node's outputs."""

    sheet: Tensor  # IMAGE
    report: str
    failures: dict[str, str]  # file -> reason


def stylize(model, clip, vae, words: dict[str, AudioToken | SoundFile], folder: str, scales: str, output: str,
            plan_only: bool, config: StylizeConfig) -> Batch:  # fmt: skip
    """Make what is missing of a batch. Each finished picture is recorded, so that a stopped batch goes on."""
    target = output_folder(output)
    jobs = plan_jobs(
        _photos(folder),
        {name: word.identity() if isinstance(word, SoundFile) else _hash_token(word) for name, word in words.items()},
        parse_scales(scales),
        {**asdict(config), "model": _model_name(model)},
    )
    manifest = Manifest(target)
    finished, failures = manifest.finished(), {}
    if not plan_only:
        renderer = Renderer(model, clip, vae, words, config)
        bar = comfy.utils.ProgressBar(len(jobs))
        for number, job in enumerate(jobs):
            mm.throw_exception_if_processing_interrupted()
            if job.identity not in finished:
                tell(f"{number + 1} of {len(jobs)}: {job.file}")
                _make(renderer, job, target, manifest, failures)
            bar.update_absolute(number + 1, len(jobs))
    report = "\n".join([table(jobs, manifest.finished()), *_failure_lines(failures)])
    return Batch(_sheet(target, jobs), report, failures)


def _make(renderer: Renderer, job: Job, target: Path, manifest: Manifest, failures: dict[str, str]) -> None:
    """One picture; whatever a photo or a sound does is noted and the batch goes on, a full disk ends it."""
    try:
        picture = renderer.render(job)
    except mm.InterruptProcessingException:
        raise
    except Exception as error:
        failures[job.file] = str(error) or type(error).__name__
        log.warning("%s: %s", job.file, error, exc_info=not isinstance(error, (ExplainedError, OSError)))
        mm.soft_empty_cache()
        return
    notes = PngImagePlugin.PngInfo()
    notes.add_text("aai", json.dumps({"sound": job.sound, "scale": job.scale, "photo": job.photo.name}))
    write_atomically(
        target / job.file, lambda path: picture.save(path, format="PNG", pnginfo=notes), EditError, "the picture"
    )
    manifest.add(job)


class Renderer:
    """Turns jobs into pictures with one model; prompts are encoded once a sound."""

    def __init__(self, model, clip, vae, words: dict[str, AudioToken | SoundFile], config: StylizeConfig):
        self._model = prompt_to_prompt.patched(loudness.patched(model))
        self._clip, self._vae, self._words, self._config = clip, vae, words, config
        self._source = photo.tagged(encode(clip, config.source_prompt, {}), config.method)
        self._negative = encode(clip, config.negative_prompt, {})
        self._targets: dict[str, list] = {}
        self._last: tuple[Path, Tensor] | None = None

    def render(self, job: Job) -> Image.Image:
        config, latent = self._config, self._latent(job.photo)
        target = loudness.scaled(self._target(job.sound), "<A*>", job.scale, 0.0, 1.0, "own")
        settings = edits.EditSettings(cross_end=config.cross_end, self_end=config.self_end)
        planned = edits.plan(self._source, [target], settings, 1)
        branches = branch_latent({"samples": latent}, 2)
        samples = branches["samples"]
        noise = comfy.sample.prepare_noise(samples, config.seed, branches["batch_index"])
        sampled = comfy.sample.sample(
            self._model, noise, config.steps, config.cfg, config.sampler, config.scheduler, planned, self._negative,
            samples, denoise=config.denoise, callback=_check_for_cancel, disable_pbar=True, seed=config.seed,
        )  # fmt: skip
        return to_picture(self._vae.decode(sampled[1:])[0])

    def _latent(self, path: Path) -> Tensor:
        if self._last is None or self._last[0] != path:
            picture = open_picture(path)
            picture.thumbnail((self._config.longest_side, self._config.longest_side), Image.Resampling.LANCZOS)
            self._last = path, photo.encode_photo(self._vae, to_image(picture))
        return self._last[1]

    def _target(self, sound: str) -> list:
        if sound not in self._targets:
            word = self._words[sound]
            word = word.word() if isinstance(word, SoundFile) else word
            self._targets[sound] = encode(self._clip, self._config.target_prompt, {1: word})
        return self._targets[sound]


def _check_for_cancel(step, x0, x, total) -> None:
    mm.throw_exception_if_processing_interrupted()


def name_words(
    tokens: list[AudioToken], names: list[str], recordings: dict[str, SoundFile]
) -> dict[str, AudioToken | SoundFile]:
    """Connected words by number, saved words by their names, recordings by theirs; raises `EditError` for none."""
    words: dict = {f"sound-{number}": token for number, token in enumerate(tokens, start=1)} | recordings
    for name in names:
        plain = folders.require_name(name.removeprefix("embedding:"))
        path = next((p for p in folders.token_paths(plain) if p.is_file()), None)
        if path is None:
            raise EditError(
                f"There is no saved word {plain!r}",
                "`saved_words` are names that Save Audio Token wrote, separated by commas",
                "Correct the name",
            )
        words[plain] = AudioToken.load(path)
    if not words:
        raise EditError(
            "There is no sound",
            "At least one word acts on the photos",
            "Connect audio_token, name saved_words, or name a folder of sounds",
        )
    return words


def output_folder(name: str) -> Path:
    """A folder below ComfyUI's output folder, whatever is written into `name`."""
    base = Path(folder_paths.get_output_directory()).resolve()
    path = (base / name.strip().replace("\0", "_")).resolve()
    if not name.strip() or (path != base and base not in path.parents):
        raise EditError(
            f"The output is {name!r}", "A folder below ComfyUI's output folder", "Write for instance `stylized`"
        )
    return path


def _photos(folder: str) -> dict[Path, str]:
    """Photos of a folder by name, each with what its content is known by."""
    path = folders.picture_folder(folder)
    photos = sorted(path / str(found[0]) for found in find_pictures(path))
    return {photo_path: _content(photo_path) for photo_path in photos}


def _content(path: Path) -> str:
    status = path.stat()
    return f"{path.name} {status.st_size} {status.st_mtime_ns}"


def _hash_token(token: AudioToken) -> str:
    digest = hashlib.sha256()
    for key, rows in sorted(token.vectors.items()):
        digest.update(key.encode() + rows.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _model_name(model) -> str:
    """Tells models of different weights apart as far as the host does: by a few of their numbers."""
    weights = next(iter(model.model.diffusion_model.parameters())).detach().flatten()[:64].float().cpu().numpy()
    patches = sorted(str(key) for key in getattr(model, "patches", {}))
    return hashlib.sha256(np.ascontiguousarray(weights).tobytes() + repr(patches).encode()).hexdigest()


def _failure_lines(failures: dict[str, str]) -> list[str]:
    return [f"failed: {file}: {reason}" for file, reason in failures.items()]


def _sheet(folder: Path, jobs: list[Job]) -> Tensor:
    """The first finished pictures of the batch; a grey tile where there are none."""
    tiles, captions = [], []
    for job in jobs:
        if len(tiles) < SHEET_PICTURES and (folder / job.file).is_file():
            with Image.open(folder / job.file) as picture:
                tiles.append(picture.convert("RGB"))
            captions.append(f"{job.photo.stem}  {job.sound}  x{job.scale:.2f}")
    if not tiles:
        return torch.full((1, SHEET_SIDE, SHEET_SIDE, 3), 0.5)
    return to_image(contact_sheet(tiles, captions, 8, SHEET_SIDE))
