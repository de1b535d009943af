"""Edits at SD1.5's real size on a GPU, in a process of its own: prints a line of JSON. See bench_edit.py.

python edit_child.py edits ARGUMENTS_AS_JSON
"""

from __future__ import annotations

import statistics

from adapt_child import answer, clock

SIDE, STEPS, ROUNDS = 512, 20, 2


def edits(arguments: dict) -> dict:
    """What was run, and a row [N, seconds of a source and N edits, seconds of N + 1 plain runs] for each N of `arguments`."""
    from adapt_models import build

    model, clip, _ = build()
    rows = []
    for count in arguments["counts"]:
        taken = {edited: [], plain: []}
        for number in range(ROUNDS + 1):
            for run in (edited, plain) if number % 2 else (plain, edited):
                started = clock()
                run(model, clip, count)
                taken[run].append(clock() - started)
        rows.append([count, *(statistics.median(seconds[1:]) for seconds in taken.values())])
    return {"run": f"SD1.5's UNet in fp16, {STEPS} steps, {SIDE} px, {ROUNDS} rounds", "rows": rows}


def _prompts(clip, count: int) -> list:
    from aai_pack.nodes.host.base.prompt_words import encode

    texts = ("a sea along the beach", *(f"a sea with boats {n} along the beach" for n in range(count)), "blurry")
    return [encode(clip, text, {}) for text in texts]


def _sample(model, positive, negative, pictures: int = 1) -> None:
    import comfy.sample
    import torch

    latent = torch.zeros(pictures, 4, SIDE // 8, SIDE // 8)
    noise = comfy.sample.prepare_noise(latent, 3, [0] * pictures)
    comfy.sample.sample(
        model, noise, STEPS, 7.0, "euler", "normal", positive, negative, latent, seed=3, disable_pbar=True
    )


def edited(model, clip, count: int) -> None:
    import torch
    from aai_pack.nodes.host.inject import edits, prompt_to_prompt

    with torch.inference_mode():
        source, *targets, negative = _prompts(clip, count)
        planned = edits.plan(source, targets, edits.EditSettings(), 1, None)
        _sample(prompt_to_prompt.patched(model), planned, negative, 1 + count)


def plain(model, clip, count: int) -> None:
    import torch

    with torch.inference_mode():
        *prompts, negative = _prompts(clip, count)
        for prompt in prompts:
            _sample(model, prompt, negative)


if __name__ == "__main__":
    answer(edits)
