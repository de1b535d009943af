"""A walk through a folder that knows its limits: links that lead out, folders without end, a person who cancels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import LibraryError

TELL_EVERY = 1000  # files between two calls of `on_progress`


class Walk:
    """The folders below one, each once, also where links go round; hidden folders are left out.

    Iterates over (folder, names of its folders, names of its files), from the top; a folder that is taken out of the
    second list is not entered. `may_follow(path)` decides whether what a link leads to may be read: what it refuses
    stands in `outside`. `on_progress(files seen)` may raise to stop. Raises `LibraryError` after `most` files.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        may_follow: Callable[[str], bool] | None = None,
        most: int | None = None,
        on_progress: Callable[[int], None] = lambda seen: None,
    ):
        self.folder = Path(folder)
        self.outside: list[str] = []  # links that were not followed, relative to `folder`
        self.closed: list[str] = []  # folders that cannot be opened, relative to `folder`
        self.seen = 0  # files and folders so far
        self._may_follow, self._most, self._on_progress = may_follow, most, on_progress

    def __iter__(self) -> Iterator[tuple[str, list[str], list[str]]]:
        ways, entered = [str(self.folder)], set()
        while ways:
            place = ways.pop()
            real = os.path.realpath(place)  # a link's target; also of what Windows calls a junction
            if real in entered:
                continue
            if place != str(self.folder) and not self._may_enter(real):
                self.outside.append(os.path.relpath(place, self.folder))
                continue
            entered.add(real)
            folders, files = self._look_into(place)
            yield place, folders, files
            ways += [os.path.join(place, name) for name in reversed(folders)]

    def _may_enter(self, real: str) -> bool:
        return self._may_follow is None or self._may_follow(real)

    def _look_into(self, place: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files in a folder, sorted."""
        folders, files = [], []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    self._count()
                    if _is_folder(entry):
                        folders += [] if entry.name.startswith(".") else [entry.name]
                    elif entry.is_symlink() and not self._may_enter(os.path.realpath(entry.path)):
                        self.outside.append(os.path.relpath(entry.path, self.folder))
                    else:
                        files.append(entry.name)
        except OSError:
            self.closed.append(self.folder.name if place == str(self.folder) else os.path.relpath(place, self.folder))
        return sorted(folders), sorted(files)

    def _count(self) -> None:
        self.seen += 1
        if self.seen % TELL_EVERY == 0:
            self._on_progress(self.seen)
        if self._most is not None and self.seen > self._most:
            raise LibraryError(
                f"{self.folder.name or self.folder} and the folders in it hold more than {self._most:,} files",
                "So many are not looked through",
                "Choose a folder with fewer files, for instance the one with the pictures alone",
            )


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link whose target cannot be looked at
        return False
