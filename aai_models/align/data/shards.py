"""Reads a prepared training set, from a folder or from any storage that webdataset knows, in an order that can be resumed."""

from __future__ import annotations

import io
import json
import random
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from ...audio.decode import decode_audio
from ...audio.errors import AudioError
from ...audio.fbank import FRAMES, MEL_BINS, encoder_input
from ...errors import DataError
from ..config import AlignConfig
from ..images import image_input
from ..texts import TextEncoder, class_texts
from .items import Item, draw, text_number
from .prepare import FORMAT, INDEX
from .row_cache import RowCache
from .worker import start_pool

MIXED = 1000  # clips of the shuffle's buffer
AHEAD = 4  # clips decoded ahead for each worker
T = TypeVar("T")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # a scheme has two letters or more, a drive has one


@dataclass(frozen=True)
class Note:
    """What a shard says of a clip."""

    row: int
    id: str
    label: str
    text: str
    fold: int
    order: tuple[int, ...]  # where in time each picture stood
    looked_at: int

    @property
    def sentence(self) -> str:
        return self.text or self.label

    def test_picture(self, policy: str) -> int:
        """Which stored picture an evaluation sees: the `best`, or the one nearest to the `middle` in time."""
        if policy == "best" or not self.order:
            return 0
        return min(range(len(self.order)), key=lambda n: abs(self.order[n] - self.looked_at / 2))


def open_place(place: str):
    """A file for reading: a path of this computer, or a URL of any storage that webdataset knows.

    webdataset takes the drive of `C:\\sets\\index.json` for the scheme of a URL.
    """
    if not URL.match(place):
        return open(place, "rb")
    from webdataset.gopen import gopen

    return gopen(place)


@dataclass
class ShardSet:
    """A prepared set: its index and its raw clips."""

    place: str  # folder or URL
    index: dict
    damaged: list[str] = field(default_factory=list)  # shards and clips that could not be read, each with its reason

    @classmethod
    def open(cls, place: str) -> ShardSet:
        """Read the index. Raises `DataError` for what is no prepared set."""
        place = place.rstrip("/")
        try:
            with open_place(f"{place}/{INDEX}") as file:
                index = json.loads(file.read().decode("utf-8", "surrogateescape"))
            if index["format"] != FORMAT:
                raise ValueError(f"its format is {index['format']!r}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{place} is not a prepared training set ({type(error).__name__}: {error})",
                f"It must hold {INDEX} and tar files",
                "Make it: python -m aai_models.align prepare",
            ) from None
        return cls(place, index)

    @property
    def name(self) -> str:
        """Tells sets apart without reading them whole."""
        splits = {name: [s["clips"] for s in split["shards"]] for name, split in sorted(self.index["splits"].items())}
        return f"{len(self.index['labels'])} labels, clips {json.dumps(splits)}"

    def shards(self, split: str) -> list[dict]:
        """Raises `DataError` if there is no such split."""
        splits = self.index["splits"]
        if split not in splits:
            raise DataError(f"{self.place} has no split {split!r}", f"It has {', '.join(splits)}")
        return splits[split]["shards"]

    def order(self, split: str, epoch: int | None, seed: int, rank: int, size: int) -> list[dict]:
        """This process's shards of an epoch; None: of an evaluation, in their own order."""
        shards = list(self.shards(split))
        if epoch is not None:
            random.Random(f"{seed} {epoch}").shuffle(shards)
        return shards[rank::size]

    def raw(self, split: str, epoch: int | None = None, seed: int = 0, rank: int = 0, size: int = 1) -> Iterator[dict]:
        """Clips as they lie in the tars, whole ones alone, in the order of the epoch."""
        from webdataset.filters import shuffle
        from webdataset.tariterators import group_by_keys, tar_file_expander

        places = [f"{self.place}/{shard['name']}" for shard in self.order(split, epoch, seed, rank, size)]
        files = tar_file_expander(self._opened(places), handler=self._broken)
        stream = group_by_keys(files, handler=self._broken)
        whole = (raw for raw in stream if self._is_whole(raw))
        if epoch is None:
            return whole
        mixer = random.Random(f"{seed} {epoch} {rank}")
        return iter(shuffle(MIXED, initial=MIXED, rng=mixer)(whole))

    def _opened(self, places: list[str]) -> Iterator[dict]:
        """Each tar as webdataset takes it; one that cannot be opened is remembered."""
        for place in places:
            try:
                stream = open_place(place)
            except Exception as error:  # whatever the way to a storage raises
                error.args = (*error.args, place)
                self._broken(error)
                continue
            yield {"url": place, "stream": stream}

    def _broken(self, error: Exception) -> bool:
        where = next((str(part) for part in reversed(error.args) if str(part).endswith(".tar")), self.place)
        self._remember(f"{Path(where).name} is cut short or damaged ({type(error).__name__})")
        return True

    def _remember(self, reason: str) -> None:
        if reason not in self.damaged:
            self.damaged.append(reason)

    def _is_whole(self, raw: dict) -> bool:
        """Whether every member that the clip's own note names is there; the note is then under "note"."""
        try:
            values = json.loads(raw["json"].decode("utf-8", "surrogateescape"))
            values["order"] = tuple(values["order"])
            raw["note"] = Note(**values)
            raw["sound"] = next(value for key, value in raw.items() if key.startswith("sound."))
            raw["pictures"] = [raw[f"picture{n:02d}.jpg"] for n in range(len(values["order"]))]
        except (KeyError, ValueError, TypeError, StopIteration) as error:
            self._remember(f"clip {raw.get('__key__')} lacks a part ({type(error).__name__}: {error})")
            return False
        return True


def decode(
    sound: bytes | None, picture: bytes | None, policies: dict[str, str]
) -> tuple[Tensor | None, Tensor | None, str]:
    """A clip's spectrogram (1024, 128) half and pixels (3, 224, 224), as far as they are given, and what went wrong."""
    fbank = pixels = None
    try:
        if sound is not None:
            waveform, sample_rate = decode_audio(io.BytesIO(sound))
            fbank = encoder_input(waveform[None], sample_rate, **policies).mean(dim=0).half()
        if picture is not None:
            pixels = image_input(Image.open(io.BytesIO(picture)))
    except (AudioError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return None, None, str(error) or type(error).__name__
    return fbank, pixels, ""


class _Inline(Executor):
    """Decodes where it is asked."""

    def submit(self, work: Callable[..., T], /, *arguments, **options) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(work(*arguments, **options))
        return future


class ShardSource:
    """Clips of a prepared set, streamed (`items.Source`).

    `texts` encodes what is written; `cache` (a folder, or None) keeps spectrograms and picture states of up to `limit`
    bytes each, `tower` names what makes the states and `states` their shape (None: the set's pictures are not used).
    """

    def __init__(
        self,
        shards: ShardSet,
        config: AlignConfig,
        texts: TextEncoder,
        *,
        states: tuple[int, ...] | None,
        tower: str = "",
        cache: Path | None = None,
        limit: int = 0,
        workers: int = 0,
    ):
        most = shards.index["pictures_per_clip"]
        self._shards, self._config, self._texts, self._workers = shards, config, texts, workers
        self.name = f"{shards.name}; {texts.name}"
        self.text_encoder, self.aligned_with = texts.name, texts.aligned_with
        self.pictures = "pixels" if states and most else "none"
        self._most = most if self.pictures == "pixels" else 0
        self._sentences: dict[str, Tensor] = {}
        self._executor: Executor | None = None
        rows, limit = shards.index["rows"], limit if cache else 0
        folder, kind = cache or Path(), f"{shards.name} {config.sound_policies()}"
        self._sounds = RowCache(folder, f"fbank {kind}", rows, (FRAMES, MEL_BINS), limit)
        self._states = RowCache(folder, f"states {kind} {tower}", rows * self._most, states or (1,), limit)

    def steps(self, epoch: int, batch: int, size: int) -> int:
        counts = [
            sum(shard["clips"] for shard in self._shards.order("train", epoch, self._config.seed, rank, size))
            for rank in range(size)
        ]
        return min(counts) // (batch // size)

    def train(self, epoch: int, rank: int, size: int, skip: int) -> Iterator[Item]:
        raw = self._shards.raw("train", epoch, self._config.seed, rank, size)
        return self._items(enumerate(islice(raw, skip, None), start=skip + 1), epoch)

    def heldout(self, rank: int, size: int) -> Iterator[Item]:
        if "val" not in self._shards.index["splits"]:
            return iter(())
        return self._items(enumerate(self._shards.raw("val", rank=rank, size=size), start=1), None)

    def keep(self, row: int, states: Tensor) -> None:
        self._states.put(row, states)

    def report(self) -> list[str]:
        return [*self._shards.damaged, *dict.fromkeys(c.failure for c in (self._sounds, self._states) if c.failure)]

    def _pool(self) -> Executor:
        """The decoding processes; they live as long as this source."""
        if self._executor is None and self._workers:
            self._executor = start_pool(self._workers)
        return self._executor or _Inline()

    def _items(self, raw: Iterator[tuple[int, dict]], epoch: int | None) -> Iterator[Item]:
        """Decoded by the workers, in the order of `raw`. Raises `DataError` if one of them was killed."""
        pool, waiting = self._pool(), deque()
        try:
            waiting.extend(self._submit(pool, *clip, epoch) for clip in islice(raw, AHEAD * self._workers))
            while True:
                if (following := next(raw, None)) is not None:
                    waiting.append(self._submit(pool, *following, epoch))
                if not waiting:
                    return
                item = self._finish(*waiting.popleft())
                if item is not None:
                    yield item
        except BrokenProcessPool:
            self._executor = None
            raise DataError(
                "A process that decodes clips was killed",
                "It must run as long as the training; systems that are out of memory kill such processes",
                "Call again with fewer --workers; training continues from the last checkpoint",
            ) from None

    def _frame(self, note: Note, epoch: int | None) -> int:
        if epoch is None:
            return note.test_picture(self._config.test_frame)
        if self._config.frame == "first":
            return 0
        return int(torch.randint(len(note.order), (1,), generator=draw(self._config, epoch, note.row)))

    def _submit(self, pool: Executor, place: int, raw: dict, epoch: int | None):
        note = raw["note"]
        fbank, picture, row, pixels = self._sounds.get(note.row), None, -1, None
        if self._most and note.order:
            frame = self._frame(note, epoch)
            row = note.row * self._most + frame
            picture = self._states.get(row)
            pixels = raw["pictures"][frame] if picture is None else None
        sound = raw["sound"] if fbank is None else None
        return place, note, row, fbank, picture, pool.submit(decode, sound, pixels, self._config.sound_policies())

    def _finish(self, place: int, note: Note, row: int, fbank, picture, decoded) -> Item | None:
        heard, pixels, failure = decoded.result()
        if failure:
            self._shards._remember(f"clip {note.id}: {failure}")
            return None
        if fbank is None:
            fbank = heard
            self._sounds.put(note.row, fbank)
        text = self._text(note.sentence)
        picture = pixels if picture is None else picture
        return Item(note.id, note.row, fbank.float(), text, text_number(note.sentence), picture, row, place)

    def _text(self, sentence: str) -> Tensor:
        if sentence not in self._sentences:
            self._sentences[sentence] = class_texts(self._texts, [sentence], self._config.prompt)[0]
        return self._sentences[sentence]
