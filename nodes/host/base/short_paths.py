"""What a browser is shown of paths: those that it wrote itself, and of all others the part that ComfyUI has a name for."""

from __future__ import annotations

import functools
import os
import re
from contextvars import ContextVar
from pathlib import Path

import folder_paths

from ....aai_models.errors import ExplainedError
from . import places

PACK = Path(__file__).resolve().parents[3]
# A path up to its last part: in quotes, where it may hold spaces, and without.
START = r"""(?:/+|[A-Za-z]:[\\/]+|\\\\+(?=\w))"""  # of this system, or of Windows: C:\x, \\machine\share
QUOTED = rf"""(?<=['"]){START}(?:[^'"\\/]+[\\/]+)*(?=[^'"\\/])"""
PLAIN = rf"""(?<![\w.:/\\~'"<]){START}(?:[^\s'"\\/]+[\\/]+)*(?=[^\s'"\\/])"""
ANY_PATH = re.compile(f"{QUOTED}|{PLAIN}")
_given: ContextVar[tuple[str, ...]] = ContextVar("aai_given", default=())


def without_paths(text: str) -> str:
    """`text` with each path of this machine that the browser did not give by its short name: `output/aai_tokens/x`."""
    if "/" not in text and "\\" not in text:
        return text
    given = _given.get()
    names = _names(given)
    known = sorted((form for path in names for form in {path, repr(path)[1:-1]}), key=len, reverse=True)
    names |= {repr(path)[1:-1]: name for path, name in names.items()}
    pattern = re.compile(rf"(?:{'|'.join(map(re.escape, known))})(?![\w-])|{ANY_PATH.pattern}")

    def shorten(match: re.Match) -> str:
        found = match[0]
        if found in names:
            return names[found]
        return found if any(found in text for text in given) else ""

    return pattern.sub(shorten, text)


def _names(given: tuple[str, ...]) -> dict[str, str]:
    """Folder -> what it is called. What the browser gave itself comes last, so that it counts."""
    names = {folder_paths.base_path: "ComfyUI", str(PACK): PACK.name, folder_paths.models_dir: "models"}
    names |= {path: kind for kind, entry in folder_paths.folder_names_and_paths.items() for path in entry[0]}
    names |= {path: name for name, path in places.named().items()}
    for kind in ("input", "output", "temp", "user"):
        names[getattr(folder_paths, f"get_{kind}_directory")()] = kind
    names |= {path: path for path in given if os.path.isabs(path) and "\0" not in path}
    names |= {os.path.realpath(path): name for path, name in [*names.items()]}
    return {path: name for path, name in names.items() if path.strip("/\\")}


def guard(node: type) -> type:
    """Let the node's errors and texts reach the browser without paths of this machine. Returns the node."""
    execute = node.__dict__["execute"].__func__
    if hasattr(execute, "__wrapped__"):
        return node

    @functools.wraps(execute)
    def run(cls, *args, **inputs):  # the host names every input; a script that imports the node need not
        token = _given.set(tuple(_texts([*args, *inputs.values()])))
        try:
            output = execute(cls, *args, **inputs)
            shown = output.ui if isinstance(getattr(output, "ui", None), dict) else {}
            if "text" in shown:
                output.ui = {**shown, "text": [without_paths(text) for text in shown["text"]]}
            return output
        except Exception as error:
            _strip(error)
            raise
        finally:
            _given.reset(token)

    node.execute = classmethod(run)
    return node


def _texts(inputs: list) -> list[str]:
    lists = [value if isinstance(value, list) else [value] for value in inputs]
    return [value.strip().strip("\"'") for values in lists for value in values if isinstance(value, str)]


def _strip(error: Exception) -> None:
    """Shorten the paths in an error, which stays the same object: the host notes its class and where it came from."""
    if isinstance(error, OSError):
        for name in ("filename", "filename2"):
            if isinstance(getattr(error, name), str):
                setattr(error, name, without_paths(getattr(error, name)))
    if isinstance(error, ExplainedError):
        error.found, error.expected, error.do = map(without_paths, (error.found, error.expected, error.do))
    error.args = tuple(without_paths(part) if isinstance(part, str) else part for part in error.args)
