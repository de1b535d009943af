"""The bridge of the connected CLIP: made from its own vocabulary, kept under the hash of its text encoder."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ...aai_models.adapt.bridge import Bridge, fit, nearest_words
from ...aai_models.adapt.token import AudioToken
from ...aai_models.errors import TokenError
from .autograd import weights_digest
from .text import require_family, sub_tokenizers
from .vocabulary import vocabulary_rows

BATCH = 64
ERROR = 0.15  # that a sound's feature is taken to have; measured on the pocket world (docs/pocket.md)
END_OF_WORD = "</w>"
SHORTEST = 3  # letters of a word


def whole_words(clip, limit: int = 0) -> tuple[list[str], list[int]]:
    """Whole words of plain letters in the vocabulary, with their ids; `limit` takes evenly spaced ones, 0 all."""
    tokenizer = next(iter(sub_tokenizers(clip).values()))
    found = {
        text.removesuffix(END_OF_WORD): number
        for text, number in tokenizer.tokenizer.get_vocab().items()
        if text.endswith(END_OF_WORD)
    }
    pairs = sorted((w, n) for w, n in found.items() if len(w) >= SHORTEST and w.isascii() and w.isalpha())
    if limit and len(pairs) > limit:
        pairs = pairs[:: -(-len(pairs) // limit)]
    return [word for word, _ in pairs], [number for _, number in pairs]


def bridge_of(clip, limit: int = 0) -> Bridge:
    """The bridge of a CLIP, read from the cache or made. Raises `TokenError` where there is no CLIP-L to start from."""
    require_family(clip)
    if "clip_l" not in {t.embedding_key for t in sub_tokenizers(clip).values()}:
        raise TokenError(
            "The connected CLIP has no CLIP-L",
            "Sounds are aligned with the text features of CLIP-L, from which the bridge starts",
            "Use a checkpoint of SD1.x or SDXL",
        )
    path = _path(clip, limit)
    found = Bridge.load(path) if path.is_file() else None
    if found is None:
        _, ids = whole_words(clip, limit)
        rows = {
            tokenizer.embedding_key: vocabulary_rows(clip, name).cpu()[ids]
            for name, tokenizer in sub_tokenizers(clip).items()
        }
        found = fit(_features(clip, ids), rows, error=ERROR)
        found.save(path)
    return found


def _path(clip, limit: int) -> Path:
    name = f"{weights_digest(clip.cond_stage_model)}-{limit or 'all'}-{ERROR:g}.safetensors"
    return Path(folder_paths.get_user_directory()) / "aai_bridges" / name


@torch.no_grad()
def _features(clip, ids: list[int]) -> Tensor:
    """CLIP-L's text feature of each word, its last state at the end token after the final norm: (N, D) float32."""
    clip.load_model()
    encoder = clip.cond_stage_model.clip_l
    start, end = encoder.special_tokens["start"], encoder.special_tokens["end"]
    padding = [encoder.special_tokens["pad"]] * (encoder.max_length - 3)
    bar, found = comfy.utils.ProgressBar(len(ids)), []
    clip.cond_stage_model.reset_clip_options()
    clip.cond_stage_model.set_clip_options({"projected_pooled": False, "execution_device": clip.patcher.load_device})
    try:
        for first in range(0, len(ids), BATCH):
            mm.throw_exception_if_processing_interrupted()
            batch = ids[first : first + BATCH]
            pooled = encoder([[start, number, end, *padding] for number in batch])[1]
            found.append(pooled.float().cpu())
            bar.update(pooled.shape[0])
    finally:
        clip.cond_stage_model.reset_clip_options()
    return torch.cat(found)


def word_from_sound(clip, feature: Tensor, gain: float, limit: int = 0) -> tuple[AudioToken, str]:
    """The untrained word of a unit feature (D,), and what the model hears in it."""
    bridge = bridge_of(clip, limit)
    directions = bridge.carry(feature)
    scales, heard = {}, []
    words, ids = whole_words(clip)
    for name, tokenizer in sub_tokenizers(clip).items():
        key, rows = tokenizer.embedding_key, vocabulary_rows(clip, name).cpu()
        scales[key] = float(rows.norm(dim=-1).median())
        near = ", ".join(f"{word} {value:.2f}" for word, value in nearest_words(directions[key], rows[ids], words))
        cosine, share = bridge.figures[f"{key}.cosine"], bridge.figures[f"{key}.nearest"]
        heard.append(f"{key} hears: {near}")
        heard.append(
            f"{key}: of {int(bridge.figures['words'])} words, those not used to build the bridge arrive with cosine "
            f"{cosine:.2f}, and {100 * share:.0f} % nearest to themselves."
        )
    adapters = {key: torch.zeros(1, direction.shape[-1]) for key, direction in directions.items()}
    token = AudioToken(
        feature.detach().clone().float().cpu(), adapters, scales, gain, {"bridge": "ridge"}, directions=directions
    )
    return token, "\n".join(heard)
