"""Puts what the trainings made into the one file of weights that comes with the pack."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from ...pocket.models import weights
from ...pocket.models.hearing import as_stored
from .diffusion import load_autoencoder, load_model
from .judge_model import SHIPPED_JUDGE
from .words import TOKENS, Words

RUNS = ("autoencoder", "pictures", "pairs", "styles", "sounds")
CREDITS = (
    "The audio encoder was trained on synthesised sounds, and on ESC-10 (folds 1-3) of ESC-50, K. J. Piczak, 'ESC: Dataset "
    "for Environmental Sound Classification', ACM Multimedia 2015; ESC-10's recordings are by their authors on freesound.org "
    "under CC BY. None of them is contained here."
)


def collect(out: Path) -> tuple[dict, dict]:
    """(parts, about) of the runs in `out`; what was not trained there is taken from the weights that came with the pack."""
    model, sounds = load_model(out, "styles"), out / "sounds" / "weights.pt"
    parts = {
        "unet": model.unet.state_dict(),
        "text": text_part(model.words),
        "vae": load_autoencoder(out).state_dict(),
        "cavt": as_stored(torch.load(sounds, weights_only=True)) if sounds.is_file() else weights.load()[0]["cavt"],
    }
    former = weights.load()[1]["training"] if weights.PATH.is_file() else {}
    logs = {part: _last(out / part / "log.jsonl") or former.get(part, {}) for part in RUNS}
    return parts, {"tokens": TOKENS, "licence": "Apache-2.0", "credits": CREDITS, "training": logs}


def text_part(words: Words) -> dict:
    """The text encoder under the host's names, its rows of words, and those of things and styles without a word."""
    encoder = words.encoder
    rows = {"rows": encoder.token_embedding, "hidden": words.hidden, "styles": words.styles}
    return {**encoder.host_state_dict(), **{name: row.detach() for name, row in rows.items()}}


def _last(path: Path) -> dict:
    """The last line of a log."""
    return json.loads(path.read_text(encoding="utf-8").splitlines()[-1]) if path.is_file() else {}


def export(out: Path, path: Path = weights.PATH) -> Path:
    """Write the weights of the runs in `out`, and beside them the judge's where it was trained."""
    parts, about = collect(out)
    weights.save(parts, about, path)
    judge = out / "judge" / "weights.pt"
    if judge.is_file():
        packed = weights.pack(torch.load(judge, weights_only=True))
        save_file(
            packed,
            SHIPPED_JUDGE if path == weights.PATH else path.with_name("judge.safetensors"),
            metadata={"training": json.dumps(_last(judge.with_name("log.jsonl")))},
        )
    return path
