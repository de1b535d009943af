"""What an edit adds to plain runs, counted in operations: on a GPU each is a launch, and a value that is read a wait."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from aai_pack.nodes.host.inject import edits, loudness, prompt_to_prompt, watch
from aai_pack.nodes.host.inject.latents import branch_latent
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, STEPS, TARGET, empty, encode, sample
from torch.utils._python_dispatch import TorchDispatchMode

# Names that cost nothing on a device: other views of the same memory, and what stands for the operations inside of it.
FREE = {"view", "_unsafe_view", "slice", "select", "unsqueeze", "squeeze", "transpose", "permute", "expand", "detach"}
FREE |= {"alias", "as_strided", "t", "split", "chunk", "unbind", "reshape", "_reshape_alias", "lift_fresh", "unfold"}
FREE |= {"flatten", "unflatten", "narrow", "detach_", "resolve_conj", "resolve_neg", "empty", "matmul"}
WAITS = {"item", "_local_scalar_dense", "is_nonzero", "equal", "nonzero"}  # the device has to finish first
LAYERS = 7  # that attend to words, in the small model
SMALL = 5  # of them, those where self-attention is injected: half the latent's size


class Operations(TorchDispatchMode):
    """Counts what is launched on a device, and what it is waited for."""

    def __init__(self):
        super().__init__()
        self.launches, self.waits = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        result = func(*args, **(kwargs or {}))
        if name in WAITS:
            self.waits[name] += 1
        elif name not in FREE and not (name in ("to", "contiguous") and result is args[0]):
            self.launches[name] += 1
        return result


def counted(run) -> tuple[int, int]:
    with torch.inference_mode(), Operations() as seen:
        run()
    return seen.launches.total(), seen.waits.total()


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(scope="module")
def negative(models):
    """The negative prompt of all runs; one run has gone before, so that the model is in its place."""
    found = encode(models, "blurry")
    with torch.inference_mode():
        sample(models[0], found, found, empty())
    return found


def plain_run(models, negative, prompt):
    return counted(lambda: sample(models[0], prompt, negative, empty() | {"batch_index": [0]}))


def edited_run(models, negative, targets, **settings):
    with torch.inference_mode():
        planned = edits.plan(encode(models, SOURCE), targets, edits.EditSettings(**settings), 1)
        patched, latent = prompt_to_prompt.patched(models[0]), branch_latent(empty(), 1 + len(targets))
    return counted(lambda: sample(patched, planned, negative, latent))


@pytest.mark.parametrize("count", [1, 2])
def test_an_edit_adds_little_to_each_layer(models, negative, count):
    """At each step: the source keeps one tensor a layer; an edit scales and gathers values, attends once more, adds it."""
    targets = [encode(models, f"{TARGET} and {n}") for n in range(count)]
    attention = plain_attention_launches(models)
    each, waits = plain_run(models, negative, targets[0])
    launched, waited = edited_run(models, negative, targets, cross_end=1.0, self_end=1.0)
    more, extra_waits = launched - (1 + count) * each, waited - (1 + count) * waits
    recorded = STEPS * (LAYERS + SMALL)
    injected = count * STEPS * (LAYERS * (3 + attention) + SMALL * 2)
    of_a_run = (1 + count) * 40  # noise, windows, mixes: once for a branch
    print(f"{count} edits: {launched} launches, {launched / ((1 + count) * each):.3f} of {1 + count} runs")
    assert more <= recorded + injected + of_a_run
    assert extra_waits <= (1 + count) * (STEPS + 25), "one for each call of the model, and some for each run"


def plain_attention_launches(models) -> int:
    """Launches of one of the host's attentions, as this machine has them."""
    import comfy.ldm.modules.attention as attention

    q, k = torch.randn(1, 24, 64), torch.randn(1, 77, 64)
    return counted(lambda: attention.optimized_attention(q, k, k, heads=8))[0]


def test_closed_windows_add_nothing_to_a_layer(models, negative):
    targets = [encode(models, TARGET)]
    each, _ = plain_run(models, negative, targets[0])
    launched, _ = edited_run(models, negative, targets, cross_end=0.0, self_end=0.0)
    assert launched - 2 * each <= 2 * 40


def test_nobody_waits_in_a_layer(models, negative):
    """With everything at work at once: waits come for each call of the model and do not grow with its layers."""
    targets = [loudness.scaled(encode(models, TARGET), "<A*>", 1.5, 0.0, 1.0, "own")]
    with torch.inference_mode():
        planned = edits.plan(encode(models, SOURCE), targets, edits.EditSettings(blend_words="sea"), 1)
        model, _ = watch.watched(loudness.patched(prompt_to_prompt.patched(models[0])), "<A*>, sea", 2, 2)
    _, waits = plain_run(models, negative, targets[0])
    _, waited = counted(lambda: sample(model, planned, negative, branch_latent(empty(), 2)))
    assert waited - 2 * waits <= 2 * (4 * STEPS + 40)


def test_a_scale_costs_one_launch_a_layer(models, negative):
    prompt = encode(models, TARGET)
    each, _ = plain_run(models, negative, prompt)
    marked = loudness.scaled(prompt, "<A*>", 1.5, 0.0, 1.0, "own")
    latent = empty() | {"batch_index": [0]}
    launched, _ = counted(lambda: sample(loudness.patched(models[0]), marked, negative, latent))
    assert launched - each <= STEPS * (LAYERS + 12) + 20
