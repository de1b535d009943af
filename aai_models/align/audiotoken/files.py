"""AudioToken's files as they are published: found in a folder, and read strictly.

BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt   {"cfg", "model", "label_dict"}
embedder_learned_embeds.bin                       named tensors, saved from a GPU
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...shapes import lacking, shapes_of
from ..published_folders import require_whole
from .audioset import class_names
from .beats import BUCKETS, FARTHEST, GROUPS, KERNEL, LAYERS, PATCH, BEATs, BEATsConfig
from .model import AudioTokenNet, Embedder

BEATS = "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt"
EMBEDDER = "embedder_learned_embeds.bin"
WIDTH = 768  # of a row of CLIP-L's token table
# How the BEATs of the file computes; one that computes otherwise is another model, whose features mean nothing here.
PUBLISHED = {
    **{"encoder_layers": LAYERS, "input_patch_size": PATCH, "conv_bias": False, "conv_pos": KERNEL},
    **{"conv_pos_groups": GROUPS, "activation_fn": "gelu", "layer_norm_first": False, "deep_norm": True},
    **{"relative_position_embedding": True, "num_buckets": BUCKETS, "max_distance": FARTHEST, "gru_rel_pos": True},
    "finetuned_model": True,
}
# Size in `BEATsConfig` -> its name in the file.
SIZES = {
    **{"dim": "encoder_embed_dim", "mlp_dim": "encoder_ffn_embed_dim", "heads": "encoder_attention_heads"},
    **{"patch_dim": "embed_dim", "classes": "predictor_class"},
}
POSITIONS = "encoder.pos_conv.0.weight"
BIAS = "relative_attention_bias.weight"
AGAIN = f"Download {BEATS} again from where AudioToken is published"


@dataclass(frozen=True)
class AudioTokenFiles:
    """What both files hold."""

    config: BEATsConfig
    tensors: dict[str, Tensor]  # of an `AudioTokenNet`
    classes: tuple[str, ...]  # names of the classes; empty where the file has none
    notes: tuple[str, ...] = ()  # what a person should know of the files

    def build(self, **options) -> AudioTokenNet:
        """The network; `options` (operations, dtype, device) go to its constructor."""
        net = AudioTokenNet(self.config, WIDTH, **options)
        dtype = options.get("dtype")
        tensors = self.tensors if dtype is None else {name: t.to(dtype) for name, t in self.tensors.items()}
        net.load_state_dict(tensors)
        return net.eval().requires_grad_(False)


def audiotoken_folder(path: Path) -> Path | None:
    """The folder of the AudioToken at a path, the folder itself or its embedder; None where there is none.

    One of its files may be missing: `read_files` says which.
    """
    if path.is_dir():
        return path if (path / EMBEDDER).is_file() or _beats_files(path) else None
    return path.parent if path.name == EMBEDDER and path.is_file() else None


def read_files(folder: Path) -> AudioTokenFiles:
    """Read both files; nothing in them is run. Raises `CheckpointError` for what is missing or is not as published."""
    beats, embedder = _find(folder)
    config, tensors, labels, notes = beats_of(beats.name, _load(beats))
    own = embedder_of(embedder.name, _load(embedder), config)
    classes = class_names(labels, config.classes)
    if beats.name != BEATS:
        notes = (*notes, f"AudioToken was trained with {BEATS}; whether {beats.name} is the same file is not known.")
    if not classes:
        notes = (
            *notes,
            f"{beats.name} does not name its classes (label_dict), so what was heard is not told in words.",
        )
    return AudioTokenFiles(config, joined(tensors, own), classes, notes)


def joined(beats: dict[str, Tensor], embedder: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of both as those of an `AudioTokenNet`."""
    parts = {"beats": beats, "embedder": embedder}
    return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def _is_beats_name(path: Path) -> bool:
    return path.name.lower().startswith("beats") and path.suffix.lower() in (".pt", ".pth")


def _beats_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_beats_name(path) and path.is_file())


def _find(folder: Path) -> tuple[Path, Path]:
    """(BEATs, embedder) of a folder."""
    found, embedder = _beats_files(folder), folder / EMBEDDER
    missing = ([] if found else [BEATS]) + ([] if embedder.is_file() else [EMBEDDER])
    if missing:
        raise CheckpointError(
            f"{folder.name} has no {' and no '.join(missing)}",
            f"AudioToken needs {BEATS} and {EMBEDDER} in one folder of models/audio_encoders",
            f"Put {'them' if len(missing) > 1 else 'that file'} there, as AudioToken is published",
        )
    exact = [path for path in found if path.name == BEATS]
    if not exact and (len(found) > 1 or found[0].name.startswith("BEATs_iter")):
        raise CheckpointError(
            f"{folder.name} holds {', '.join(path.name for path in found)}",
            f"AudioToken was trained with {BEATS}; each other BEATs gives it nonsense to read",
            "Put that file beside the embedder",
        )
    return (exact or found)[0], embedder


def beats_of(name: str, content: object) -> tuple[BEATsConfig, dict[str, Tensor], object, tuple[str, ...]]:
    """What a file of this name holds -> (sizes, tensors of `BEATs`, label_dict, notes).

    Raises `CheckpointError` for any other file.
    """
    parts = content if isinstance(content, dict) else {}
    cfg, model = parts.get("cfg"), parts.get("model")
    if not isinstance(cfg, dict) or not isinstance(model, dict):
        raise CheckpointError(
            f"{name} is no BEATs: it holds {_shown(content)}",
            "A BEATs file holds cfg (its settings), model (its tensors) and label_dict (its classes)",
            AGAIN,
        )
    tensors = dict(model)
    config = read_config(name, cfg)
    _require_tensors(name, published_shapes(config), tensors)
    tables = [tensors.pop(_bias_of(layer)) for layer in range(LAYERS)]
    gain, direction = tensors.pop(f"{POSITIONS}_g").float(), tensors.pop(f"{POSITIONS}_v").float()
    # Weight norm of one length for each tap of the kernel.
    tensors[POSITIONS] = gain * direction / direction.norm(dim=(0, 1), keepdim=True)
    tensors[f"encoder.{BIAS}"] = tables[-1]  # the published code reads all into one table, so that the last one stays
    differ = any(not torch.equal(table, tables[-1]) for table in tables)
    note = f"The layers of {name} disagree about relative positions; as in the published code the last one counts."
    return config, tensors, parts.get("label_dict"), (note,) if differ else ()


def read_config(name: str, cfg: dict) -> BEATsConfig:
    """The sizes that a file's cfg gives; raises `CheckpointError` unless it computes as AudioToken's BEATs does."""
    for key, value in PUBLISHED.items():
        if type(cfg.get(key)) is not type(value) or cfg[key] != value:
            found = f"says {key} = {cfg[key]!r}" if key in cfg else f"does not say {key}"
            raise CheckpointError(
                f"The cfg of {name} {found}", f"AudioToken's BEATs has {key} = {value!r}", f"Choose {BEATS}"
            )
    sizes = {own: cfg.get(theirs) for own, theirs in SIZES.items()}
    whole = {own: size for own, size in sizes.items() if type(size) is int and size > 0}
    config = BEATsConfig(**whole)
    if len(whole) < len(sizes) or config.dim % config.heads or config.dim % GROUPS:
        shown = ", ".join(f"{theirs} = {cfg.get(theirs)!r}" for theirs in SIZES.values())
        raise CheckpointError(
            f"The cfg of {name} says {shown}",
            f"These must be whole numbers, and the width a multiple of the heads and of {GROUPS}",
            AGAIN,
        )
    return config


def published_shapes(config: BEATsConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each tensor of a published file of these sizes; 252 for BEATs Base."""
    table = shapes_of(lambda: BEATs(config))
    kernel, bias = table.pop(POSITIONS), table.pop(f"encoder.{BIAS}")
    table |= {f"{POSITIONS}_g": (1, 1, kernel[2]), f"{POSITIONS}_v": kernel}
    return table | {_bias_of(layer): bias for layer in range(LAYERS)}


def embedder_shapes(config: BEATsConfig, width: int = WIDTH) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each of the 13 tensors of an embedder."""
    return shapes_of(lambda: Embedder(3 * config.dim, width))


def _bias_of(layer: int) -> str:
    return f"encoder.layers.{layer}.self_attn.{BIAS}"


def embedder_of(name: str, tensors: object, config: BEATsConfig) -> dict[str, Tensor]:
    """What a file of this name holds, checked: the tensors of the embedder for a BEATs of these sizes.

    Raises `CheckpointError` for any other file.
    """
    last = tensors.get("fc2.weight") if isinstance(tensors, dict) else None
    if not isinstance(tensors, dict) or not isinstance(last, Tensor) or last.ndim != 2:
        lora = isinstance(tensors, dict) and any("_lora." in str(key) for key in tensors)
        raise CheckpointError(
            f"{name} is no embedder of AudioToken: it holds {_shown(tensors)}",
            "That is its LoRA, which Load LoRA applies to the model" if lora else "An embedder has fc1, fc2 and fga",
            f"Download {EMBEDDER} again from where AudioToken is published",
        )
    if last.shape[0] != WIDTH:
        raise CheckpointError(
            f"{name} makes words of {last.shape[0]} values",
            f"The published AudioToken makes words of {WIDTH}, for SD1.x",
            "Use the published embedder",
        )
    _require_tensors(name, embedder_shapes(config), tensors)
    return tensors


def _require_tensors(name: str, expected: dict[str, tuple[int, ...]], found: dict) -> None:
    """Raise `CheckpointError` unless `found` has each expected tensor in its shape, and nothing else."""
    missing = [key for key in expected if key not in found]
    unknown = [str(key) for key in found if key not in expected]
    if wrong := lacking(missing, unknown):
        raise CheckpointError(
            f"{name} {wrong}",
            f"It must hold exactly the {len(expected)} tensors of the published file",
            "Download it again from where AudioToken is published",
        )
    for key, shape in expected.items():
        tensor = found[key]
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape or not tensor.is_floating_point():
            is_tensor = isinstance(tensor, Tensor)
            kind = f"{tuple(tensor.shape)} {str(tensor.dtype)[6:]}" if is_tensor else type(tensor).__name__
            raise CheckpointError(
                f"{key} of {name} is {kind}",
                f"It must hold numbers of the shape {shape}",
                "Download it again from where AudioToken is published",
            )


def _load(path: Path):
    """What a file of tensors holds, on the CPU, read into memory so that the file may be replaced."""
    require_whole(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _shown(content: object) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    return ", ".join(str(key)[:40] for key in list(content)[:3]) or "nothing"
