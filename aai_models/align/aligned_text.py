"""How an encoder says in words what it hears: texts that lie among its sounds, or labels of its own.

Whatever the nodes get as an encoder may have one of these methods, or neither:

- `aligned_text(clip)`: CLAP and PE-AV through their own text side; an encoder that was aligned with a CLIP through the
  connected one.
- `label_shares(waveform, sample_rate, **policies)`: a tagger that was trained on a fixed list, such as BEATs with its
  AudioSet head. It knows no other labels.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from ..shares import Shares, shares_of

__all__ = ["AlignedText", "HasAlignedText", "HasLabels", "Shares", "shares_of"]


@runtime_checkable
class AlignedText(Protocol):
    """Texts in the space of an encoder's sounds."""

    name: str  # for people: "clap-htsat-unfused's own texts"
    dim: int  # D, that of the sounds
    prompt: str  # key of `texts.PROMPTS`: the sentence that a label stands in
    scale: float  # what cosines to a sound are multiplied by before a softmax
    digest: str  # of weights and tokenizer: what is kept of its texts is kept under this

    def encode(self, texts: list[str]) -> Tensor:
        """N texts -> unit vectors (N, D), float32, CPU. Shows progress, can be cancelled between batches."""
        ...


@runtime_checkable
class HasAlignedText(Protocol):
    """An encoder with texts in the space of its sounds."""

    def aligned_text(self, clip: object) -> AlignedText | None:
        """Its texts. `clip`: the connected CLIP, for encoders that were aligned with one; None where that one is another.

        Raises `CheckpointError` where it has a text side that cannot be read. Asked for often: what is read, is kept.
        """
        ...


@runtime_checkable
class HasLabels(Protocol):
    """An encoder with labels of its own."""

    def label_shares(self, waveform: Tensor, sample_rate: int, **policies: str) -> tuple[Shares, ...]:
        """What it hears in each of the sounds (B, C, T); policies as those of `AudioEncoder.encode`.

        Probabilities that were trained apart for each label (sigmoid) are divided by their sum; `shares_of` does that.
        """
        ...
