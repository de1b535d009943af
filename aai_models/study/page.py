"""`page`: one static HTML page for people. It needs no server, names no method, and sends nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import mimetypes
import random
import re
import secrets
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..errors import StudyError
from .orders import latin_square, trials
from .record import Record, open_picture

HERE = Path(__file__).resolve().parent
PARTS = ("page.css", "page.js", "rules.js")  # of the page, beside its HTML
KEY = "key.json"  # which picture is whose; it stays with whoever leads the study
FORMAT = "aai-study-key"
PILOT_SOUNDS = 2
PLAYED = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")
SCORES_SECONDS, PREFERENCE_SECONDS = 8, 15  # that people need for a screen


@dataclass(frozen=True)
class PageSettings:
    """How the page is."""

    title: str = ""  # what participants read; it should not tell what is compared
    contact: str = ""  # whom they can ask
    consent: str = ""  # a text of the study's own, shown before the consent
    per_sound: int = 1  # prompts and seeds that are drawn for each sound
    checks: int = 2  # attention checks among the ratings; with any, one among the preferences too
    pilot: bool = False  # two sounds only, answers marked
    single: bool = False  # pictures and sounds inside the page
    methods: tuple[str, ...] = ()  # names of those to show; empty: all


def write_page(record: Record, settings: PageSettings) -> str:
    """Write the page of a comparison into `page` (a pilot: `pilot`) of its folder, and its key beside it; what to do next.

    Raises `StudyError` where no sound has pictures of all methods. Calling it again with the same pictures and settings
    writes the same study, so that answers stay valid.
    """
    keys = read_key(record.folder)
    methods = _methods(record, settings)
    items, left_out = _items(record, settings, methods, keys["salt"])
    random.Random(f"{keys['salt']} methods").shuffle(methods)
    folder = "pilot" if settings.pilot else "page"
    shown = [_shown(record, settings, item, methods, keys["salt"], folder) for item in items]
    study = _token(keys["salt"], "study", *(entry["id"] for entry in shown), str(settings.checks), str(settings.pilot))[
        :12
    ]
    keys["studies"][study] = {
        **{"pilot": settings.pilot, "checks": settings.checks, "methods": methods},
        "items": [
            {**item, "id": entry["id"], "pictures": [picture["id"] for picture in entry["pictures"]]}
            for item, entry in zip(items, shown, strict=True)
        ],
    }
    record.write(KEY, json.dumps(keys, indent=1, ensure_ascii=False).encode())
    page = _render(settings, study, shown, len(methods))
    record.write(f"{folder}/index.html", page.encode())
    return _told(record.folder / folder, settings, keys["studies"][study], left_out, len(page))


def read_key(folder: Path) -> dict:
    """The key of a comparison's studies, or a new one where there is none; raises `StudyError` for a damaged one."""
    try:
        keys = json.loads((folder / KEY).read_text(encoding="utf-8"))
        if keys["format"] != FORMAT or not isinstance(keys["salt"], str) or not isinstance(keys["studies"], dict):
            raise KeyError("format")
    except FileNotFoundError:
        return {"format": FORMAT, "version": 1, "salt": secrets.token_hex(16), "studies": {}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{folder / KEY} cannot be used ({type(error).__name__}: {error})",
            "It says which picture is by which method: without it no answer can be counted",
            "Restore it from a copy",
        ) from None
    return keys


def _methods(record: Record, settings: PageSettings) -> list[str]:
    known = [method.name for method in record.plan.methods]
    unknown = [name for name in settings.methods if name not in known]
    chosen = [name for name in known if not settings.methods or name in settings.methods]
    if unknown or len(chosen) < 2:
        raise StudyError(
            f"There is no method {unknown[0]!r}" if unknown else f"There is one method, {', '.join(chosen)}",
            f"At least two of {', '.join(known)} are compared",
            "Name methods of the comparison with --method",
        )
    return chosen


def _items(record: Record, settings: PageSettings, methods: list[str], salt: str) -> tuple[list[dict], list[str]]:
    """(sounds with a prompt and a seed, drawn by lot among those where every method has a picture; what was left out)."""
    if settings.per_sound < 1 or settings.checks < 0:
        raise StudyError(
            f"There are {settings.per_sound} pictures for a sound and {settings.checks} checks",
            "At least one picture, and no less than no check",
            "Correct --per-sound or --checks",
        )
    found, left_out = [], []
    for sound in record.plan.sounds:
        whole = [
            {"sound": sound.name, "prompt": prompt, "seed": seed}
            for prompt in range(len(record.plan.prompts))
            for seed in range(len(record.plan.seeds))
            if all(record.cell(sound.name, method, prompt, seed) is not None for method in methods)
        ]
        count = len(record.plan.prompts) * len(record.plan.seeds)
        if len(whole) < count:
            left_out.append(
                f"{sound.name}: {count - len(whole)} of {count} lack a picture of a method, and are not shown"
            )
        has_audio = sound.name in record.material and (record.folder / record.material[sound.name].audio).is_file()
        if not has_audio:
            left_out.append(f"{sound.name}: its sound is not there")
        elif whole:
            draw = random.Random(f"{salt} {sound.name}")
            found += sorted(
                draw.sample(whole, min(settings.per_sound, len(whole))), key=lambda item: (item["prompt"], item["seed"])
            )
    if settings.pilot:
        names = list(dict.fromkeys(item["sound"] for item in found))[:PILOT_SOUNDS]
        found = [item for item in found if item["sound"] in names]
    if not found:
        raise StudyError(
            "There is no sound with pictures of all methods",
            "Every participant compares all methods",
            "Make the comparison again, or leave a method out with --method",
        )
    return found, left_out


def _shown(record: Record, settings: PageSettings, item: dict, methods: list[str], salt: str, folder: str) -> dict:
    """An item as the page has it: files under names that say nothing."""
    place = (item["sound"], str(item["prompt"]), str(item["seed"]))
    pictures = []
    for method in methods:
        path = record.cell(item["sound"], method, item["prompt"], item["seed"])
        if path is None:
            raise StudyError(f"The picture of {method} was removed", "It was there a moment ago", "Run `page` again")
        buffer = io.BytesIO()
        open_picture(path).save(buffer, "PNG", optimize=True)  # without the workflow that ComfyUI writes into it
        content = buffer.getvalue()
        name = _token(salt, method, *place, hashlib.sha256(content).hexdigest())
        pictures.append({"id": name, "file": _media(record, settings, folder, f"{name}.png", content)})
    audio = record.folder / record.material[item["sound"]].audio
    if audio.suffix.lower() not in PLAYED:
        raise StudyError(f"{audio} is no sound that browsers play", f"They play {', '.join(PLAYED)}", "Make it again")
    content = audio.read_bytes()
    name = _token(salt, "sound", item["sound"], hashlib.sha256(content).hexdigest())
    sound = _media(record, settings, folder, f"{name}{audio.suffix.lower()}", content)
    return {"id": _token(salt, "item", *place, *(p["id"] for p in pictures)), "sound": sound, "pictures": pictures}


def _media(record: Record, settings: PageSettings, folder: str, name: str, content: bytes) -> str:
    """Where the page finds a file: beside it, or inside it."""
    if settings.single:
        kind = (
            {".flac": "audio/flac"}.get(Path(name).suffix)
            or mimetypes.guess_type(name)[0]
            or "application/octet-stream"
        )
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"
    record.write(f"{folder}/media/{name}", content)
    return f"media/{name}"


def _token(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def languages() -> dict[str, dict[str, str]]:
    """Code -> texts of the page, English first."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (HERE / "languages").glob("*.json")}
    return {code: found[code] for code in sorted(found, key=lambda code: (code != "en", found[code]["name"]))}


def _render(settings: PageSettings, study: str, items: list[dict], methods: int) -> str:
    data = {
        **{"study": study, "pilot": settings.pilot, "title": settings.title, "contact": settings.contact},
        **{"consent": settings.consent, "methods": methods, "items": items, "checks": settings.checks},
        **{"square": latin_square(methods), "itemSquare": latin_square(len(items)), "languages": languages()},
    }
    # Inside a script element only "</script" and "<!--" could end or change it.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    style, screens, rules = ((HERE / "web" / name).read_text(encoding="utf-8") for name in PARTS)
    script = f"{screens}\n{rules}"
    policy = "; ".join(
        (
            "default-src 'none'",  # nothing can be sent: no connection, no form, no frame
            f"script-src {_hash_source(script)}",
            f"style-src {_hash_source(style)}",
            "img-src 'self' file: data:",
            "media-src 'self' file: data:",
            "form-action 'none'",
            "base-uri 'none'",
        )
    )
    values = {"POLICY": policy, "TITLE": escape(settings.title), "STYLE": style, "SCRIPT": script, "DATA": text}
    page = (HERE / "web" / "page.html").read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda place: values[place[1]], page)  # at once: a title may hold such a name too


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _told(folder: Path, settings: PageSettings, study: dict, left_out: list[str], size: int) -> str:
    """What was written, and how the study goes on."""
    screens = trials(1, len(study["items"]), len(study["methods"]), study["checks"])
    rows = len(latin_square(len(study["methods"])))
    seconds = sum(PREFERENCE_SECONDS if trial.order else SCORES_SECONDS for trial in screens)
    lines = [
        f"{folder / 'index.html'}: {len(study['items'])} sounds x {len(study['methods'])} methods, {len(screens)} screens, "
        f"about {max(1, round(seconds / 60))} minutes",
        f"Participants have the numbers 1, 2, 3...; the order is balanced over every {rows}.",
        f"One file of {size / 1e6:.1f} MB: give it to anybody."
        if settings.single
        else "Give people the whole folder, with its folder media; or write one file with --single.",
        f"Keep {KEY} to yourself: it says which picture is whose.",
    ]
    return "\n".join([*lines, *left_out])
