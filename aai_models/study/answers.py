"""Files of answers: read, checked against the study that they belong to, and merged."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import StudyError
from .orders import CHECK, PREFERENCE, PREFERENCE_CHECK, RATING, SCORES, Trial, trials

FORMAT, LIST = "aai-study-answers", "aai-study-answers-list"
MOST_BYTES = 50_000_000  # of a file of answers


@dataclass
class Participation:
    """What one person answered."""

    file: str
    study: str
    participant: str
    number: int
    language: str
    pilot: bool
    finished: bool
    answers: list[dict]
    comment: str
    is_whole: bool  # whether the checksum fits
    notes: list[str] = field(default_factory=list)

    def checks(self) -> list[bool]:
        """For each attention check, whether it was passed."""
        return [a["value"] == a["wanted"] for a in self.answers if a["part"] in (CHECK, PREFERENCE_CHECK)]

    def minutes(self) -> float:
        return sum(a["seconds"] for a in self.answers if math.isfinite(a["seconds"])) / 60


@dataclass
class Merged:
    """The participations that count, and what became of every other file."""

    counted: list[Participation] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # sentences without a full stop
    notes: list[str] = field(default_factory=list)


def find_files(paths: list[Path]) -> list[Path]:
    """Files, and those inside of folders, each once; raises `StudyError` for one that is not there."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*.json") if p.is_file())
        elif path.is_file():
            found.append(path)
        else:
            raise StudyError(f"There is no {path}", "Answers are the files that participants saved", "Correct the name")
    return list(dict.fromkeys(path.resolve() for path in found))


def read_file(path: Path, studies: dict) -> tuple[list[Participation], list[str]]:
    """(the participations of a file, why others in it cannot be used). `studies`: of `key.json`."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return [], [f"{path.name}: it cannot be read ({error})"]
    if isinstance(content, dict) and content.get("format") == LIST and isinstance(content.get("answers"), list):
        entries = content["answers"]
    else:
        entries = [content]
    found, problems = [], []
    for entry in entries:
        try:
            found.append(_participation(path.name, entry, studies))
        except _ProblemError as problem:
            problems.append(f"{path.name}: {problem}")
    return found, problems


class _ProblemError(Exception):
    """Why a file cannot be used."""


def _participation(file: str, entry: object, studies: dict) -> Participation:
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise _ProblemError("it is no file of answers")
    if entry.get("version") != 1:
        raise _ProblemError(f"it is of version {entry.get('version')!r}, and this reads version 1")
    study = entry.get("study")
    if not isinstance(study, str) or study not in studies:
        raise _ProblemError(f"it belongs to another study ({str(study)[:40]!r})")
    participant, number, answers = entry.get("participant"), entry.get("number"), entry.get("answers")
    if not isinstance(participant, str) or not 1 <= len(participant) <= 64 or not isinstance(answers, list):
        raise _ProblemError("it has no participant or no answers")
    if type(number) is not int or not 1 <= number <= 999_999:
        raise _ProblemError(f"its participant number is {str(number)[:40]!r}, and 1 to 999999 are possible")
    expected = _expected(number, studies[study])
    if len(answers) > len(expected):
        raise _ProblemError(f"it has {len(answers)} answers, and the study asks for {len(expected)}")
    pairs = zip(answers, expected[: len(answers)], strict=True)
    checked = [_answer(a, trial, place, studies[study]) for place, (a, trial) in enumerate(pairs)]
    return Participation(
        file=file,
        study=study,
        participant=participant,
        number=number,
        language=str(entry.get("language", ""))[:12],
        pilot=bool(studies[study]["pilot"]),
        finished=len(answers) == len(expected),
        answers=checked,
        comment=str(entry.get("comment", ""))[:4000],
        is_whole=entry.get("checksum") == checksum_of(study, participant, number, checked),
    )


def _expected(number: int, study: dict) -> list[Trial]:
    return trials(number, len(study["items"]), len(study["methods"]), study["checks"])


def _answer(given: object, trial: Trial, place: int, study: dict) -> dict:
    """One answer, with what it must be by the order of its participant."""
    if not isinstance(given, dict) or given.get("part") != trial.part or given.get("trial") != place:
        raise _ProblemError(f"answer {place + 1} is not what its participant was asked")
    seconds, value = given.get("seconds"), given.get("value")
    is_time = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds < math.inf
    answer: dict = {"part": trial.part, "trial": place, "seconds": float(seconds) if is_time else math.nan}
    answer["heard"] = given.get("heard") is True
    if trial.part == PREFERENCE:
        item = study["items"][trial.item]
        answer |= {
            "item": item["id"],
            "order": [item["pictures"][m] for m in trial.order],
            "picture": given.get("picture"),
        }
        is_right = given.get("item") == answer["item"] and given.get("order") == answer["order"]
        if not is_right or answer["picture"] not in answer["order"]:
            raise _ProblemError(f"answer {place + 1} names pictures that were not shown")
        return answer
    most = len(trial.order) if trial.part == PREFERENCE_CHECK else SCORES[-1]
    if type(value) is not int or not 1 <= value <= most:
        raise _ProblemError(f"answer {place + 1} is {str(value)[:40]!r}, and 1 to {most} are possible")
    answer["value"] = value
    if trial.part == RATING:
        item = study["items"][trial.item]
        answer |= {"item": item["id"], "picture": item["pictures"][trial.method]}
        if given.get("item") != answer["item"] or given.get("picture") != answer["picture"]:
            raise _ProblemError(f"answer {place + 1} names a picture that was not shown")
    elif given.get("wanted") != trial.wanted:
        raise _ProblemError(f"answer {place + 1} is not the check that was asked")
    else:
        answer["wanted"] = trial.wanted
    return answer


def checksum_of(study: str, participant: str, number: int, answers: list[dict]) -> str:
    """FNV-1a of what matters, as `rules.js` computes it: it notices a slip, not an intent."""
    lines = [study, participant, str(number)]
    for a in answers:
        parts = [a["trial"], a["part"], *(a.get(k, "") for k in ("item", "picture", "wanted", "value"))]
        lines.append(",".join(map(str, [*parts, " ".join(a.get("order", []))])))
    value = 0x811C9DC5
    for byte in "\n".join(lines).encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{value:08x}"


def merge(found: list[Participation], *, pilot: bool, unfinished: bool, edited: bool, failed: float) -> Merged:
    """One participation of each person, without those that do not count; every one that is left out is named."""
    merged = Merged()
    latest: dict[str, Participation] = {}
    for one in found:
        other = latest.get(one.participant)
        if other is None:
            latest[one.participant] = one
            continue
        more, less = (one, other) if len(one.answers) > len(other.answers) else (other, one)
        is_earlier = _given(less) == _given(more)[: len(less.answers)]
        told = (
            "the same answers" if len(less.answers) == len(more.answers) else f"{len(less.answers)} of the same answers"
        )
        told = told if is_earlier else "other answers of the same participant; those of the longer file count"
        merged.left_out.append(f"{less.file}: {told}, beside {more.file}")
        latest[one.participant] = more
    for one in latest.values():
        reason = _reason(one, pilot, unfinished, edited, failed)
        if reason:
            merged.left_out.append(f"{one.file}: {reason}")
        else:
            merged.counted.append(one)
    numbers: dict[int, list[str]] = {}
    for one in merged.counted:
        numbers.setdefault(one.number, []).append(one.file)
        if not one.is_whole:
            merged.notes.append(f"{one.file} was changed after it was saved, and is counted as asked")
    twice = {number: files for number, files in numbers.items() if len(files) > 1}
    merged.notes += [
        f"number {number} was used by {len(files)} people: {', '.join(files)}" for number, files in twice.items()
    ]
    return merged


def _given(one: Participation) -> list[tuple]:
    return [(a.get("picture"), a.get("value")) for a in one.answers]


def _reason(one: Participation, pilot: bool, unfinished: bool, edited: bool, failed: float) -> str:
    """Why a participation does not count, or nothing."""
    checks = one.checks()
    missed = len(checks) - sum(checks)
    if one.pilot != pilot:
        return "it is of a pilot; --pilot reports those" if one.pilot else "it is of the study itself, not of a pilot"
    if not one.is_whole and not edited:
        return "it was changed after it was saved; --edited counts it all the same"
    if not one.answers:
        return "nothing was answered"
    if not one.finished and not unfinished:
        return f"stopped after {len(one.answers)} answers; --unfinished counts them"
    if checks and missed and missed >= failed * len(checks):
        return f"excluded: {missed} of {len(checks)} attention checks failed"
    return ""
