"""The demo's page: each sound as a player with its waveform, beside its references, loss curve and pictures."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote

import av
import numpy as np

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
section { border-top: 1px solid #ddd; padding: 1rem 0 }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-end }
figure { margin: 0 } figcaption { font-size: .8rem; color: #666 }
img { height: 160px; image-rendering: auto; border-radius: 4px }
.note { background: #fff6d8; padding: .6rem 1rem; border-radius: 4px }
svg { background: #f6f6f6; border-radius: 4px } code { background: #f2f2f2; padding: 0 .3em }
"""
WIDTH, HEIGHT = 420, 120  # of a drawing, in pixels


def waveform_svg(path: Path) -> str:
    """Peaks of a recording as a drawing."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=8000)
        frames = [f.to_ndarray()[0] for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    samples = np.nan_to_num(np.concatenate(frames)) if frames else np.zeros(1)
    peaks = [float(np.abs(part).max(initial=0.0)) for part in np.array_split(samples, WIDTH // 2)]
    middle, top = HEIGHT / 2, max([*peaks, 1e-6])
    bars = "".join(
        f"M{2 * x + 1} {middle - p / top * (middle - 4):.1f}V{middle + p / top * (middle - 4):.1f}"
        for x, p in enumerate(peaks)
    )
    return _svg(f'<path d="{bars}" stroke="#3b6ea5"/>', f"Waveform of {path.name}")


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
    body = f'<g fill="#c9a24d">{dots}</g><polyline points="{line}" fill="none" stroke="#a33" stroke-width="2"/>'
    return _svg(body, f"Loss from {values[0]:.4g} to {values[-1]:.4g}")


def _svg(body: str, title: str) -> str:
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg {size} role="img" aria-label="{escape(title)}">{body}</svg>'


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _section(entry: dict, files: Path) -> str:
    shown = entry["page"]
    parts = [
        _figure(f'{waveform_svg(files / name)}<br><audio controls src="files/{quote(name)}"></audio>', name)
        for name in shown["sounds"]
    ]
    parts += [_figure(f'<img src="files/{quote(n)}" alt="reference">', f"reference {n}") for n in shown["references"]]
    if shown["losses"]:
        parts.append(_figure(loss_svg(shown["losses"]), f"loss of {len(shown['losses'])} training steps"))
    parts += [_figure(f'<img src="files/{quote(name)}" alt="result">', name) for name in entry["outputs"]]
    prompts = " ".join(f"<code>{escape(text)}</code>" for text in shown["prompts"])
    problem = f"<p><b>{escape(entry.get('error', ''))}</b></p>" if entry.get("error") else ""
    head = (
        f"<h2>{escape(entry['name'])}</h2><p>{escape(entry['status'])} in {entry['seconds']} s; prompts: {prompts}</p>"
    )
    return f'<section>{head}{problem}<div class="row">{"".join(parts)}</div></section>'


def render(version: str, note: str, entries: list[dict], files: Path) -> str:
    """The whole page; pictures and sounds are referred to under `files/`."""
    sections = "".join(_section(entry, files) for entry in entries)
    title = "Align, Adapt, Inject: sounds and their pictures"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f'<h1>{title}</h1><p>Made by ComfyUI {escape(version)}.</p><p class="note">{escape(note)}</p>{sections}</html>\n'
    )
