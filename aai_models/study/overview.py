"""`index.html` of a comparison: the sheets, the sounds to play, the figures, the workflows."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from .measures import Measure
from .record import Record
from .tables import p_value, with_interval

STYLE = """
:root { --ink: #23262b; --soft: #68707a; --line: #e3e5e8; --ground: #f7f6f3; color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e6e1; --soft: #9aa1aa; --line: #34383e; --ground: #17191c } }
body { font: 17px/1.6 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem;
  color: var(--ink); background: var(--ground) }
.scroll { overflow-x: auto } img { max-width: 100%; border-radius: 6px } .soft { color: var(--soft) }
table { border-collapse: collapse; font-size: .9rem } td, th { text-align: left; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top } audio { height: 2.2rem; max-width: 18rem }
summary { cursor: pointer; margin-top: 1.5rem }
"""


def write_overview(record: Record, measures: list[Measure] | None = None) -> None:
    """Write `index.html` into the folder of a comparison."""
    record.write("index.html", render(record, measures or []).encode())


def render(record: Record, measures: list[Measure]) -> str:
    """The page; every name in it is escaped."""
    plan = record.plan
    sounds = "".join(
        f'<tr><td>{escape(sound.name)}</td><td><audio controls preload="none" src="{_link(record, sound.name)}"></audio></td>'
        f"<td>{escape(sound.word)}</td></tr>"
        for sound in plan.sounds
    )
    sheets = "".join(
        f'<h3>{escape(prompt)}</h3><div class="scroll"><img src="sheets/prompt_{number}.png" '
        f'alt="a column for each sound, a row for each method"></div>'
        for number, prompt in enumerate(plan.prompts, start=1)
    )
    missing = "".join(f"<li>{escape(text)}</li>" for text in record.missing())
    told = f"<h2>Missing pictures</h2><ul>{missing}</ul>" if missing else ""
    about = escape(str(plan.raw.get("about", "")))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(plan.name)}</title><style>{STYLE}</style><h1>{escape(plan.name)}</h1><p>{about}</p>"
        f"<p>Every method drew the same prompts from the same seeds with the same sampler; only the word differs.</p>"
        f"{sheets}{_figures(record, measures)}<h2>The sounds</h2><table><tr><th>sound</th><th></th>"
        f"<th>its plain word</th></tr>{sounds}</table>{told}{_workflows(record)}"
        f'<p class="soft">Made by ComfyUI {escape(record.host)}.</p></html>\n'
    )


def _link(record: Record, sound: str) -> str:
    return quote(record.material[sound].audio) if sound in record.material else ""


def _figures(record: Record, measures: list[Measure]) -> str:
    known = [measure for measure in measures if not measure.absent and measure.values]
    if not measures:
        return ""
    head = "".join(f"<th>{escape(measure.key)}</th>" for measure in known)
    estimates = [measure.estimates() for measure in known]
    rows = "".join(
        f"<tr><td>{escape(method.name)}</td>"
        + "".join(f"<td>{with_interval(found[method.name])}</td>" for found in estimates)
        + "</tr>"
        for method in record.plan.methods
    )
    meaning = "".join(
        f"<li><b>{escape(m.key)}</b>: {escape(m.title)}. Encoder: {escape(m.encoder)}.</li>" for m in known
    )
    absent = "".join(f"<li><b>{escape(m.key)}</b>: not measured. {escape(m.absent)}</li>" for m in measures if m.absent)
    tests = "".join(_tests(measure) for measure in known)
    return (
        f'<h2>Figures</h2><div class="scroll"><table><tr><th>method</th>{head}</tr>{rows}</table></div>'
        f'<p class="soft">Means over sounds, with the 95 % interval of a bootstrap over sounds.</p>'
        f"<ul>{meaning}{absent}</ul><details><summary>Tests between methods</summary>{tests}</details>"
    )


def _tests(measure: Measure) -> str:
    rows = "".join(
        f"<tr><td>{escape(pair.first)} - {escape(pair.second)}</td><td>{pair.difference:+.3f}</td>"
        f"<td>{p_value(pair.p)}</td><td>{p_value(pair.p_holm)}</td></tr>"
        for pair in measure.pairs()
    )
    head = "<tr><th>methods</th><th>difference</th><th>p</th><th>p, Holm</th></tr>"
    return f"<h3>{escape(measure.key)}</h3><table>{head}{rows}</table>"


def _workflows(record: Record) -> str:
    rows = "".join(
        f'<li><a href="{quote(p.file)}">{escape(p.sound)}, {escape(p.method)}</a>'
        + (f' (<a href="{quote(p.workflow)}">workflow</a>)' if p.workflow else "")
        + "</li>"
        for p in record.pictures.values()
        if p.file
    )
    return f"<details><summary>All pictures and their workflows</summary><ul>{rows}</ul></details>"
