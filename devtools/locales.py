"""What an artist reads on the nodes, in the languages of ComfyUI: `locales/`, from one dictionary for each language."""

from __future__ import annotations

import json
import re
from pathlib import Path

from .report import say

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "locales"
TRANSLATIONS = Path(__file__).resolve().parent / "translations"
ENGLISH = Path(__file__).resolve().parent / "english.json"  # not under locales/: the nodes themselves speak English
LANGUAGES = ("ar", "es", "fa", "fr", "he", "ja", "ko", "pt-BR", "ru", "tr", "zh", "zh-TW")


def english(object_info: dict) -> dict:
    """Texts of the pack's nodes from `/object_info`, laid out as the editor's `nodeDefs.json`, and their categories."""
    nodes = {name: _of_node(info) for name, info in sorted(object_info.items()) if name.startswith("AAI_")}
    parts = {part for name in nodes for part in object_info[name]["category"].split("/")}
    return {"nodeDefs": nodes, "nodeCategories": {part: part for part in sorted(parts)}}


def _of_node(info: dict) -> dict:
    inputs = {}
    for group in ("required", "optional"):
        for name, (_, *rest) in info["input"].get(group, {}).items():
            options = rest[0] if rest else {}
            inputs[name] = {"name": options.get("display_name") or name, "tooltip": options.get("tooltip") or ""}
    tips = info.get("output_tooltips") or []
    outputs = {
        str(number): {"name": name, "tooltip": (tips[number] or "") if number < len(tips) else ""}
        for number, name in enumerate(info["output_name"])
    }
    texts = {"display_name": info["display_name"], "description": info["description"]}
    return texts | {"inputs": inputs, "outputs": outputs}


def english_texts() -> dict:
    """The English texts as they were last written."""
    return json.loads(ENGLISH.read_text(encoding="utf-8"))


def texts_of(layout: dict) -> list[str]:
    """Every text once, in order, without empty ones."""
    found: dict[str, None] = {}
    for value in layout.values():
        found |= dict.fromkeys(texts_of(value)) if isinstance(value, dict) else ({value: None} if value else {})
    return list(found)


def dictionary(language: str) -> dict[str, str]:
    """English text -> text in that language; a changed English text is missing until somebody translates it anew."""
    path = TRANSLATIONS / f"{language}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def translated(layout: dict, words: dict[str, str]) -> dict:
    """The layout with the texts of a dictionary, without those that it lacks: the editor shows English there."""
    found = {}
    for name, value in layout.items():
        if isinstance(value, dict):
            found[name] = translated(value, words)
        elif value in words:
            found[name] = escaped(words[value])
    return found


def files_of(language: str) -> dict[Path, str]:
    """What `locales/` holds for a language: path -> content, as ComfyUI reads it."""
    texts = translated(english_texts(), dictionary(language))
    folder, main = FOLDER / language, {"nodeCategories": texts["nodeCategories"]}
    return {folder / "nodeDefs.json": dumped(texts["nodeDefs"]), folder / "main.json": dumped(main)}


def missing(language: str) -> list[str]:
    """English texts that a language lacks."""
    known = dictionary(language)
    return [text for text in texts_of(english_texts()) if not known.get(text)]


def write_all(object_info: dict) -> None:
    """Write the English texts and `locales/`, and say what is still to be translated."""
    ENGLISH.write_text(dumped(english(object_info)), encoding="utf-8")
    for language in LANGUAGES:
        for path, content in files_of(language).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        if left := missing(language):
            say(f"devtools/translations/{language}.json lacks {len(left)} texts, the first is {left[0]!r}")


def dumped(texts: dict) -> str:
    return json.dumps(texts, indent=1, ensure_ascii=False) + "\n"


def escaped(text: str) -> str:
    """A text for the editor's translation library, to which `@ { } |` are syntax (vue-i18n's literal interpolation)."""
    return re.sub(r"[@{}|]", lambda sign: "{'" + sign[0] + "'}", text)
