"""Every figure of one encoder on one prepared set, and its similarities as pictures."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..data.shards import ShardSet
from ..encoders import CAVTEncoder
from ..texts import TextEncoder, class_texts, has_tokenizer, open_texts
from ..texts import own_texts as open_own_texts
from .evaluate import Judged, SetFeatures, class_similarities, encode_set, probe, table_1, table_2
from .published import recognise
from .report import Evaluation, similarity_picture


def judge(
    judged: Judged,
    shards: ShardSet,
    split: str,
    texts: TextEncoder | None,
    *,
    probe_on: str = "",
    listed: set[str] | None = None,
    progress=None,
) -> tuple[Evaluation, SetFeatures]:
    """Every figure of one encoder on one split.

    `texts` None: no side of words in its space; `probe_on`: a split to fit on; `listed`: ids of a subset of its own.
    """
    features = encode_set(judged, shards, split, progress)
    classes = shards.index["labels"]
    evaluation = Evaluation(
        encoder=judged.encoder.name,
        data=shards.place,
        known_as=recognise(classes),
        split=split,
        clips=len(features.notes),
        classes=len(classes),
        texts=texts.name if texts else "none",
        trained_here=judged.trained_on.startswith(shards.name),
        retrieval=table_1(features, listed=listed),
        classification=table_2(features, texts, classes) if texts else [],
        skipped=features.skipped,
    )
    if evaluation.trained_here:
        evaluation.remarks.append(f"{evaluation.encoder} was trained on this set: its classes are not new to it")
    if texts and "; " in judged.trained_on and not judged.trained_on.endswith(f"; {texts.name}"):
        evaluation.remarks.append(
            f"{evaluation.encoder} was not trained on the texts of {texts.name} (it was trained on {judged.trained_on}): "
            "accuracies mean little; give the --texts of the training"
        )
    if probe_on:
        evaluation.probe = probe(encode_set(judged, shards, probe_on, progress), features)
    return evaluation, features


def own_texts(judged: Judged, path: Path, texts: str) -> TextEncoder | None:
    """The words in an encoder's space: `texts` for a CAVT-MAE, its own for the others, none for a PE without tokenizer."""
    if isinstance(judged.encoder, CAVTEncoder):
        return open_texts(texts, judged.encoder.dim)
    return open_own_texts(judged.encoder, path) if judged.encoder.kind == "clap" or has_tokenizer(path) else None


def similarity_pictures(features: SetFeatures, texts: TextEncoder | None) -> dict[str, Image.Image]:
    """Fig. 3's question as pictures: which sounds are near which pictures and words, class by class."""
    pictures = {}
    if features.pictures is not None:
        values, classes = class_similarities(features)
        pictures["sounds_and_pictures"] = similarity_picture(values.numpy(), classes, "pictures")
    if texts is not None:
        classes = sorted(set(features.labels))
        values, _ = class_similarities(features, class_texts(texts, classes, "label"))
        pictures["sounds_and_words"] = similarity_picture(values.numpy(), classes, "words")
    return pictures
