"""The Align stage outside ComfyUI: `python -m aai_models.align prepare|train|evaluate|ablate|convert|centre|library ...`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from ..audio.decode import decode_audio
from ..audio.heard import require_heard
from ..errors import ExplainedError
from . import cli
from .alignment import KNOWN, alignment_of
from .cavt_mae import CAVTMAE
from .centre import mean_feature, write_centre
from .convert import DTYPES, convert, file_sha256, read_state_dict
from .encoders import CAVTEncoder, TransformersEncoder
from .imagebind_convert import convert_imagebind
from .imagebind_files import find_weights
from .library import INDEX_NAME, Library, build


def _load_encoder(path: Path) -> CAVTMAE:
    return CAVTMAE.from_state_dict({name: tensor.float() for name, tensor in read_state_dict(path).items()})


def command_convert(options) -> None:
    if find_weights(options.source) is not None:
        metadata = convert_imagebind(options.source, options.target, options.dtype, options.audio_only)
    else:
        metadata = convert(options.source, options.target, options.dtype, options.audio_only, options.aligned_with)
    print(f"{options.target}: {metadata['variant']}, {metadata['dtype']}, from sha256 {metadata['sha256']}")
    print(f"aligned with: {alignment_of(metadata) or 'no text encoder (for words without training)'}")


def command_centre(options) -> None:
    if options.encoder.is_dir():
        encoder = TransformersEncoder.from_folder(options.encoder)
    else:
        encoder = CAVTEncoder(_load_encoder(options.encoder))
    centre, count = mean_feature(options.folder, encoder.encode, lambda done, total: _progress(done, total, "sounds"))
    write_centre(options.encoder, centre)
    print(f"{options.encoder}: mean of {count} sounds, length {float(centre.norm()):.3f}")


def _progress(done: int, total: int, what: str = "pictures") -> None:
    print(f"\r{done} of {total} {what}", end="" if done < total else "\n", file=sys.stderr, flush=True)


def _progress_with_speed():
    """The progress of a build with pictures per second."""
    started = time.monotonic()
    return lambda done, total: _progress(
        done, total, f"pictures, {done / (time.monotonic() - started + 1e-9):.1f} per second"
    )


def command_build(options) -> None:
    model = _load_encoder(options.encoder)
    library = Library.open(options.folder, file_sha256(options.encoder), options.index)
    with torch.inference_mode():
        report = build(library, model.encode_image, options.index, _progress_with_speed())
    print(f"{len(library)} pictures: {report}")
    for name in report.corrupt:
        print(f"skipped, no picture: {name}")


def command_query(options) -> None:
    library = Library.open(options.folder, file_sha256(options.encoder), options.index)
    sound, sample_rate = decode_audio(options.sound, start=options.start, duration=10.24)
    require_heard(sound[None], sample_rate, name=options.sound.name)
    feature = CAVTEncoder(_load_encoder(options.encoder)).encode(sound[None], sample_rate)[0]
    for match in library.query(feature, options.k, options.minimum):
        print(f"{match.similarity:.4f}  {match.path}")


def command_info(options) -> None:
    library = Library.open(options.folder, file_sha256(options.encoder), options.index)
    print(f"{len(library)} pictures, features of {library.features.shape[1]} values, encoder sha256 {library.encoder}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aai_models.align", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    sub = subparsers.add_parser("convert", help="a published .pth checkpoint becomes .safetensors, encoders alone")
    sub.add_argument("source", type=Path)
    sub.add_argument("target", type=Path)
    sub.add_argument("--dtype", choices=DTYPES, default="fp16")
    sub.add_argument("--audio-only", action="store_true", help="leave the image tower out; of ImageBind the texts")
    sub.add_argument(
        "--aligned-with",
        choices=KNOWN,
        default="",
        help="declare that the encoder was trained towards the text features of SD1.x's CLIP (clip_l): sounds then become "
        "words without training; files that `train` wrote say so themselves",
    )
    sub.set_defaults(run=command_convert)
    sub = subparsers.add_parser("centre", help="keep the mean feature of a folder of sounds with an encoder")
    sub.add_argument(
        "encoder",
        type=Path,
        help="a .safetensors file, which is rewritten, or the folder of a CLAP or PE-AV, which gets a file aai_centre",
    )
    sub.add_argument("folder", type=Path, help="recordings of as many kinds as possible")
    sub.set_defaults(run=command_centre)
    cli.add_to(subparsers)
    library = subparsers.add_parser("library", help="builds and asks a picture library").add_subparsers(required=True)
    for name, run, text in (
        ("build", command_build, "encode what is new or changed"),
        ("query", command_query, "the pictures nearest to a sound"),
        ("info", command_info, "what the index holds"),
    ):
        sub = library.add_parser(name, help=text)
        sub.add_argument("folder", type=Path)
        if name == "query":
            sub.add_argument("sound", type=Path)
            sub.add_argument("-k", type=int, default=4, help="pictures (%(default)s)")
            sub.add_argument("--minimum", type=float, default=-1.0, help="least cosine (%(default)s)")
            sub.add_argument("--start", type=float, default=0.0, help="seconds (%(default)s)")
        sub.add_argument("--encoder", type=Path, required=True, help="CAVT-MAE file with both towers")
        sub.add_argument("--index", type=Path, help=f"index file (default: FOLDER/{INDEX_NAME})")
        sub.set_defaults(run=run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a known failure is one line on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except ExplainedError as error:
        print(f"aai_models.align: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what is done is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
