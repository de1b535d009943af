"""The commands evaluate and ablate: what they take, do and write."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..data.shards import ShardSet
from ..encoders import CAVTEncoder
from ..texts import TextEncoder, class_texts, has_tokenizer, open_texts
from ..texts import own_texts as open_own_texts
from ..train.processes import World
from .evaluate import Judged, SetFeatures, class_similarities, encode_set, probe, read_list, table_1, table_2
from .published import recognise
from .report import Evaluation, similarity_picture, write_all


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
            f"{evaluation.encoder} was not trained towards {texts.name} (it was trained on {judged.trained_on}): "
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


def command_evaluate(options) -> None:
    from ..cli import bar, need

    need("webdataset")
    shards = ShardSet.open(options.data)
    device = World.start(options.device).device
    judged = Judged.open(options.encoder).to(device)
    texts = own_texts(judged, options.encoder, options.texts)
    probe_on = "train" if options.probe and "train" in shards.index["splits"] else ""
    more = {"probe_on": probe_on, "listed": read_list(options.list) if options.list else None}
    evaluation, features = judge(judged, shards, options.split, texts, progress=bar("clips"), **more)
    others = [(options.encoder, None if options.no_baseline else judged.untrained())]
    others += [(path, Judged.open(path).to(device)) for path in options.beside]
    for path, other in others:
        if other is not None:
            words = own_texts(other, path, options.texts)
            evaluation.baselines.append(judge(other, shards, options.split, words, **more)[0])
    text = write_all(evaluation, similarity_pictures(features, texts), options.out)
    print(text + f"written to {options.out}")


def add_to(commands) -> None:
    """Add the commands to the parser's."""
    sub = commands.add_parser("evaluate", help="Tables 1 and 2 of an encoder on a prepared set, beside the paper's")
    sub.add_argument("encoder", type=Path, help="a CAVT-MAE file, or a folder of an encoder of transformers")
    sub.add_argument("data", help="a prepared set: its folder or URL")
    sub.add_argument("--split", default="test", help="(%(default)s)")
    sub.add_argument("--texts", default="hash", help="as for train (%(default)s)")
    sub.add_argument("--out", type=Path, default=Path("evaluation"), help="folder of the result (%(default)s)")
    sub.add_argument(
        "--list", type=Path, help="ids of one more subset, such as CAV-MAE's json of 5 clips of each class"
    )
    sub.add_argument("--probe", action="store_true", help="also a linear probe, fitted on the split train")
    sub.add_argument("--no-baseline", action="store_true", help="leave the untrained tower out")
    sub.add_argument(
        "--beside", type=Path, action="append", default=[], help="another encoder in the same table; repeatable"
    )
    sub.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    sub.set_defaults(run=command_evaluate)
