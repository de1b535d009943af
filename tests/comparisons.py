"""Comparisons and answers that tests make for themselves, without a server and without people."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
from aai_pack.aai_models.study.answers import checksum_of
from aai_pack.aai_models.study.orders import CHECK, PREFERENCE, PREFERENCE_CHECK, RATING, trials
from aai_pack.aai_models.study.plan import parse_plan
from aai_pack.aai_models.study.record import Material, Picture, Record, file_hash
from PIL import Image

HTML = '<img src=x onerror="alert(1)"></script><b>&amp;'  # a name that would like to be more


def write_wave(path: Path, frequency: float = 440.0, seconds: float = 0.4) -> None:
    samples = np.sin(np.arange(int(16000 * seconds)) * frequency / 16000 * 6.2832) * 12000
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.astype("<i2").tobytes())


def plan_of(
    base: Path, sounds=("rooster", "train", "cat"), methods=("word", "inversion", "untrained", "adapter"), **more
):
    """A plan on the pocket models whose sounds have those names."""
    scene = {"thing": "cat", "place": "snow", "colour": "red", "style": "photo", "loudness": 0.5, "seed": 0, "count": 1}
    entries = [
        {
            "name": name,
            "audio": {"pocket": {"thing": "cat", "loudness": 0.5, "seed": 1}},
            "references": [{"pocket": scene}],
        }
        for name in sounds
    ]
    table = {"name": "test", "models": {"pocket": {}}, "size": [128, 128], "prompts": ["a photo of a {}"], "seeds": [1]}
    return parse_plan({**table, "methods": list(methods), "sounds": entries, **more}, base)


def comparison(folder: Path, **plan) -> Record:
    """A comparison's folder as `make` leaves it, its pictures plain colours with a note in the file as ComfyUI's have."""
    record = Record(folder, plan_of(folder, **plan), "0")
    for number, sound in enumerate(record.plan.sounds):
        audio = f"sounds/{number}.wav"
        write_wave(folder / audio, 300 + 200 * number)
        record.material[sound.name] = Material(audio)
    for number, (sound, method, prompt, seed) in enumerate(record.plan.cells()):
        file = f"pictures/{number}.png"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        colour = (40 + 13 * number % 200, 90 + 29 * number % 150, 200 - 17 * number % 180)
        picture = Image.new("RGB", (64, 64), colour)
        from PIL.PngImagePlugin import PngInfo

        told = PngInfo()
        told.add_text("prompt", json.dumps({"method": method.name}))
        picture.save(folder / file, pnginfo=told)
        entry = Picture(sound.name, method.name, prompt, seed, file, "", str(number), file_hash(folder / file))
        record.pictures[entry.place] = entry
    record.save()
    return record


def answers(
    study_id: str, study: dict, number: int, rate, prefer, participant: str = "", count: int | None = None
) -> dict:
    """What the page would save for a participant. `rate(method, item)` gives 1..5, `prefer(item)` a method's name;
    `count`: how many answers until the person stopped."""
    methods, given = study["methods"], []
    screens = trials(number, len(study["items"]), len(methods), study["checks"])
    for place, trial in enumerate(screens[:count]):
        answer = {"part": trial.part, "trial": place, "seconds": 2.5, "heard": True}
        if trial.part in (CHECK, PREFERENCE_CHECK):
            given.append({**answer, "wanted": trial.wanted, "value": trial.wanted})
            continue
        item = study["items"][trial.item]
        answer["item"] = item["id"]
        if trial.part == RATING:
            answer |= {"picture": item["pictures"][trial.method], "value": rate(methods[trial.method], item)}
        elif trial.part == PREFERENCE:
            answer |= {"order": [item["pictures"][m] for m in trial.order]}
            answer["picture"] = item["pictures"][methods.index(prefer(item))]
        given.append(answer)
    participant = participant or f"{number:024x}"
    return {
        **{"format": "aai-study-answers", "version": 1, "study": study_id, "pilot": study["pilot"], "number": number},
        **{"participant": participant, "language": "en", "started": "", "ended": "", "comment": ""},
        **{"finished": len(given) == len(screens), "answers": given},
        "checksum": checksum_of(study_id, participant, number, given),
    }
