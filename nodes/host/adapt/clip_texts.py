"""The connected CLIP-L as the text side of an encoder whose sounds are aligned with it."""

from __future__ import annotations

from functools import cached_property

import comfy.model_management as mm
import comfy.ops
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.digest import patched_digest
from ..base.prompt_words import sub_tokenizers

BATCH = 256
SCALE = 20.0  # 1 / 0.05: the temperature of the pack's training, Eqs. 2 and 4
LONGEST = 75  # tokens of a prompt


class ClipTexts:
    """`AlignedText` of a CLIP with a CLIP-L."""

    name, prompt, scale = "CLIP-L's texts", "label", SCALE

    def __init__(self, clip):
        self._clip = clip
        self._tokenizer = next(t for t in sub_tokenizers(clip).values() if t.embedding_key == "clip_l")
        self.dim = self._tokenizer.embedding_size

    @cached_property
    def digest(self) -> str:
        """A hash of the CLIP's weights and patches."""
        return patched_digest(self._clip.patcher)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Tensor:
        """N texts -> unit vectors (N, D), float32, CPU. Shows progress, can be cancelled between batches."""
        ids = [self._tokenizer.tokenizer(text)["input_ids"][1:-1][:LONGEST] for text in texts]
        self._clip.load_model()
        return F.normalize(end_states(self._clip, ids), dim=-1)


def end_states(clip, words: list[list[int]]) -> Tensor:
    """CLIP-L's text feature of each sequence of tokens, its last state at the end token after the final norm: (N, D) float32.

    The CLIP must be loaded. Attention is causal, so what follows the end token does not count: as many places as the longest
    needs are enough, not 77.
    """
    encoder, device = clip.cond_stage_model.clip_l, clip.patcher.load_device
    text = encoder.transformer.text_model
    start, end = encoder.special_tokens["start"], encoder.special_tokens["end"]
    positions = comfy.ops.cast_to(text.embeddings.position_embedding.weight, torch.float32, device)
    bar, found = comfy.utils.ProgressBar(len(words)), []
    for first in range(0, len(words), BATCH):
        mm.throw_exception_if_processing_interrupted()
        part = words[first : first + BATCH]
        length = max(len(ids) for ids in part) + 2
        causal = torch.full((length, length), -torch.finfo(torch.float32).max, device=device).triu_(1)
        tokens = torch.tensor([[start, *ids] + [end] * (length - 1 - len(ids)) for ids in part], device=device)
        x = text.embeddings.token_embedding(tokens, out_dtype=torch.float32) + positions[:length]
        x = text.final_layer_norm(text.encoder(x, mask=causal)[0])
        ends = torch.tensor([len(ids) + 1 for ids in part], device=device)
        found.append(x[torch.arange(len(part), device=device), ends].float().cpu())
        bar.update(len(part))
    return torch.cat(found)
