"""The picture library: a folder's pictures as features of the image tower, searched with a sound's feature (paper 3.2).

The index is one safetensors file: features (N, D) fp16, sizes and times (N,) int64, relative paths as bytes. Building is
incremental (only what changed is encoded) and resumable (the file is saved on the way). An index that another encoder
made is never mixed with new features.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import LibraryError
from ..files import read_header, read_tensors, write_atomically
from ..walk import Walk
from .images import SIZE, image_input, open_picture, picture_suffixes

INDEX_NAME = ".aai_library.safetensors"
FORMAT = "aai-library-1"
BATCH = 16  # pictures encoded together
SAVE_EVERY = 60.0  # seconds of work that an interruption may cost
ROWS_AT_ONCE = 2048  # features turned to float32 at a time: small enough for a processor's cache
# Frames of one film share a source: "storm_frame012.jpg", "storm#12.png".
FRAME = re.compile(r"[ ._-]*(?:frame[ ._-]*|#)\d+$", re.IGNORECASE)


@dataclass
class BuildReport:
    """What a build did."""

    added: int = 0
    kept: int = 0
    removed: int = 0  # no longer in the folder
    corrupt: list[str] = field(default_factory=list)  # files that are no pictures
    outside: int = 0  # links that were not followed
    decoding_seconds: float = 0.0  # reading and resizing, summed over threads
    encoding_seconds: float = 0.0
    seconds: float = 0.0  # all of it

    def __str__(self) -> str:
        """For people: what was done and how fast, and up to three files that were left out."""
        done = self.added + len(self.corrupt)
        parts = [f"{self.added} added, {self.kept} kept, {self.removed} removed"]
        parts += [f"{done / self.seconds:.1f} pictures per second"] if done and self.seconds else []
        if self.corrupt:
            names = ", ".join(self.corrupt[:3]) + (", ..." if len(self.corrupt) > 3 else "")
            parts.append(f"{len(self.corrupt)} left out, cannot be read as a picture ({names})")
        parts += [f"{self.outside} links left out, they lead out of the allowed folders"] if self.outside else []
        return "; ".join(parts)


@dataclass(frozen=True)
class Match:
    """One picture of an answer."""

    path: Path
    similarity: float  # cosine to the sound


@dataclass
class Library:
    """The index of one folder."""

    folder: Path
    encoder: str  # hash of the encoder's file
    paths: list[str] = field(default_factory=list)  # relative to `folder`, with surrogates for bytes that are not UTF-8
    stamps: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.int64))  # (N, 2): bytes, time in ns
    features: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float16))  # (N, D), unit norm

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def open(cls, folder: str | Path, encoder: str, index: str | Path | None = None) -> Library:
        """The index of `folder` as far as it is built; empty if there is none, or another encoder's, or a damaged one.

        Raises `LibraryError` if `folder` is no folder.
        """
        folder = Path(folder)
        index = index or folder / INDEX_NAME
        if not os.path.isdir(folder):
            raise LibraryError(
                f"There is no folder {folder}", "A library is a folder of pictures", "Correct the folder's name"
            )
        try:
            header = read_header(index)
            if header.get("format") != FORMAT or header.get("encoder") != encoder:
                return cls(folder, encoder)
            _, tensors = read_tensors(index)
            joined = bytes(tensors["paths"].numpy())
            paths = [os.fsdecode(name) for name in joined.split(b"\0")] if joined else []
            library = cls(folder, encoder, paths, tensors["stamps"], tensors["features"])
        except (OSError, SafetensorError, ValueError, TypeError, KeyError):
            return cls(folder, encoder)
        return library if library._is_whole() else cls(folder, encoder)

    def _is_whole(self) -> bool:
        features, stamps = self.features, self.stamps
        kinds = (features.ndim, features.dtype, stamps.dtype) == (2, torch.float16, torch.int64)
        return kinds and stamps.shape == (len(self), 2) and features.shape[0] == len(self)

    def save(self, index: str | Path | None = None) -> None:
        """Write the index atomically. Raises `LibraryError` if it cannot be written."""
        joined = b"\0".join(os.fsencode(path) for path in self.paths)
        tensors = {
            "features": self.features.contiguous(),
            "stamps": self.stamps.contiguous(),
            "paths": torch.frombuffer(bytearray(joined or b"\0"), dtype=torch.uint8)[: len(joined)].clone(),
        }
        header = {"format": FORMAT, "encoder": self.encoder}
        path = Path(index or self.folder / INDEX_NAME)
        write_atomically(path, lambda p: save_file(tensors, p, metadata=header), LibraryError, "the index")

    def query(self, feature: Tensor, k: int = 4, minimum: float = -1.0, one_per_source: bool = True) -> list[Match]:
        """The `k` pictures nearest to a feature (D,), best first; exact. Fewer if `minimum` (cosine) leaves fewer.

        `one_per_source` takes only the best frame of a film. Raises `LibraryError` if the library has no picture.
        """
        if not len(self):
            raise LibraryError(
                f"{self.folder} holds no picture that can be read",
                f"Known are {', '.join(picture_suffixes())}",
                "Put pictures into it or choose another folder",
            )
        scores = self._similarities(feature)
        matches, sources = [], set()
        for index in _descending(scores, k):
            similarity = float(scores[index])
            if similarity < minimum or len(matches) == k:
                break
            source = source_of(self.paths[index]) if one_per_source else self.paths[index]
            if source not in sources:
                sources.add(source)
                matches.append(Match(self.folder / self.paths[index], similarity))
        return matches

    def _similarities(self, feature: Tensor) -> Tensor:
        if feature.numel() != self.features.shape[1]:
            raise LibraryError(
                f"The sound's feature has {feature.numel()} values",
                f"This library's features have {self.features.shape[1]}",
                "Encode the sound with the encoder that the library was built with",
            )
        query = feature.detach().reshape(-1).float().cpu()
        scores, rows = torch.empty(len(self)), torch.empty(min(ROWS_AT_ONCE, len(self)), query.numel())
        for part, out in zip(self.features.split(ROWS_AT_ONCE), scores.split(ROWS_AT_ONCE), strict=True):
            torch.mv(rows[: part.shape[0]].copy_(part), query, out=out)
        return scores


def _descending(scores: Tensor, k: int) -> Iterator[int]:
    """Indices from the highest score down, sorted no further than they are asked for."""
    seen = 0
    take = min(len(scores), max(64, 8 * k))
    while seen < len(scores):
        order = scores.topk(take).indices.tolist() if take < len(scores) else scores.argsort(descending=True).tolist()
        yield from order[seen:]
        seen, take = take, min(len(scores), 8 * take)


def source_of(path: str) -> str:
    """What a picture was taken from: frames of one film share it, any other picture is its own."""
    stem, suffix = os.path.splitext(path)
    plain = FRAME.sub("", stem)
    return plain if plain and plain != stem else stem + suffix


def build(
    library: Library,
    encode_image: Callable[[Tensor], Tensor],
    index: str | Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    threads: int = 4,
    walk: Walk | None = None,
) -> BuildReport:
    """Bring an opened library up to date with its folder and save it.

    `encode_image` maps (B, 3, 224, 224) to unit vectors (B, D). `on_progress(done, total)` is called after each batch and
    may raise to stop; what is done is kept. `walk` looks through the folder (default: without limits). Raises
    `LibraryError` if the folder vanishes or the index cannot be written.
    """
    started = time.monotonic()
    walk = walk or Walk(library.folder)
    found = dict(find_pictures(walk))
    report = _drop_changed(library, found)
    report.outside = len(walk.outside)
    known = set(library.paths)
    new = sorted(path for path in found if path not in known)
    saved = started
    pending: list[tuple[list[str], Tensor]] = []  # merged when saved: appending each batch would copy all of it
    on_progress(0, len(new))
    try:
        with ThreadPoolExecutor(threads) as pool:
            for done, names, pixels in _decoded(library.folder, new, pool, report):
                began = time.perf_counter()
                if names:
                    pending.append((names, encode_image(pixels).detach().to("cpu", torch.float16)))
                    report.added += len(names)
                report.encoding_seconds += time.perf_counter() - began
                on_progress(done, len(new))
                if time.monotonic() - saved > SAVE_EVERY:
                    _merge(library, pending, found)
                    library.save(index)
                    saved = time.monotonic()
    finally:
        _merge(library, pending, found)
        if report.added or report.removed or not len(library):
            library.save(index)
        report.seconds = time.monotonic() - started
    return report


def find_pictures(walk: Walk) -> Iterator[tuple[str, tuple[int, int]]]:
    """Relative path and (bytes, time in ns) of each picture in the folder of a walk and below."""
    suffixes = picture_suffixes()
    for root, _, files in walk:
        for name in files:
            if name.lower().endswith(suffixes) and not name.startswith("."):
                path = os.path.join(root, name)
                try:
                    status = os.stat(path)
                except OSError:  # a link to nowhere, or gone since
                    continue
                yield os.path.relpath(path, walk.folder), (status.st_size, status.st_mtime_ns)


def _drop_changed(library: Library, found: dict[str, tuple[int, int]]) -> BuildReport:
    stamps = [tuple(stamp) for stamp in library.stamps.tolist()]
    same = [i for i, path in enumerate(library.paths) if found.get(path) == stamps[i]]
    gone = sum(path not in found for path in library.paths)
    changed = len(same) < len(library)
    if changed:
        library.paths = [library.paths[i] for i in same]
        library.stamps, library.features = library.stamps[same], library.features[same]
    return BuildReport(kept=len(same), removed=gone)


def _merge(library: Library, pending: list[tuple[list[str], Tensor]], found: dict[str, tuple[int, int]]) -> None:
    """Move what was encoded into the library."""
    if pending:
        names = [name for batch, _ in pending for name in batch]
        new = torch.cat([features for _, features in pending])
        library.features = torch.cat([library.features.reshape(-1, new.shape[1]), new])
        library.stamps = torch.cat([library.stamps, torch.tensor([found[name] for name in names], dtype=torch.int64)])
        library.paths = [*library.paths, *names]
        pending.clear()


def _decoded(folder: Path, names: list[str], pool, report: BuildReport):
    """(pictures done, names, pixels (B, 3, 224, 224)) for each batch; the next batch is read while one is encoded."""
    batches = [names[i : i + BATCH] for i in range(0, len(names), BATCH)]
    ahead = [[pool.submit(_read, folder / name) for name in batch] for batch in batches[:1]]
    done = 0
    for number, batch in enumerate(batches):
        if number + 1 < len(batches):
            ahead.append([pool.submit(_read, folder / name) for name in batches[number + 1]])
        results = [future.result() for future in ahead.pop(0)]
        good, pixels = [], []
        for name, (tensor, seconds) in zip(batch, results, strict=True):
            report.decoding_seconds += seconds
            if tensor is None:
                report.corrupt.append(name)
            else:
                good.append(name)
                pixels.append(tensor)
        if not good and not folder.is_dir():
            raise LibraryError(
                f"The folder {folder} disappeared", "It must stay available while it is read", "Connect its drive again"
            )
        done += len(batch)
        yield done, good, torch.stack(pixels) if pixels else torch.zeros(0, 3, SIZE, SIZE)


def _read(path: Path) -> tuple[Tensor | None, float]:
    started = time.perf_counter()
    try:
        return image_input(open_picture(path, side=SIZE)), time.perf_counter() - started
    except (OSError, ValueError, MemoryError):
        return None, time.perf_counter() - started
