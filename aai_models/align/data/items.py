"""One clip as a step of training takes it, and where such clips come from: anything that keeps to `Source`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...errors import DataError
from ..config import AlignConfig


@dataclass
class Item:
    """One clip."""

    key: str  # its id, for people
    row: int  # its number in the whole set: chance is drawn by it
    fbank: Tensor  # (1024, 128), normalised
    text: Tensor  # (D,) unit vector
    text_id: int  # the same for the same text
    picture: Tensor | None = None  # pixels (3, 224, 224), or `Student.picture_states` of it, or a feature (D,)
    picture_row: int = -1  # its number among all pictures; -1: not to be kept
    consumed: int = 0  # clips that its process has read in this epoch, this one included


class Source(Protocol):
    """Clips to train on. The order of an epoch depends on nothing but its number and the rank."""

    name: str  # a checkpoint goes on only with the same one
    pictures: str  # what `Item.picture` holds: pixels, features, or none
    text_encoder: str  # what made `Item.text`, with its hash; "" where that is not known
    aligned_with: str  # as `texts.TextEncoder` has it

    def steps(self, epoch: int, batch: int, size: int) -> int:
        """Whole batches (over `size` processes) of an epoch."""
        ...

    def train(self, epoch: int, rank: int, size: int, skip: int) -> Iterator[Item]:
        """This process's clips of an epoch after the first `skip`."""
        ...

    def heldout(self, rank: int, size: int) -> Iterator[Item]:
        """This process's clips of those that choose the best checkpoint; none if there are none."""
        ...

    def keep(self, row: int, states: Tensor) -> None:
        """Remember what the frozen tower made of a picture."""
        ...

    def report(self) -> list[str]:
        """What was skipped and why, in words."""
        ...


def text_number(text: str) -> int:
    """The same number for the same text, in every process."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:7], "big")


def draw(config: AlignConfig, epoch: int, row: int) -> torch.Generator:
    """The chance of one clip in one epoch: no order, process or restart changes it."""
    digest = hashlib.sha256(f"{config.seed} {epoch} {row}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def augmented(fbank: Tensor, config: AlignConfig, generator: torch.Generator) -> Tensor:
    """CAV-MAE's noise and roll, and SpecAugment's masks, on one spectrogram (1024, 128)."""
    frames, bins = fbank.shape

    def whole(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    if config.noise:
        strength = torch.rand(1, generator=generator) / 10
        fbank = fbank + torch.rand(frames, bins, generator=generator) * strength
        fbank = fbank.roll(whole(2 * frames) - frames, dims=0)
    if config.mask_mel or config.mask_frames:
        fbank = fbank.clone()
        for axis, most, size in ((1, config.mask_mel, bins), (0, config.mask_frames, frames)):
            if most:
                width = whole(most + 1)
                fbank.narrow(axis, whole(size - width + 1), width).zero_()
    return fbank


class MemorySource:
    """Clips that are all in memory.

    fbank (N, 1024, 128); texts (N, D) unit vectors; pictures None, or pixels (N, F, 3, 224, 224), or features made
    elsewhere (N, F, D), F pictures for each clip; `heldout` the rows that choose the best checkpoint.
    """

    def __init__(
        self,
        fbank: Tensor,
        texts: Tensor,
        pictures: Tensor | None = None,
        *,
        config: AlignConfig,
        keys: Sequence[str] | None = None,
        heldout: Iterable[int] = (),
        name: str = "memory",
        text_encoder: str = "",
        aligned_with: str = "",
    ):
        count = len(fbank)
        if len(texts) != count or (pictures is not None and len(pictures) != count):
            given = (count, len(texts), count if pictures is None else len(pictures))
            raise DataError(f"There are {given} sounds, texts and pictures", "There must be one of each for every clip")
        self._fbank, self._texts, self._pictures, self._config = fbank, texts, pictures, config
        self._keys = list(keys) if keys is not None else [str(row) for row in range(count)]
        self._heldout = sorted(set(heldout))
        self._rows = [row for row in range(count) if row not in set(self._heldout)]
        self._text_ids = [text_number(str(text.tolist())) for text in texts]
        self._states: dict[int, Tensor] = {}
        self.name, self.text_encoder, self.aligned_with = f"{name}, {count} clips", text_encoder, aligned_with
        self.pictures = "none" if pictures is None else "pixels" if pictures.ndim == 5 else "features"

    def steps(self, epoch: int, batch: int, size: int) -> int:
        return len(self._rows) // batch

    def train(self, epoch: int, rank: int, size: int, skip: int) -> Iterator[Item]:
        generator = torch.Generator().manual_seed(self._config.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self._rows), generator=generator).tolist()[rank::size]
        for consumed, place in enumerate(order[skip:], start=skip + 1):
            yield self._item(self._rows[place], consumed, epoch)

    def heldout(self, rank: int, size: int) -> Iterator[Item]:
        for row in self._heldout[rank::size]:
            yield self._item(row, 0, None)

    def _item(self, row: int, consumed: int, epoch: int | None) -> Item:
        picture, place = None, -1
        if self._pictures is not None:
            count = self._pictures.shape[1]
            frame = 0
            if epoch is not None and self._config.frame == "random":
                frame = int(torch.randint(count, (1,), generator=draw(self._config, epoch, row)))
            place = row * count + frame
            kept = self._states.get(place)
            picture = self._pictures[row, frame] if kept is None else kept
        text = self._texts[row]
        return Item(self._keys[row], row, self._fbank[row].float(), text, self._text_ids[row], picture, place, consumed)

    def keep(self, row: int, states: Tensor) -> None:
        self._states[row] = states.half().cpu()

    def report(self) -> list[str]:
        return []
