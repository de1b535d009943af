"""Batch stylisation in the host: photos x sounds x scales, one finished file after the other."""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import comfy.model_management as mm
import comfy.sample
import comfy.samplers
import comfy.utils
import folder_paths
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from ....aai_models.align.images import open_picture
from ....aai_models.draw import contact_sheet
from ....aai_models.errors import EditError, ExplainedError
from ....aai_models.files import write_atomically
from ....aai_models.inject.batch import Job, parse_scales, plan_jobs, scale_text, table
from ....aai_models.inject.manifest import NOTE, Manifest
from ..adapt import embeddings
from ..base import folders
from ..base.digest import identify_clip, identify_model, identify_vae
from ..base.messages import tell_progress
from ..base.prompt_words import encode
from ..base.short_paths import without_paths
from ..hear.pictures import to_image, to_picture
from . import edits, loudness, photo, prompt_to_prompt
from .batch_words import CONNECTED, Unmade, Word, identity_of, origin_of, token_of
from .latents import branch_latent
from .photo_folder import find_photos

log = logging.getLogger(__name__)
VERSION = 2  # of how pictures are made: another number makes all of them anew
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


def stylize(model, clip, vae, words: dict[str, Word], folder: str, scales: str, output: str,
            plan_only: bool, config: StylizeConfig) -> Batch:  # fmt: skip
    """Make what is missing of a batch. Each finished picture is recorded, so that a stopped batch goes on.

    `plan_only` encodes no sound and loads no model.
    """
    target = output_folder(output)
    found = find_photos(folders.picture_folder(folder), target)
    settings, unknown = _settings(model, clip, vae, config)
    manifest = Manifest(target)
    identities = {name: identity_of(word) for name, word in words.items()}
    origins = {name: origin_of(word) for name, word in words.items()}
    if any(isinstance(word, Unmade) for word in words.values()):
        unknown.append(_suppose(manifest, words, identities, origins))
    jobs = manifest.place(plan_jobs(found.photos, identities, parse_scales(scales), settings, origins))
    failures: dict[str, str] = {}
    unreadable: dict[Path, str] = {}
    if not plan_only:
        renderer = Renderer(model, clip, vae, words, config)
        try:
            jobs = _make_all(renderer, jobs, target, manifest, failures, unreadable)
        finally:
            manifest.save()
    lines = [*unknown, table(jobs, manifest.finished), *_failure_lines(failures, unreadable), *found.lines()]
    return Batch(_sheet(target, jobs, manifest.finished), without_paths("\n".join(lines)), failures)


def _suppose(manifest: Manifest, words: dict[str, Word], identities: dict[str, str], origins: dict[str, str]) -> str:
    """Put the words of the last run in the place of a connected one that is not made, and say so."""
    last = manifest.last_words(CONNECTED)
    if not last:
        return "The connected word is not made for a plan: it counts as one sound, with all pictures still to make."
    for name in [name for name, word in words.items() if isinstance(word, Unmade)]:
        del identities[name], origins[name]
    identities.update(last)
    origins.update(last)  # a connected word has no other origin
    return "The connected word is not made for a plan: it is assumed to be that of the last run."


def _make_all(renderer: Renderer, jobs: list[Job], target: Path, manifest: Manifest, failures, unreadable) -> list[Job]:
    """Make what is not finished; the jobs with the names that their files got."""
    bar, made = comfy.utils.ProgressBar(len(jobs)), []
    for number, job in enumerate(jobs):
        mm.throw_exception_if_processing_interrupted()
        if job.file not in manifest.finished:
            tell_progress(f"{number + 1} of {len(jobs)}: {job.file}")
            job = _make(renderer, job, target, manifest, failures, unreadable)
        made.append(job)
        bar.update_absolute(number + 1, len(jobs))
    return made


def _make(renderer: Renderer, job: Job, target: Path, manifest: Manifest, failures, unreadable) -> Job:
    """One picture; whatever a photo or a sound does is noted and the batch goes on, a full disk ends it."""
    try:
        picture = renderer.render(job)
    except mm.InterruptProcessingException:
        raise
    except Exception as error:
        failures[job.file] = reason_of(error, job, unreadable)
        log.warning("%s: %s", job.file, error, exc_info=not isinstance(error, (ExplainedError, OSError)))
        mm.soft_empty_cache()
        return job
    job = manifest.claim(job)
    notes = PngImagePlugin.PngInfo()
    notes.add_text("aai", json.dumps({"sound": job.sound, "scale": job.scale, "photo": job.photo.name}))
    notes.add_text(NOTE, job.identity)
    write_atomically(
        target / job.file, lambda path: picture.save(path, format="PNG", pnginfo=notes), EditError, "the picture"
    )
    manifest.add(job)
    return job


def reason_of(error: Exception, job: Job, unreadable: dict[Path, str]) -> str:
    """Why there is no picture, and what to do. Photos that cannot be read are noted in `unreadable`."""
    if isinstance(error, ExplainedError):
        return str(error)
    if isinstance(error, UnreadablePhotoError):
        unreadable[job.photo] = str(error)
        return f"{error}. Open it in a picture viewer and save it as PNG or JPG, or take it out of the folder."
    if isinstance(error, mm.OOM_EXCEPTION):
        return (
            f"Out of memory ({error}). Lower `longest_side` or close other programs, then run again; "
            "finished pictures are kept."
        )
    told = str(error) or type(error).__name__
    return f"{told}. Run again; if it happens again, ComfyUI's log shows where."


class UnreadablePhotoError(OSError):
    """A file that is no picture."""


class Renderer:
    """Turns jobs into pictures with one model; prompts are encoded once a sound."""

    def __init__(self, model, clip, vae, words: dict[str, Word], config: StylizeConfig):
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
            try:
                picture = open_picture(path)
            except (OSError, ValueError) as error:
                raise UnreadablePhotoError(
                    f"{path.name} cannot be read ({str(error) or type(error).__name__})"
                ) from error
            picture.thumbnail((self._config.longest_side, self._config.longest_side), Image.Resampling.LANCZOS)
            self._last = path, photo.encode_photo(self._vae, to_image(picture))
        return self._last[1]

    def _target(self, sound: str) -> list:
        if sound not in self._targets:
            self._targets[sound] = encode(self._clip, self._config.target_prompt, {1: token_of(self._words[sound])})
        return self._targets[sound]


def _check_for_cancel(step, x0, x, total) -> None:
    mm.throw_exception_if_processing_interrupted()


def output_folder(name: str) -> Path:
    """A folder below ComfyUI's output folder, whatever is written into `name`."""
    base = Path(folder_paths.get_output_directory()).resolve()
    name = folders.unquoted(name).replace("\0", "_")
    path = (base / name).resolve()
    if not name or (path != base and base not in path.parents):
        raise EditError(
            f"The output is {name!r}",
            "It must be a folder below ComfyUI's output folder",
            "Write for instance `stylized`",
        )
    return path


def output_fingerprint(name: str | None) -> str:
    """Changes when a picture of a batch comes or goes, so that one that was deleted is made again."""
    try:
        return repr(sorted(path.name for path in output_folder(name or "").glob("*.png")))
    except (EditError, OSError):
        return ""


def _settings(model, clip, vae, config: StylizeConfig) -> tuple[dict, list[str]]:
    """What every picture of the batch depends on, and a sentence for each part that cannot be known: such a part is
    another one each time, so that its pictures are made anew."""
    parts = {"model": identify_model(model), "clip": identify_clip(clip), "vae": identify_vae(vae)}
    settings, told = {"version": VERSION, **asdict(config), "embeddings": embeddings.stamps(_prompts(config))}, []
    for name, identity in parts.items():
        settings[name] = identity.digest
        if identity.unknown:
            settings[name] = uuid.uuid4().hex
            told.append(
                f"The {name} has parts that cannot be compared with the last run ({', '.join(identity.unknown)}), so all "
                "pictures are made again at each run."
            )
    return settings, told


def _prompts(config: StylizeConfig) -> str:
    return " ".join((config.source_prompt, config.target_prompt, config.negative_prompt))


def _failure_lines(failures: dict[str, str], unreadable: dict[Path, str]) -> list[str]:
    lines = [f"failed: {file}: {reason}" for file, reason in failures.items()]
    if unreadable:
        count = Counter(path.suffix.lower() for path in unreadable)
        lines.append("photos that cannot be read: " + ", ".join(f"{n} {suffix}" for suffix, n in sorted(count.items())))
    return lines


def _sheet(folder: Path, jobs: list[Job], finished: set[str]) -> Tensor:
    """The first finished pictures of the batch; a grey tile where there are none."""
    tiles, captions = [], []
    for job in jobs:
        if len(tiles) == SHEET_PICTURES:
            break
        with contextlib.suppress(OSError, ValueError, SyntaxError):  # changed by another program since
            if job.file in finished:
                with Image.open(folder / job.file) as picture:
                    tiles.append(picture.convert("RGB"))
                captions.append(f"{job.photo.stem}  {job.sound}  x{scale_text(job.scale)}")
    if not tiles:
        return torch.full((1, SHEET_SIDE, SHEET_SIDE, 3), 0.5)
    return to_image(contact_sheet(tiles, captions, 8, SHEET_SIDE))
