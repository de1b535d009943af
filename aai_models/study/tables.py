"""Tables as text, for a terminal and for a page in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .statistics import Estimate, Paired


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns are aligned, so that it reads well unrendered too."""
    cells = [[_cell(text) for text in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def with_interval(estimate: Estimate, digits: int = 3) -> str:
    """`0.812 (0.743-0.881)`, or the value alone where there is no interval."""
    if math.isnan(estimate.low):
        return number(estimate.value, digits)
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def p_value(p: float) -> str:
    return "-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def pairs_table(pairs: Sequence[Paired], unit: str) -> str:
    """Paired tests, one line for every two methods."""
    rows = [
        (
            f"{pair.first} - {pair.second}",
            with_interval(Estimate(pair.difference, pair.low, pair.high, pair.count)),
            number(pair.effect, 2),
            p_value(pair.p),
            p_value(pair.p_holm),
            str(pair.count),
        )
        for pair in pairs
    ]
    return markdown(("methods", "difference (95 %)", "d", "p", "p, Holm", unit), rows)


def _cell(text: str) -> str:
    """A name may hold what Markdown or a terminal takes for its own."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain.replace("|", "\\|").replace("<", "&lt;")
