"""The demo's page: sounds to play beside what they became, one chapter for each thing that the pack does."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote

import av
import numpy as np

from .story import CHAPTERS, Chapter

STYLE = """
:root { --ink: #23262b; --soft: #68707a; --line: #e3e5e8; --card: #fff; --ground: #f7f6f3; --wave: #3b6ea5 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --soft: #9aa1aa; --line: #34383e; --card: #212429; --ground: #17191c; --wave: #7fb0e0 } }
body { font: 17px/1.6 system-ui, sans-serif; margin: 0; color: var(--ink); background: var(--ground) }
main { max-width: 64rem; margin: 0 auto; padding: 3rem 1.25rem 4rem }
h1 { font-size: 2.4rem; line-height: 1.15; margin: 0 0 .5rem } h2 { font-size: 1.5rem; margin: 3.5rem 0 .25rem }
p { max-width: 44rem; margin: .4rem 0 1rem } .lead { font-size: 1.2rem } .soft, figcaption { color: var(--soft) }
code { background: var(--line); padding: .1em .35em; border-radius: 4px; font-size: .9em }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1.25rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem; overflow: hidden }
.card .pictures { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem } .card img { width: 100%; border-radius: 6px }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-end; margin: 1rem 0 } figure { margin: 0 }
figcaption { font-size: .85rem; margin-top: .3rem } .row img { height: 9.5rem; border-radius: 6px }
img.wide { display: block; width: auto; max-width: 100%; border-radius: 8px; margin: 1rem 0; background: #fafafa }
svg { width: 100%; height: 4.5rem; display: block } svg path { stroke: var(--wave) } audio { width: 100%; height: 2.4rem }
.sound { width: 17rem } .curve { width: 22rem } .curve svg { height: 7rem } .problem { color: #b3261e }
table { border-collapse: collapse; font-size: .9rem } td, th { text-align: left; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid var(--line) } summary { cursor: pointer; margin-top: 3.5rem; font-weight: 600 }
"""
WIDTH, HEIGHT = 420, 120  # of a drawing, in its own units
SMALL = 200  # pixels: pictures up to this width stand in a row, wider ones alone


def peaks_of(path: Path, count: int) -> list[float]:
    """The peaks of `count` equal parts of a recording."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=8000)
        frames = [f.to_ndarray()[0] for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    samples = np.nan_to_num(np.concatenate(frames)) if frames else np.zeros(1)
    return [float(np.abs(part).max(initial=0.0)) for part in np.array_split(samples, count)]


def waveform_svg(path: Path) -> str:
    """Peaks of a recording as a drawing."""
    peaks = peaks_of(path, WIDTH // 2)
    middle, top = HEIGHT / 2, max([*peaks, 1e-6])
    bars = "".join(
        f"M{2 * x + 1} {middle - p / top * (middle - 4):.1f}V{middle + p / top * (middle - 4):.1f}"
        for x, p in enumerate(peaks)
    )
    return _svg(f'<path d="{bars}"/>', f"Waveform of {path.name}")


def loss_svg(losses: list[float]) -> str:
    """The loss of each step as dots and its running mean as a line."""
    values = np.asarray(losses)
    window = max(1, len(values) // 10)
    mean = np.convolve(np.pad(values, (window - 1, 0), mode="edge"), np.ones(window) / window, mode="valid")
    low, high = float(values.min()), float(max(values.max(), values.min() + 1e-9))
    x = np.linspace(6, WIDTH - 6, len(values))

    def y(series):
        return HEIGHT - 8 - (series - low) / (high - low) * (HEIGHT - 16)

    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="1.5"/>' for a, b in zip(x, y(values), strict=True))
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y(mean), strict=True))
    body = f'<g fill="#c9a24d">{dots}</g><polyline points="{line}" fill="none" stroke="#c0504d" stroke-width="2"/>'
    return _svg(body, f"Loss from {values[0]:.4g} to {values[-1]:.4g}")


def _svg(body: str, title: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
    return f'<svg {size} role="img" aria-label="{escape(title)}">{body}</svg>'


def _figure(content: str, caption: str, kind: str = "") -> str:
    return f'<figure class="{kind}">{content}<figcaption>{escape(caption)}</figcaption></figure>'


def _source(name: str) -> str:
    return f"files/{quote(name)}"


def _sound(name: str, files: Path) -> str:
    return f'{waveform_svg(files / name)}<audio controls preload="none" src="{_source(name)}"></audio>'


def _width(path: Path) -> int:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.width


def _pictures(names: list[str], files: Path, alt: str) -> str:
    """Small pictures in a row, large ones below it; what ComfyUI's own nodes only preview is left out."""
    pictures = [n for n in names if not n.endswith((".flac", ".wav", ".mp3")) and not n.startswith("ComfyUI_temp")]
    small = [name for name in pictures if _width(files / name) <= SMALL]
    images = "".join(f'<img src="{_source(name)}" alt="{escape(alt)}">' for name in small)
    wide = "".join(f'<img class="wide" src="{_source(n)}" alt="{escape(alt)}">' for n in pictures if n not in small)
    return (f'<div class="row">{images}</div>' if images else "") + wide


def _problem(entry: dict) -> str:
    return f'<p class="problem">{escape(entry["error"])}</p>' if entry.get("error") else ""


def _card(entry: dict, files: Path) -> str:
    """A sound and the pictures that it became."""
    shown = entry["page"]
    images = "".join(f'<img src="{_source(name)}" alt="{escape(entry["name"])}">' for name in entry["outputs"])
    prompt = next((text for text in shown["prompts"] if "<A" in text), "")
    sounds = "".join(_sound(name, files) for name in shown["sounds"])
    return (
        f'<div class="card">{sounds}<p><code>{escape(prompt)}</code></p>{_problem(entry)}'
        f'<div class="pictures">{images}</div></div>'
    )


def _body(entry: dict, files: Path) -> str:
    """What went into an example, how it was learned, and what came out."""
    shown = entry["page"]
    parts = [_figure(_sound(name, files), "the sound", "sound") for name in dict.fromkeys(shown["sounds"])]
    parts += [
        _figure(f'<img src="{_source(n)}" alt="reference">', f"picture {k}")
        for k, n in enumerate(shown["references"], start=1)
    ]
    if shown["losses"]:
        parts.append(_figure(loss_svg(shown["losses"]), f"loss of {len(shown['losses'])} steps", "curve"))
    prompts = " &nbsp; ".join(f"<code>{escape(text)}</code>" for text in shown["prompts"] if text)
    told = f"<p>{prompts}</p>" if prompts else ""
    inputs = f'<div class="row">{"".join(parts)}</div>' if parts else ""
    learning = "".join(f'<img class="wide" src="{_source(n)}" alt="the word as it learns">' for n in shown["learning"])
    return inputs + learning + told + _problem(entry) + _pictures(entry["outputs"], files, entry["name"])


def _chapter(chapter: Chapter, entry: dict, files: Path) -> str:
    return f"<section><h2>{escape(chapter.title)}</h2><p>{escape(chapter.text)}</p>{_body(entry, files)}</section>"


def _rest(entries: list[dict], files: Path) -> str:
    """Every example that ran, with its time; those that no chapter shows, whole."""
    rows = "".join(
        f"<tr><td>{escape(e['name'])}</td><td>{escape(e['status'])}</td><td>{e['seconds']} s</td></tr>" for e in entries
    )
    told = {chapter.example for chapter in CHAPTERS}
    others = "".join(f"<h2>{escape(e['name'])}</h2>{_body(e, files)}" for e in entries if e["name"] not in told)
    table = f"<table><tr><th>example workflow</th><th></th><th></th></tr>{rows}</table>"
    return f"<details><summary>All example workflows of this run</summary>{table}{others}</details>"


def render(version: str, note: str, entries: list[dict], gallery: list[dict], files: Path, comparison: str = "") -> str:
    """The whole page; pictures and sounds are referred to under `files/`. `comparison`: the page of one, to link to."""
    known = {entry["name"]: entry for entry in entries}
    cards = "".join(_card(entry, files) for entry in gallery)
    heard = (
        f"<h2>Press play</h2><p>Each sound became a word, and the word stands in the prompt below it. Nothing was trained "
        f'for this, and nothing but the sound says what it is.</p><div class="cards">{cards}</div>'
        if gallery
        else ""
    )
    chapters = "".join(_chapter(c, known[c.example], files) for c in CHAPTERS if c.example in known)
    title = "What does a sound look like?"
    compared = (
        f"<section><h2>Side by side</h2><p>The same prompts and seeds through the plain word, textual inversion, the sound "
        f'without training and the sound with its adapter: <a href="{quote(comparison)}">pictures and figures</a>.</p>'
        f'<a href="{quote(comparison)}"><img class="wide" src="{quote(comparison.rpartition("/")[0])}/sheet.png" '
        f'alt="a column for each sound, a row for each method"></a></section>'
        if comparison
        else ""
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>"
        f'<p class="lead">A recording becomes a word that a text-to-image model understands. Then you write with it.</p>'
        f'<p class="soft">{escape(note)} Made by ComfyUI {escape(version)} on this computer.</p>'
        f"{heard}{chapters}{compared}{_rest(entries, files)}</main></html>\n"
    )
