"""Loudness Scale on the MODEL against the same sampler without a patch."""

from __future__ import annotations

from .serving import Served, alternating, loaded, sampler, save_latent, served

ROUNDS, STEPS, SIDE = 15, 10, 128


def graph(at: Served, seed: int, scale: float | None) -> dict:
    prompt = loaded(at.stand_ins, [f"a sea {seed} with boats along the beach"], SIDE, SIDE)
    model, positive = ["1", 0], ["10", 0]
    if scale is not None:
        inputs = {"conditioning": positive, "mapping": "manual", "scale": scale, "reference": -23.0, "words": "boats"}
        inputs |= {"start": 0.0, "end": 1.0, "base": "own", "model": model}
        prompt["4"] = {"class_type": "AAI_LoudnessScale", "inputs": inputs}
        model, positive = ["4", 1], ["4", 0]
    return prompt | {"5": sampler(model, positive, ["2", 0], seed, STEPS), "6": save_latent(["5", 0])}


def measure(version: str) -> dict:
    with served(version) as at:
        timed = [
            ("scale 1.5", alternating(lambda n: at.seconds(graph(at, n, 1.5)), plain_of(at, 100), ROUNDS)),
            ("no patch", alternating(plain_of(at, 200), plain_of(at, 300), ROUNDS)),
        ]
    rows = [[name, f"{ours:.3f}", f"{peer:.3f}", f"{ratio:.3f}"] for name, (ours, peer, ratio) in timed]
    return {
        "title": f"scale: loudness on the model, ComfyUI {version}, {STEPS} steps, {SIDE} px, {ROUNDS} rounds",
        "columns": ["", "median s", "no patch (s)", "ratio (median)"],
        "rows": rows,
        "goal": "1.01, within what chance does to the second row",
    }


def plain_of(at: Served, offset: int):
    return lambda number: at.seconds(graph(at, offset + number, None))
