"""Bars with intervals, as SVG: it needs no library, and names in it are escaped."""

from __future__ import annotations

import math
from html import escape

from .statistics import Estimate

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 300, 46, 34, 60  # pixels: of a panel, and its margins
COLOURS = ("#3b6ea5", "#c9a24d", "#6a9955", "#aa3333", "#7b5ea7", "#4aa3a2")
TICKS = 4


def bars(panels: list[tuple[str, dict[str, Estimate], float, float, str]]) -> str:
    """Panels beside each other; each is (title, method -> estimate, lowest, highest value of the axis, format)."""
    width = WIDTH * len(panels)
    drawn = "".join(f'<g transform="translate({WIDTH * k},0)">{_panel(*panel)}</g>' for k, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="#333"><rect width="{width}" height="{HEIGHT}" fill="#fff"/>'
        f"{drawn}</svg>\n"
    )


def _panel(title: str, values: dict[str, Estimate], low: float, high: float, form: str) -> str:
    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>']
    for k in range(TICKS + 1):
        value = low + k * (high - low) / TICKS
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - 10}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    step = (WIDTH - LEFT - 10) / max(1, len(values))
    for k, (name, e) in enumerate(values.items()):
        x, wide = LEFT + (k + 0.5) * step, min(60.0, 0.6 * step)
        if not math.isnan(e.value):
            top = y(e.value)
            parts.append(
                f'<rect x="{x - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{y(low) - top:.1f}" '
                f'fill="{COLOURS[k % len(COLOURS)]}"/>'
            )
            parts.append(_text(x, y(low) - 6, form.format(e.value), "#fff"))
        if not math.isnan(e.low):
            ends = (
                f"M{x:.1f} {y(e.low):.1f}V{y(e.high):.1f}M{x - 6:.1f} {y(e.low):.1f}h12M{x - 6:.1f} {y(e.high):.1f}h12"
            )
            parts.append(f'<path d="{ends}" stroke="#111" fill="none" stroke-width="1.5"/>')
        for line, words in enumerate(_lines(name)):
            parts.append(_text(x, HEIGHT - BOTTOM + 18 + 14 * line, words, "#333"))
    return "".join(parts)


def _text(x: float, y: float, words: str, colour: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" fill="{colour}">{escape(words)}</text>'


def _lines(name: str, most: int = 14) -> list[str]:
    """A name on up to three lines."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + len(word) >= most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line[: most + 4] for line in lines[:3]]
