"""The vocabulary of the connected CLIP: its rows, their statistics, the rows of ordinary words."""

from __future__ import annotations

import torch
from torch import Tensor

from ....aai_models.adapt.start import WordStatistics
from ....aai_models.errors import TrainingError
from .prompt_words import sub_tokenizers


def vocabulary_rows(clip, name: str) -> Tensor:
    """The token embedding of the text encoder `name` of a CLIP, (V, width) float32."""
    encoder = getattr(clip.cond_stage_model, name)
    return encoder.transformer.get_input_embeddings().weight.data.float()


def word_statistics(clip) -> dict[str, WordStatistics]:
    """Norm and spread of the vocabulary of each text encoder of `clip`."""
    statistics = {}
    for name, tokenizer in sub_tokenizers(clip).items():
        rows = vocabulary_rows(clip, name)
        norms = rows.norm(dim=-1)
        statistics[tokenizer.embedding_key] = WordStatistics(
            float(norms.median()), float(rows.std()), rows.shape[-1], float(norms.mean())
        )
    return statistics


def word_rows(clip, text: str) -> dict[str, Tensor]:
    """The rows of ordinary words, key -> (m, width) float32; raises `TrainingError` if there are none in `text`."""
    found = {}
    for name, tokenizer in sub_tokenizers(clip).items():
        ids = tokenizer.tokenizer(text)["input_ids"][1:-1]  # without start and end
        if not ids:
            raise TrainingError(
                f"There is no word in {text!r}", "`words` must hold ordinary words", "Write for instance dog"
            )
        rows = vocabulary_rows(clip, name)
        found[tokenizer.embedding_key] = rows[torch.tensor(ids, device=rows.device)].cpu().clone()
    return found
