"""Exact prompt-to-prompt for any sampler: the source runs alone and is recorded, then each edit runs with its maps.

Works as a wrapper of the host's OUTER_SAMPLE, so every run of a branch is an ordinary run of the sampler.
"""

from __future__ import annotations

import logging

import comfy.patcher_extension
import torch
from torch import Tensor

from ....aai_models.errors import EditError
from ..base.patches import with_wrapper
from .branch_run import BranchRun
from .edits import TAG, Branch, sampled

log = logging.getLogger(__name__)
KEY = "aai_p2p"
WRAPPERS = comfy.patcher_extension.WrappersMP


def patched(model):
    """A clone of a ModelPatcher whose samplers understand the conditionings of `edits.plan`.

    Outermost, so that what other packs begin and end with a run (a cache of steps) begins and ends with each branch.
    """
    return with_wrapper(model, WRAPPERS.OUTER_SAMPLE, KEY, outer_sample, outermost=True)


def outer_sample(
    executor,
    noise,
    latent_image,
    sampler,
    sigmas,
    denoise_mask=None,
    callback=None,
    disable_pbar=False,
    seed=None,
    **kwargs,
):
    """Run the source, then each edit; the result holds all branches one after the other."""
    guider = executor.class_obj
    tag = _any_tag(guider.conds)
    if tag is None:
        log.info("Prompt-to-prompt: the sampler's conditioning holds no edit, so it samples as usual.")
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs)
    slices = _branch_rows(tag, noise.shape[0])
    connected, run = guider.conds, BranchRun(guider, tag)
    random = _random_state(torch.device(guider.model_patcher.load_device))
    outputs: list[Tensor] = []
    progress = _Progress(callback, tag.count)
    with run.installed():
        for number, rows in enumerate(slices):
            _restore(random)
            guider.conds = conditionings_of(connected, number)
            run.begin_branch(number)
            output = executor(
                noise[slices[0]].clone(),
                latent_image[rows].clone(),
                sampler,
                sigmas.clone(),
                _mask_rows(denoise_mask, rows, noise.shape[0]),
                progress.of_branch(number),
                disable_pbar,
                seed,
                **_shapes(kwargs, tag.pictures, noise.shape[0]),
            )
            source = outputs[0] if outputs else None
            outputs.append(run.finish_branch(output, source, latent_image[rows]))
    guider.conds = connected
    return torch.cat(outputs)


def conditionings_of(connected: dict, number: int) -> dict:
    """The conditionings of one branch; those without a tag belong to all branches."""
    return {
        key: [sampled(entry) for entry in entries if TAG not in entry or entry[TAG].number == number]
        for key, entries in connected.items()
    }


def _any_tag(connected: dict) -> Branch | None:
    return next((entry[TAG] for entries in connected.values() for entry in entries if TAG in entry), None)


def _branch_rows(tag: Branch, rows: int) -> list[slice]:
    """Rows of each branch in the sampler's latent; a latent of one branch serves all."""
    if rows == tag.pictures:
        return [slice(0, rows)] * tag.count
    if rows != tag.pictures * tag.count:
        raise EditError(
            f"The sampler got {rows} latents",
            f"Source and {tag.count - 1} edits of {tag.pictures} pictures are {tag.pictures * tag.count}",
            "Connect the LATENT output of Edit with Sound to the sampler",
        )
    return [slice(n * tag.pictures, (n + 1) * tag.pictures) for n in range(tag.count)]


def _mask_rows(mask: Tensor | None, rows: slice, total: int) -> Tensor | None:
    return mask[rows] if mask is not None and mask.shape[0] == total else mask


def _shapes(kwargs: dict, pictures: int, total: int) -> dict:
    shapes = kwargs.get("latent_shapes")
    if not shapes:
        return kwargs
    return {**kwargs, "latent_shapes": [[pictures, *shape[1:]] if shape[0] == total else shape for shape in shapes]}


def _random_state(device: torch.device) -> list[tuple]:
    """The states of the generators that a sampler may draw from, each with the function that restores it."""
    states = [(torch.set_rng_state, torch.get_rng_state())]
    module = getattr(torch, device.type, None)  # torch.cuda, torch.xpu, torch.mps
    if device.type != "cpu" and module is not None:
        for name in ("rng_state_all", "rng_state"):
            if hasattr(module, f"get_{name}"):
                states.append((getattr(module, f"set_{name}"), getattr(module, f"get_{name}")()))
                break
    return states


def _restore(states: list[tuple]) -> None:
    for put_back, state in states:
        put_back(state)


class _Progress:
    """The host's callback, told of one long run; at its end it gets the pictures of all branches."""

    def __init__(self, callback, branches: int):
        self._callback, self._branches = callback, branches
        self._latest: list[Tensor] = []

    def of_branch(self, number: int):
        if self._callback is None:
            return None

        def report(step, x0, x, total):
            self._latest[number:] = [x0]
            is_last = number == self._branches - 1 and step == total - 1
            shown = torch.cat(self._latest) if is_last and len(self._latest) == self._branches else x0
            return self._callback(step + number * total, shown, x, total * self._branches)

        return report
