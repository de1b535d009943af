"""Judges an audio encoder: retrieval (Table 1), zero-shot classification (Tables 2 and 3), a linear probe, and baselines."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...audio.decode import decode_audio
from ...audio.errors import AudioError
from ...audio.fbank import encoder_input
from ...errors import DataError
from ...files import read_header
from ..cavt_mae import CAVTMAE
from ..config import PRESETS, AlignConfig
from ..convert import read_state_dict
from ..data.shards import Note, ShardSet
from ..encoders import CAVTEncoder, TransformersEncoder
from ..images import image_input
from ..metrics import Retrieval, accuracy, linear_probe, retrieval, subset_rows
from ..momentum import PictureHead
from ..texts import TextEncoder, class_texts
from ..train.run_file import read_head

BATCH = 16
SUBSETS = {"5 per class": 5, "10 per class": 10, "all": None}
STARTED = re.compile(r"_\d{6}$")  # VGGSound: the second at which a clip begins
STYLES = ("label", "laion", "languagebind", "ensemble")


@dataclass
class Judged:
    """An encoder as the evaluation uses it."""

    encoder: CAVTEncoder | TransformersEncoder
    config: AlignConfig  # how sounds are prepared and which picture of a clip is used
    head: PictureHead | None = None
    trained_on: str = ""

    @classmethod
    def open(cls, path: Path) -> Judged:
        """A CAVT-MAE file with the config that it was trained with (the paper's where there is none), or a folder of
        `transformers`. Raises `CheckpointError`."""
        if path.is_dir():
            return cls(TransformersEncoder.from_folder(path), PRESETS["quality"])
        model = CAVTMAE.from_state_dict({name: t.float() for name, t in read_state_dict(path).items()})
        header = read_header(path) if path.suffix == ".safetensors" else {}
        config = AlignConfig.from_json(header["config"]) if "config" in header else PRESETS["paper"]
        judged = cls(CAVTEncoder(model, path.stem), config, trained_on=header.get("data", ""))
        if path.suffix == ".safetensors" and (tensors := read_head(path)):
            judged.head = PictureHead(model.config.dim)
            judged.head.load_state_dict({name: t.float() for name, t in tensors.items()})
        return judged

    def untrained(self, seed: int = 0) -> Judged | None:
        """The same towers with random weights; None for encoders that are not ours."""
        if not isinstance(self.encoder, CAVTEncoder):
            return None
        model = CAVTMAE.fresh(self.encoder.model.config, seed)
        return Judged(CAVTEncoder(model, "untrained tower"), self.config).to(self.device)

    def to(self, device: torch.device) -> Judged:
        """Compute there from now on."""
        self.encoder.model.to(device)
        if self.head is not None:
            self.head.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return next(self.encoder.model.parameters()).device

    @torch.inference_mode()
    def hear(self, sounds: list[tuple[Tensor, int]]) -> Tensor:
        """Sounds ((C, T), Hz) -> unit vectors (N, D)."""
        policies = self.config.sound_policies()
        if not isinstance(self.encoder, CAVTEncoder) or policies["long_clip"] == "mean_of_windows":
            return torch.cat([self.encoder.encode(wave[None], rate, **policies) for wave, rate in sounds])
        fbank = torch.cat([encoder_input(wave[None], rate, **policies) for wave, rate in sounds])
        return self.encoder.model.encode_audio(fbank.to(self.device)).cpu()

    @torch.inference_mode()
    def see(self, pixels: Tensor) -> Tensor:
        """(N, 3, 224, 224) -> unit vectors (N, D)."""
        features = self.encoder.model.encode_image(pixels.to(self.device))
        return (features if self.head is None else self.head(features)).cpu()


@dataclass
class SetFeatures:
    """Features of a split's sounds and pictures."""

    audio: Tensor  # (N, D)
    pictures: Tensor | None  # (N, D), rows of clips without one are zero
    seen: Tensor  # (N,) bool
    notes: list[Note]
    skipped: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        return [note.label for note in self.notes]


def encode_set(
    judged: Judged, shards: ShardSet, split: str, progress: Callable[[int, int], None] | None = None
) -> SetFeatures:
    """Encode every clip of a split and the picture that stands for it. Raises `DataError` if none can be heard."""
    audio, pictures, notes, skipped = [], [], [], []
    total = shards.index["splits"].get(split, {}).get("clips", 0)
    with_pictures = judged.encoder.has_images and shards.index["pictures_per_clip"] > 0
    for batch in _batches(shards.raw(split)):
        heard = []
        for raw in batch:
            try:
                picture = _picture(raw, judged.config) if with_pictures else None
                heard.append((raw["note"], decode_audio(io.BytesIO(raw["sound"])), picture))
            except (AudioError, OSError, ValueError) as error:
                skipped.append(f"clip {raw['note'].id}: {error}")
        if heard:
            audio.append(judged.hear([sound for _, sound, _ in heard]))
            pictures += _see(judged, [picture for *_, picture in heard]) if with_pictures else [None] * len(heard)
            notes += [note for note, *_ in heard]
        if progress:
            progress(len(notes) + len(skipped), total)
    if not notes:
        raise DataError(f"No clip of the split {split!r} could be read", "An evaluation needs some", "Prepare it again")
    features = torch.cat(audio)
    empty = torch.zeros(features.shape[1])
    seen = torch.tensor([picture is not None for picture in pictures])
    shown = torch.stack([empty if p is None else p for p in pictures]) if bool(seen.any()) else None
    return SetFeatures(features, shown, seen, notes, skipped + shards.damaged)


def _batches(raw: Iterator[dict]) -> Iterator[list[dict]]:
    batch: list[dict] = []
    for clip in raw:
        batch.append(clip)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _picture(raw: dict, config: AlignConfig) -> Tensor | None:
    if not raw["pictures"]:
        return None
    data = raw["pictures"][raw["note"].test_picture(config.test_frame)]
    return image_input(Image.open(io.BytesIO(data)))


def _see(judged: Judged, pixels: list[Tensor | None]) -> list[Tensor | None]:
    there = [one for one in pixels if one is not None]
    features = iter(judged.see(torch.stack(there)) if there else ())
    return [None if one is None else next(features) for one in pixels]


@dataclass
class RetrievalRow:
    """One subset of Table 1."""

    subset: str
    to_picture: Retrieval
    to_sound: Retrieval


def read_list(path: Path) -> set[str]:
    """The ids of a list of clips: CAV-MAE's json (`data`, each with `video_id`), or one id at the beginning of each line.

    Raises `DataError` for what is neither.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return {str(clip["video_id"]) for clip in json.loads(text)["data"]}
        return {line.split(",")[0].strip() for line in text.splitlines() if line.strip()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a list of clips ({type(error).__name__}: {error})",
            "It must be JSON with `data`, a list of objects with `video_id`, or text with one id on each line",
        ) from None


def table_1(features: SetFeatures, seed: int = 0, listed: set[str] | None = None) -> list[RetrievalRow]:
    """Retrieval at 5, 10 and all clips per class, both directions; subsets are drawn by the seed.

    `listed`: ids of one more subset, with or without VGGSound's `_` and start behind them. Raises `DataError` if none is
    here.
    """
    if features.pictures is None:
        return []
    there = features.seen.nonzero().flatten()
    labels = [features.labels[n] for n in there.tolist()]
    rows = []
    for name, per_class in SUBSETS.items():
        chosen = there[subset_rows(labels, per_class, seed)]
        rows.append(RetrievalRow(name, *retrieval(features.audio[chosen], features.pictures[chosen])))
    if listed is not None:
        ids = [(features.notes[n].id, n) for n in there.tolist()]
        chosen = torch.tensor([n for id, n in ids if id in listed or STARTED.sub("", id) in listed], dtype=torch.int64)
        if not len(chosen):
            raise DataError(
                f"None of the {len(listed)} clips of the list is in this split",
                f"Ids here look like {ids[0][0]}",
                "Choose another list or --split",
            )
        rows.append(RetrievalRow("list", *retrieval(features.audio[chosen], features.pictures[chosen])))
    return rows


def chance(count: int) -> Retrieval:
    """What guessing reaches among `count` pairs."""
    return Retrieval(*(100 * min(1.0, k / count) for k in (1, 5, 10)), (count + 1) / 2, 0.0, count)


@dataclass
class Classification:
    """One line of Table 2. In percent."""

    style: str  # of the prompt
    all_clips: float
    folds: dict[int, float]

    @property
    def fold_mean(self) -> float:
        return sum(self.folds.values()) / len(self.folds)

    @property
    def fold_spread(self) -> float:
        """Standard deviation over the folds (of a sample); 0 for one."""
        return float(torch.tensor(list(self.folds.values())).std()) if len(self.folds) > 1 else 0.0


def table_2(features: SetFeatures, texts: TextEncoder, classes: list[str]) -> list[Classification]:
    """Zero-shot accuracy: the nearest of the classes' texts, for each prompt style, over all clips and for each fold."""
    numbers = {label: n for n, label in enumerate(classes)}
    labels = torch.tensor([numbers[label] for label in features.labels])
    folds = torch.tensor([note.fold for note in features.notes])
    rows = []
    for style in STYLES:
        right = accuracy(features.audio, class_texts(texts, classes, style), labels)
        by_fold = {fold: 100 * float(right[folds == fold].mean()) for fold in sorted(set(folds.tolist()))}
        rows.append(Classification(style, 100 * float(right.mean()), by_fold))
    return rows


def probe(train: SetFeatures, test: SetFeatures) -> float:
    """Accuracy of a linear classifier on the frozen features: what they know, whatever the texts."""
    numbers = {label: n for n, label in enumerate(sorted(set(train.labels) | set(test.labels)))}
    labels = [torch.tensor([numbers[label] for label in features.labels]) for features in (train, test)]
    return linear_probe(train.audio, labels[0], test.audio, labels[1])


def class_similarities(features: SetFeatures, other: Tensor | None = None) -> tuple[Tensor, list[str]]:
    """Mean cosine between the sounds of each class and its pictures, (C, C), and the classes.

    `other`: one vector (C, D) for each class, sorted by name, in place of the pictures.
    """
    classes = sorted(set(features.labels))
    rows = torch.tensor([classes.index(label) for label in features.labels])
    sums = torch.zeros(len(classes), features.audio.shape[1]).index_add(0, rows, features.audio)
    sounds = sums / torch.bincount(rows, minlength=len(classes))[:, None]
    if other is None:
        if features.pictures is None:
            raise ValueError("there are no pictures, and no vectors in their place")
        seen = rows[features.seen]
        total = torch.zeros_like(sounds).index_add(0, seen, features.pictures[features.seen])
        other = total / torch.bincount(seen, minlength=len(classes)).clamp(min=1)[:, None]
    return sounds @ other.T, classes
