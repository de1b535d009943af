"""The plan of a comparison: a JSON file that names sounds, prompts, seeds, a sampler, models and methods."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import StudyError

WORD, INVERSION, ADAPTER, UNTRAINED, FOLDER = "word", "inversion", "adapter", "untrained", "folder"
# Kinds of methods, with the names that people read. The first three are the rows of Fig. 5a that need no other system.
KINDS = {
    WORD: "plain word",
    INVERSION: "textual inversion",
    ADAPTER: "sound + adapter",
    UNTRAINED: "sound, untrained",
    FOLDER: "",
}
PLACE = "{}"  # in a prompt, where the word stands
MOST_REFERENCES = 5  # inputs of Train Audio Token
SAMPLER = {"steps": 25, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal"}
KEYS = {
    *("name", "models", "size", "negative", "sampler", "training", "untrained", "prompts", "seeds"),
    *("sounds", "methods", "about"),
}
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Sound:
    """One column of Fig. 5a."""

    name: str
    word: str  # what the plain word's method writes in its prompts
    label: str  # what it is: the class of AIC and the word of the text score
    audio: dict  # {"file", "start", "duration"}, or {"pocket": inputs of Pocket Sound}
    references: list  # of pictures to learn from: file names, or inputs of Pocket Scene
    held_out: list  # of pictures that no method has seen, in the same form


@dataclass(frozen=True)
class Method:
    """One row of Fig. 5a."""

    name: str
    kind: str  # a key of `KINDS`
    folder: str  # of another system's pictures; empty for what ComfyUI makes


@dataclass(frozen=True)
class Plan:
    """What is compared; `base` is the folder that file names are relative to."""

    name: str
    base: Path
    models: dict
    size: tuple[int, int]  # width, height in pixels
    negative: str
    sampler: dict
    training: dict
    untrained: dict
    prompts: list[str]
    seeds: list[int]
    sounds: list[Sound]
    methods: list[Method]
    raw: dict  # as it was read

    def cells(self) -> list[tuple[Sound, Method, int, int]]:
        """(sound, method, number of the prompt, number of the seed), those of one word behind each other."""
        return [
            (sound, method, prompt, seed)
            for sound in self.sounds
            for method in self.methods
            for prompt in range(len(self.prompts))
            for seed in range(len(self.seeds))
        ]


def read_plan(path: Path) -> Plan:
    """Read and check a plan; raises `StudyError` that names the first thing which is wrong."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(
            f"There is no file {path}", "A plan is a JSON file", "Begin with a copy of a plan in aai_models/study/plans"
        ) from None
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path.name} cannot be read ({error})", "A plan is a JSON file in UTF-8", "Correct that place"
        ) from None
    return parse_plan(raw, path.parent, path.stem)


def parse_plan(raw: object, base: Path, name: str = "comparison") -> Plan:
    """A plan from what its JSON holds; raises `StudyError`."""
    table = _table(raw, "The plan")
    unknown = sorted(set(table) - KEYS)
    if unknown:
        raise _wrong(f"the key {unknown[0]!r}", f"one of {', '.join(sorted(KEYS))}")
    sounds = [_sound(entry, number) for number, entry in enumerate(_filled(table, "sounds"), start=1)]
    methods = [_method(entry) for entry in table.get("methods", [WORD, INVERSION, ADAPTER, UNTRAINED])]
    _require_distinct([sound.name for sound in sounds], "sounds")
    _require_distinct([method.name for method in methods], "methods")
    plan = Plan(
        name=str(table.get("name") or name),
        base=base,
        models=_models(table.get("models")),
        size=_size(table.get("size", [512, 512])),
        negative=str(table.get("negative", "")),
        sampler={**SAMPLER, **_table(table.get("sampler", {}), "sampler")},
        training=_table(table.get("training", {}), "training"),
        untrained=_table(table.get("untrained", {}), "untrained"),
        prompts=[_prompt(text) for text in _filled(table, "prompts")],
        seeds=[_seed(seed) for seed in _filled(table, "seeds")],
        sounds=sounds,
        methods=methods,
        raw=table,
    )
    _require_distinct(plan.prompts, "prompts")
    _require_distinct([str(seed) for seed in plan.seeds], "seeds")
    trained = [method.name for method in methods if method.kind in (INVERSION, ADAPTER)]
    without = [sound.name for sound in sounds if not sound.references]
    if trained and without:
        raise _wrong(f"no references of the sound {without[0]!r}", f"3 to 5 pictures for the method {trained[0]!r}")
    return plan


def slug(text: str) -> str:
    """A name for files: letters, digits, '-' and '_' of any language."""
    plain = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", text)).strip("_")[:60]
    return plain.encode()[:90].decode(errors="ignore") or "unnamed"


def distinct_slugs(names: Iterable[str]) -> dict[str, str]:
    """Names with file names of which no two are equal, on systems that ignore case neither."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain, number = slug(name), 1
        free = plain
        while free.casefold() in taken:
            number += 1
            free = f"{plain}-{number}"
        taken.add(free.casefold())
        found[name] = free
    return found


def _wrong(found: str, expected: str) -> StudyError:
    return StudyError(f"The plan has {found}", f"Expected is {expected}", "Correct the plan")


def _table(value: object, name: str) -> dict:
    if not isinstance(value, dict):
        raise StudyError(f"{name} is {str(value)[:60]!r}", "It must be a JSON object, {...}", "Correct the plan")
    return {str(key): entry for key, entry in value.items()}


def _filled(table: dict, key: str) -> list:
    value = table.get(key)
    if not isinstance(value, list) or not value:
        raise _wrong(f"no {key}", f"a list of at least one under {key!r}")
    return value


def _require_distinct(names: list[str], what: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong(f"{twice!r} twice among its {what}", "that each is there once")


def _models(value: object) -> dict:
    table = _table(value, "models")
    if set(table) == {"pocket"} or set(table) == {"checkpoint", "encoder"}:
        return table
    raise _wrong(f"models with the keys {sorted(table)}", '{"checkpoint": ..., "encoder": ...} or {"pocket": {}}')


def _size(value: object) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2:
        width, height = value
        if all(type(side) is int and 64 <= side <= 4096 and side % 8 == 0 for side in value):
            return width, height
    raise _wrong(f"the size {value!r}", "[width, height] in pixels, multiples of 8 from 64 to 4096")


def _prompt(value: object) -> str:
    if isinstance(value, str) and value.count(PLACE) == 1:
        return value
    raise _wrong(f"the prompt {value!r}", "a text with one {} where the word stands, as in 'a photo of a {}'")


def _seed(value: object) -> int:
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise _wrong(f"the seed {value!r}", "a whole number, 0 or greater")


def _sound(value: object, number: int) -> Sound:
    table = _table(value, f"Sound {number}")
    unknown = sorted(set(table) - {"name", "word", "label", "audio", "references", "held_out"})
    name = str(table.get("name") or "").strip()
    if unknown or not name:
        raise _wrong(
            f"a sound {number} with {'no name' if not name else f'the key {unknown[0]!r}'}",
            "name, word, label, audio, references and held_out",
        )
    word = str(table.get("word") or name)
    references = _pictures(table.get("references", []), name)
    if len(references) > MOST_REFERENCES:
        raise _wrong(f"{len(references)} references of the sound {name!r}", f"at most {MOST_REFERENCES}")
    label = str(table.get("label") or word)
    return Sound(
        name, word, label, _audio(table.get("audio"), name), references, _pictures(table.get("held_out", []), name)
    )


def _audio(value: object, name: str) -> dict:
    if isinstance(value, str) and value:
        return {"file": value, "start": 0.0, "duration": 10.24}
    if isinstance(value, dict) and (set(value) == {"pocket"} or "file" in value):
        return value if "pocket" in value else {"start": 0.0, "duration": 10.24, **value}
    raise _wrong(f"the audio {value!r} of the sound {name!r}", "a file's name, or {'pocket': {...}}")


def _pictures(value: object, name: str) -> list:
    if isinstance(value, list) and all(
        isinstance(v, str) or (isinstance(v, dict) and set(v) == {"pocket"}) for v in value
    ):
        return value
    raise _wrong(f"the pictures {value!r} of the sound {name!r}", "a list of file names, or of {'pocket': {...}}")


def _method(value: object) -> Method:
    if isinstance(value, str):
        value = {"kind": value}
    table = _table(value, "A method")
    folder = str(table.get("folder") or "")
    kind = str(table.get("kind") or (FOLDER if folder else ""))
    name = str(table.get("name") or KINDS.get(kind, "")).strip()
    known = ", ".join(kind for kind in KINDS if kind != FOLDER)
    if set(table) - {"name", "kind", "folder"} or kind not in KINDS or (kind == FOLDER) != bool(folder) or not name:
        raise _wrong(f"the method {json.dumps(value)}", f"{known}, or a name and a folder of pictures")
    return Method(name, kind, folder)
