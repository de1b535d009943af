"""Outlines of recordings for Load Sound's waveform: a route of the pack, answered while a thread still reads the file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections import OrderedDict

import folder_paths
from aiohttp import web

from ....aai_models.audio.outline import Outline
from ....aai_models.errors import ExplainedError

ROUTE = "/aai/outline"
KEPT = 16  # recordings whose outlines are remembered
PATIENCE = 0.4  # seconds that an answer waits for a short file to be read to its end
ABANDONED = 90.0  # seconds without a question, after which a file is not read on; a hidden page asks once a minute
BARS = 600  # of a waveform
log = logging.getLogger(__name__)


class Reading:
    """One recording, read in a thread of its own; only one is read at a time."""

    turn = threading.Semaphore(1)

    def __init__(self, path: str, stream: int):
        self.outline, self.problem, self.ended, self.given_up = Outline(), "", threading.Event(), False
        self._path, self._stream, self._asked = path, stream, time.monotonic()
        threading.Thread(target=self._read, daemon=True, name="aai-outline").start()

    def ask(self) -> None:
        """Somebody still looks at it."""
        self._asked = time.monotonic()

    def _is_wanted(self) -> bool:
        self.given_up = time.monotonic() - self._asked > ABANDONED
        return not self.given_up

    def _read(self) -> None:
        with self.turn:
            try:
                if self._is_wanted():
                    self.outline.trace(self._path, self._stream, self._is_wanted)
            except ExplainedError as error:
                self.problem = str(error)  # names the file, never where it lies
            except Exception:  # whatever a damaged file leads a decoder to
                log.exception("The waveform of %s cannot be drawn", os.path.basename(self._path))
                self.problem = "The waveform of this file cannot be drawn. ComfyUI's log says why."
        self.ended.set()


class Readings:
    """The last recordings that were asked for, by their content's place, size and time."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple, Reading] = OrderedDict()

    def of(self, path: str, stream: int) -> Reading:
        status = os.stat(path)
        key = (path, status.st_size, status.st_mtime_ns, stream)
        found = self._known.get(key)
        if found is None or found.given_up:
            found = self._known[key] = Reading(path, stream)
        self._known.move_to_end(key)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        found.ask()
        return found


READINGS = Readings()


def file_for(name: str) -> tuple[int, str]:
    """200 and the path of a file that lies in ComfyUI's folders, also where links lead; else 403 or 404 and a sentence."""
    outside = (403, "This file lies outside ComfyUI's folders.")
    if "\0" in name:
        return outside
    with contextlib.suppress(ValueError, OSError):  # of a name that no system takes
        plain, base = folder_paths.annotated_filepath(name)
        base = os.path.realpath(base or folder_paths.get_input_directory())
        path = os.path.realpath(os.path.join(base, plain))
        if os.path.commonpath([base, path]) != base:
            return outside
        if os.path.isfile(path):
            return 200, path
        return 404, "There is no such file in ComfyUI's folders."
    return outside


def _number(text: str | None, otherwise: float) -> float:
    with contextlib.suppress(TypeError, ValueError):
        if math.isfinite(value := float(text)) and value >= 0:
            return value
    return otherwise


async def answer(request: web.Request) -> web.Response:
    """?name=&stream=&start=&duration= -> what is known of the recording so far, and whether that is all."""
    asked = request.query
    status, found = file_for(asked.get("name", ""))
    if status != 200:
        return web.json_response({"error": found}, status=status)
    try:
        reading = READINGS.of(found, int(_number(asked.get("stream"), 0)))
    except OSError:  # gone since
        return web.json_response({"error": "There is no such file in ComfyUI's folders."}, status=404)
    await asyncio.to_thread(reading.ended.wait, PATIENCE)
    if reading.problem:
        return web.json_response({"error": reading.problem})  # the question was in order
    outline = reading.outline
    lufs = outline.lufs(_number(asked.get("start"), 0.0), _number(asked.get("duration"), 0.0) or None)
    known = {
        "complete": reading.ended.is_set() and not reading.given_up,
        "seconds": round(outline.seconds, 3),
        "peaks": outline.bars(BARS),
        "lufs": round(lufs, 1) if math.isfinite(lufs) else None,
    }
    return web.json_response(known, headers={"Cache-Control": "no-store"})


def register() -> None:
    """Add the route to the server of this process, where there is one."""
    # Not imported: without a running server the import would create one.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is not None:
        server.routes.get(ROUTE)(answer)
