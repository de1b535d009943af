"""CLAP and PE-AV as people have them: folders in the layouts in which they are published, read strictly, without network."""

from __future__ import annotations

import contextlib
import json
import pickletools
import re
import zipfile
from pathlib import Path

import torch

from ..errors import CheckpointError

# Kind -> class of `transformers`. A kind is the model_type of config.json; frame-level ones have a kind of their own.
CLASSES = {
    "clap": "ClapModel",
    "pe_audio": "PeAudioModel",
    "pe_audio_frame": "PeAudioFrameLevelModel",
    "pe_audio_video": "PeAudioModel",  # the audio half: the whole needs timm, which ComfyUI does not install
}
FRAME_LEVEL = "PeAudioFrameLevelModel"
PERCEPTION_KEYS = {"audio_model", "audio_visual_model", "nth_text_layer", "output_dim", "text_model"}
# In the order in which transformers looks for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
CLAP_BAND = {"frequency_min": 50, "frequency_max": 14000}  # Hz, as published; the class's own lower edge is 0
POINTER = b"version https://git-lfs"
SAFE_TORCH = (2, 6)  # older ones can be made to run code even by weights_only
# Buffers that a model makes for itself; files of some years carry them and others do not.
MADE = re.compile(r"(position_ids|token_type_ids|relative_position_index|num_batches_tracked|inv_freq)$")


def read_kind(folder: Path) -> str:
    """What a folder's config.json says that it holds, a key of `CLASSES`; raises `CheckpointError` for anything else."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
        architectures = config.get("architectures") or []
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder.name} has no readable config.json ({type(error).__name__})",
            "An encoder's folder holds config.json, its weights and its tokenizer",
            "Copy the whole folder as it is published",
        ) from None
    if kind is None and len(PERCEPTION_KEYS & set(config)) >= 2:
        raise CheckpointError(
            f"{folder.name} is in the layout of the branch perception_models, which only the original code reads",
            "The branch main holds the same model for transformers",
            "Download the folder again from its branch main",
        )
    if kind == "pe_audio" and FRAME_LEVEL in architectures:
        kind = "pe_audio_frame"
    if kind not in CLASSES:
        raise CheckpointError(
            f"{folder.name} is a {kind!r} model",
            f"Known audio encoders are {', '.join(key for key in CLASSES if key != 'pe_audio_frame')}",
            "Choose another folder",
        )
    return kind


def load_folder(folder: Path):
    """(kind, model, feature extractor) of a published folder; the model on the CPU, in float32 where it was float64.

    Never downloads, and opens no file that could run code. Raises `CheckpointError` with the reason.
    """
    kind = read_kind(folder)
    transformers = _import_transformers()
    absent = next((name for name in _needed(kind) if not hasattr(transformers, name)), None)
    if absent:
        raise CheckpointError(
            f"{folder.name} needs {absent}, which transformers {transformers.__version__} does not have",
            "A newer version of transformers has it",
            "Update ComfyUI's requirements, or choose another encoder",
        )
    _require_weights(folder)
    try:
        with _quiet(transformers):
            model, info = _load_model(transformers, folder, kind)
    except Exception as error:
        raise CheckpointError(
            f"{folder.name} cannot be read as {CLASSES[kind]} ({type(error).__name__}: {str(error)[:200]})",
            "config.json and the weights belong together, as they are published",
            "Download the whole folder again from where the encoder is published",
        ) from None
    _require_all(folder, info)
    if any(parameter.dtype == torch.float64 for parameter in model.parameters()):
        model = model.to(torch.float32)
    return kind, model.eval().requires_grad_(False), _load_extractor(transformers, folder, kind, model.config)


def _needed(kind: str) -> tuple[str, ...]:
    """Names of transformers that a kind needs."""
    extractor = "ClapFeatureExtractor" if kind == "clap" else "PeAudioFeatureExtractor"
    return CLASSES[kind], extractor, *(("PeAudioVideoConfig",) if kind == "pe_audio_video" else ())


def _load_model(transformers, folder: Path, kind: str):
    options = {"local_files_only": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    if kind == "pe_audio_video":
        whole = transformers.PeAudioVideoConfig.from_pretrained(folder, local_files_only=True)
        options["config"] = whole.audio_config
    return getattr(transformers, CLASSES[kind]).from_pretrained(folder, **options)


def _require_all(folder: Path, info: dict) -> None:
    """Raise `CheckpointError` where a tensor was missing or of another size: transformers draws it at random."""
    missing = sorted(name for name in info["missing_keys"] if not MADE.search(name))
    if missing:
        raise CheckpointError(
            f"{folder.name} lacks {len(missing)} tensor{'s' * (len(missing) > 1)}, the first is {missing[0]}",
            "All weights must be there: missing ones would be random",
            "Download the weights again from where the encoder is published",
        )
    mismatched = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in info["mismatched_keys"])
    if mismatched:
        raise CheckpointError(
            f"{len(mismatched)} tensors of {folder.name} have another size than its config.json says, "
            f"the first is {mismatched[0]}",
            "config.json and the weights belong together",
            "Download the whole folder again from where the encoder is published",
        )


def _load_extractor(transformers, folder: Path, kind: str, config):
    """The published feature extractor, or the default one where a folder was copied without it."""
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        if kind != "clap":
            return transformers.PeAudioFeatureExtractor()
        truncation = "fusion" if config.audio_config.enable_fusion else "rand_trunc"
        return transformers.ClapFeatureExtractor(truncation=truncation, padding="repeatpad", **CLAP_BAND)
    try:
        return transformers.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise CheckpointError(
            f"The feature extractor of {folder.name} cannot be read ({type(error).__name__}: {str(error)[:200]})",
            "preprocessor_config.json (CLAP) or processor_config.json (PE) says how its spectrogram is computed",
            "Download that file again, or remove it to use the default",
        ) from None


def _require_weights(folder: Path) -> None:
    """Raise `CheckpointError` unless the weights are there, whole, and hold nothing but tensors."""
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None:
        raise CheckpointError(
            f"{folder.name} has no weights",
            "It needs model.safetensors or pytorch_model.bin beside config.json",
            "Download one of them from where the encoder is published",
        )
    for path in _parts(first):
        if not path.is_file():
            raise CheckpointError(
                f"{folder.name} lacks {path.name}, which its {first.name} names",
                "All files of the weights must be there",
                "Download that file from where the encoder is published",
            )
        require_whole(path)


def _parts(first: Path) -> list[Path]:
    """The files that hold tensors."""
    if first.suffix != ".json":
        return [first]
    try:
        names = sorted(set(json.loads(first.read_text(encoding="utf-8"))["weight_map"].values()))
        if not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError("names outside the folder")
        return [first.with_name(name) for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{first.parent.name}'s {first.name} cannot be read ({type(error).__name__})",
            "It says which file holds which tensor",
            "Download it again",
        ) from None


def require_whole(path: Path) -> None:
    """Raise `CheckpointError` for a file of weights that is a pointer, cut short, or holds code, which is not run."""
    name, size = f"{path.name} of {path.parent.name}", path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise CheckpointError(
                f"{name} is a Git LFS pointer of {size} bytes",
                "The weights themselves are needed",
                "Download the file itself, or run `git lfs pull` in the folder",
            )
    cut = CheckpointError(
        f"{name} is damaged or was cut short ({size:,} bytes)", "The whole file is needed", "Download it again"
    )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt"):
                return
        except (SafetensorError, OSError, ValueError):
            raise cut from None
    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < SAFE_TORCH:
        raise CheckpointError(
            f"{name} needs torch 2.6 to be read, and this is {torch.__version__}",
            "Older versions can be made to run code in .bin files",
            "Update torch, or download model.safetensors",
        )
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged or hostile file leads torch.load to
        is_refused = type(error).__name__ == "UnpicklingError"
        if not is_refused or ("global" not in str(error).lower() and not _calls(path)):
            raise cut from None
        raise CheckpointError(
            f"{name} holds code and was not opened",
            "Only tensors are read",
            "Download model.safetensors instead, or the file from where the encoder is published",
        ) from None


def _calls(path: Path) -> bool:
    """Whether a pickle of a newer protocol names something to call; it is looked at and not run."""
    try:
        with path.open("rb") as file:
            return any(code.name in ("GLOBAL", "STACK_GLOBAL", "INST") for code, _, _ in pickletools.genops(file))
    except (ValueError, OSError, IndexError):
        return False


@contextlib.contextmanager
def _quiet(transformers):
    """Without the log of tensors that belong to the video half: what matters is checked and said."""
    logging = transformers.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _import_transformers():
    try:
        import transformers
    except ImportError as error:
        raise CheckpointError(
            f"transformers cannot be imported ({error})",
            "ComfyUI brings it, and encoders other than CAVT-MAE need it",
            "Install ComfyUI's requirements again",
        ) from None
    return transformers
