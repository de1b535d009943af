"""`collect`: answers of many people become means, shares, agreement, tests and a plot like Fig. 5b and c."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import StudyError
from ..files import write_atomically
from .answers import Merged, Participation, find_files, merge, read_file
from .orders import PREFERENCE, RATING, latin_square
from .page import KEY, read_key
from .plots import bars
from .statistics import (
    Estimate,
    Paired,
    bootstrap_interval,
    compare_pairs,
    krippendorff_alpha,
    participants_needed,
    t_interval,
)
from .tables import markdown, number, pairs_table, with_interval

REPORT, TABLE, PLOT, RESULTS = "report.md", "answers.csv", "figure_5bc.svg", "results.json"


@dataclass(frozen=True)
class CollectSettings:
    """What counts."""

    pilot: bool = False
    unfinished: bool = False
    edited: bool = False
    failed: float = 0.5  # share of attention checks whose failure excludes


@dataclass
class Results:
    """What the answers say, by method."""

    naturalness: dict[str, Estimate]
    preference: dict[str, Estimate]  # shares of the choices
    naturalness_pairs: list[Paired]
    preference_pairs: list[Paired]
    alpha_naturalness: float
    alpha_preference: float
    people: int


def collect(files: list[Path], folder: Path | None, out: Path | None, settings: CollectSettings) -> str:
    """Read, check and merge answers; write the report, the answers as CSV, the plot and the results; the report.

    Raises `StudyError` where nothing can be counted, and says why.
    """
    if not 0 < settings.failed <= 1:
        raise StudyError(
            f"--failed is {settings.failed}", "It is a share, above 0 and up to 1", "Give for instance 0.5"
        )
    paths = find_files(files)
    folder = folder or _folder_above(paths)
    keys = read_key(folder)
    if not keys["studies"]:
        raise StudyError(f"{folder} has no {KEY}", "`page` writes it", "Name the comparison's folder with --study")
    read = [(path, *read_file(path, keys["studies"])) for path in paths if path.name != KEY]
    found = [one for _, ones, _ in read for one in ones]
    merged = merge(
        found, pilot=settings.pilot, unfinished=settings.unfinished, edited=settings.edited, failed=settings.failed
    )
    merged.left_out = [problem for _, _, problems in read for problem in problems] + merged.left_out
    study = _one_study(merged)
    if study is None:
        told = "\n".join(merged.left_out) or "there are no files"
        raise StudyError(
            f"No answers can be counted:\n{told}\n", "At least one whole participation", "See the list above"
        )
    about = keys["studies"][study]
    results = analyse(merged.counted, about)
    text = report(results, merged, about)
    out = out or folder / ("results_of_pilot" if settings.pilot else "results")
    _write(out / REPORT, text + "\n")
    _write(out / TABLE, _as_csv(merged.counted, about))
    _write(out / PLOT, plot(results))
    _write(out / RESULTS, json.dumps(_as_json(results, merged), indent=1, ensure_ascii=False, allow_nan=False))
    return f"{text}\n\nwritten into {out}: {REPORT}, {TABLE}, {PLOT}, {RESULTS}"


def _folder_above(paths: list[Path]) -> Path:
    """The comparison's folder, which holds the key: that of the files or one above it."""
    for path in paths:
        for folder in path.parents:
            if (folder / KEY).is_file():
                return folder
    raise StudyError(
        f"No {KEY} lies beside the answers or above them",
        "It says which picture is by which method; `page` wrote it into the comparison's folder",
        "Name that folder with --study",
    )


def _one_study(merged: Merged) -> str | None:
    """The study that most of the answers belong to; those of others are left out."""
    counts: dict[str, int] = {}
    for one in merged.counted:
        counts[one.study] = counts.get(one.study, 0) + 1
    if not counts:
        return None
    study = max(counts, key=lambda name: counts[name])
    for one in [one for one in merged.counted if one.study != study]:
        merged.counted.remove(one)
        merged.left_out.append(f"{one.file}: it belongs to another page ({one.study}) than most ({study})")
    return study


def analyse(people: list[Participation], study: dict) -> Results:
    """All figures of the answers. Participants are what is independent: everything is first averaged for each of them."""
    methods, owner = list(study["methods"]), _owners(study)
    ratings: dict[str, dict[str, float]] = {name: {} for name in methods}
    shares: dict[str, dict[str, float]] = {name: {} for name in methods}
    for one in people:
        given = [(owner[a["picture"]], a["value"]) for a in one.answers if a["part"] == RATING]
        chosen = [owner[a["picture"]] for a in one.answers if a["part"] == PREFERENCE]
        for name in methods:
            own = [value for method, value in given if method == name]
            if own:
                ratings[name][one.participant] = sum(own) / len(own)
            if chosen:
                shares[name][one.participant] = chosen.count(name) / len(chosen)
    pictures = [picture for item in study["items"] for picture in item["pictures"]]
    return Results(
        naturalness={name: t_interval(list(values.values())) for name, values in ratings.items()},
        preference={name: bootstrap_interval(list(values.values())) for name, values in shares.items()},
        naturalness_pairs=compare_pairs(ratings),
        preference_pairs=compare_pairs(shares),
        alpha_naturalness=krippendorff_alpha(_ratings_of(people, pictures), "ordinal"),
        alpha_preference=krippendorff_alpha(_choices_of(people, study), "nominal"),
        people=len(people),
    )


def _owners(study: dict) -> dict[str, str]:
    """Picture -> the method that made it."""
    return {
        picture: method
        for item in study["items"]
        for method, picture in zip(study["methods"], item["pictures"], strict=True)
    }


def _ratings_of(people: list[Participation], pictures: list[str]) -> np.ndarray:
    """(participants, pictures), nan where a picture was not rated."""
    column = {picture: k for k, picture in enumerate(pictures)}
    matrix = np.full((len(people), len(pictures)), np.nan)
    for row, one in enumerate(people):
        for a in one.answers:
            if a["part"] == RATING:
                matrix[row, column[a["picture"]]] = a["value"]
    return matrix


def _choices_of(people: list[Participation], study: dict) -> np.ndarray:
    """(participants, items): the number of the method that was preferred."""
    column = {item["id"]: k for k, item in enumerate(study["items"])}
    owner, known = _owners(study), list(study["methods"])
    matrix = np.full((len(people), len(column)), np.nan)
    for row, one in enumerate(people):
        for a in one.answers:
            if a["part"] == PREFERENCE:
                matrix[row, column[a["item"]]] = known.index(owner[a["picture"]])
    return matrix


def report(results: Results, merged: Merged, study: dict) -> str:
    """The results as Markdown."""
    people, methods = merged.counted, study["methods"]
    minutes = [one.minutes() for one in people]
    heard = [a["heard"] for one in people for a in one.answers if a["part"] in (RATING, PREFERENCE)]
    passed = [ok for one in people for ok in one.checks()]
    lines = [
        f"{results.people} participants, {len(study['items'])} sounds, {len(methods)} methods; "
        f"{np.median(minutes):.1f} minutes in the middle; the sound was played for {100 * np.mean(heard):.0f} % of the "
        f"answers; {sum(passed)} of {len(passed)} attention checks passed",
        markdown(
            ("method", "naturalness, 1 to 5 (95 %)", "preferred, share (95 %)"),
            [(m, with_interval(results.naturalness[m], 2), with_interval(results.preference[m], 2)) for m in methods],
        ),
        "Naturalness: the mean over participants with Student's interval. Preference: the share of the choices, with a "
        f"bootstrap's interval over participants; chance is {1 / len(methods):.2f}.",
        f"Krippendorff's alpha: naturalness {number(results.alpha_naturalness, 2)} (ordinal), preference "
        f"{number(results.alpha_preference, 2)} (nominal); 1 is agreement, 0 is chance.",
        f"Naturalness, methods in pairs\n\n{pairs_table(results.naturalness_pairs, 'people')}",
        f"Preference, methods in pairs\n\n{pairs_table(results.preference_pairs, 'people')}",
        "Tests: sign-flip permutation over participants, two-sided; d is Cohen's of the paired differences.",
    ]
    if results.people < 2:
        lines.append("One participant says nothing about others: there are no intervals and no tests.")
    if merged.left_out:
        lines.append("\n".join([f"{len(merged.left_out)} not counted:", *(f"- {_plain(t)}" for t in merged.left_out)]))
    lines += [_plain(note) for note in merged.notes]
    comments = [f"- {_plain(one.comment)}" for one in people if one.comment.strip()]
    if comments:
        lines.append("\n".join(["Comments:", *comments]))
    return "\n\n".join(lines)


def _plain(text: str) -> str:
    """On one line, and nothing that a Markdown viewer takes for HTML."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()).replace("<", "&lt;")


def plot(results: Results) -> str:
    """Fig. 5b and c as SVG."""
    return bars(
        [
            ("(b) naturalness", results.naturalness, 1.0, 5.0, "{:.2f}"),
            ("(c) preference", {k: _percent(e) for k, e in results.preference.items()}, 0.0, 100.0, "{:.0f} %"),
        ]
    )


def _percent(e: Estimate) -> Estimate:
    return Estimate(100 * e.value, 100 * e.low, 100 * e.high, e.count)


def _as_csv(people: list[Participation], study: dict) -> str:
    """Every answer on a line, for other programs."""
    owner, buffer = _owners(study), io.StringIO()
    sound = {item["id"]: item["sound"] for item in study["items"]}
    table = csv.writer(buffer)
    columns = ("participant", "number", "language", "trial", "part", "sound", "method", "value", "wanted", "seconds")
    table.writerow((*columns, "heard"))
    for one in people:
        for a in one.answers:
            method = owner.get(a.get("picture", ""), "")
            row = (
                one.participant,
                one.number,
                one.language,
                a["trial"] + 1,
                a["part"],
                sound.get(a.get("item", ""), ""),
            )
            value = a.get("value", 1)  # of a preference: it was chosen
            cells = (*row, method, value, a.get("wanted", ""), a["seconds"], int(a["heard"]))
            table.writerow([_no_formula(cell) for cell in cells])
    return buffer.getvalue()


def _no_formula(cell):
    """A name that a spreadsheet would compute gets a quote in front."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell


def _as_json(results: Results, merged: Merged) -> dict:
    return {
        "participants": results.people,
        "naturalness": {name: _known(e._asdict()) for name, e in results.naturalness.items()},
        "preference": {name: _known(e._asdict()) for name, e in results.preference.items()},
        "alpha": _known({"naturalness": results.alpha_naturalness, "preference": results.alpha_preference}),
        "pairs": {
            "naturalness": [_known(pair._asdict()) for pair in results.naturalness_pairs],
            "preference": [_known(pair._asdict()) for pair in results.preference_pairs],
        },
        "left_out": merged.left_out,
        "notes": merged.notes,
    }


def _known(values: dict) -> dict:
    """JSON has no nan."""
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), StudyError, "the report")


def size_text(effect: float, power: float, alpha: float, methods: int) -> str:
    """How many participants find an effect between two of `methods` methods."""
    if not (0 < abs(effect) <= 10 and 0 < power < 1 and 0 < alpha < 1 and 2 <= methods <= 20):
        raise StudyError(
            f"effect {effect}, power {power}, alpha {alpha}, methods {methods}",
            "The effect lies between 0 and 10, power and alpha between 0 and 1, methods between 2 and 20",
            "Correct them",
        )
    pairs, rows = methods * (methods - 1) // 2, len(latin_square(methods))
    one, all_pairs = (participants_needed(abs(effect), power, a) for a in (alpha, alpha / pairs))
    return "\n".join(
        [
            f"To find a difference of d = {effect:g} with a chance of {100 * power:.0f} % at alpha = {alpha:g}:",
            f"- between two methods that were chosen beforehand: {_rounded(one, rows)}",
            f"- between any two of {methods} methods ({pairs} tests, each at {alpha / pairs:.4f}): {_rounded(all_pairs, rows)}",
            "d is the mean difference of two methods, divided by its standard deviation over participants. Invite some more: "
            "answers of those who fail the attention checks are not counted.",
        ]
    )


def _rounded(count: int, rows: int) -> str:
    whole = -(-count // rows) * rows
    return f"{count} participants" + (f", better {whole}, so that the order is balanced" if whole != count else "")
