"""Edits beside the method of prompt-to-prompt's notebook: both pictures in one batch, attention maps built and edited."""

from __future__ import annotations

import pytest
import torch
from aai_pack.nodes.host.base.patches import transformer_blocks
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, alone, edit, empty, encode, sample

ALIGNED = [0, 1, 2, -1, -1, 3, 4, 5, 6]  # TARGET's tokens on SOURCE's, written by hand; -1 keeps its own map
DOG, BEAST = "a photo of a dog at sea", "a photo of a tyrannosaurus at sea"
OTHER = "a photo of a cat at sea"


@pytest.fixture(scope="module")
def models():
    """In double precision, so that what differs is the method and not the rounding of other kernels."""
    return micro.build(weights=torch.float64)


class Notebook:
    """The reference's controllers on explicit maps, for a batch whose rows are source and target.

    matrix (77, 77): which maps of the source a column of the target takes; equalizer (77,): AttentionReweight.
    """

    def __init__(self, sampling, matrix, cross: dict, self_end: float, equalizer=None):
        self.matrix, self.self_end = matrix, self_end
        self.equalizer = torch.ones(77) if equalizer is None else equalizer
        # The host's own function turns percents into sigmas; a window is open above the sigma of its end.
        self.sigma_of = sampling.percent_to_sigma
        self.cross = torch.full((77,), cross["default_"]).index_put(
            (torch.tensor([c for c in cross if c != "default_"], dtype=torch.long),),
            torch.tensor([v for c, v in cross.items() if c != "default_"]),
        )

    def open(self, end: float, extra: dict) -> bool:
        return end > 0 and float(extra["sigmas"][0]) > self.sigma_of(end) * (1 + 1e-6)

    def maps(self, q, k, heads: int):
        q, k = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k))
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)

    def attend(self, edited):
        def replace(q, k, v, extra):
            maps = self.maps(q, k, extra["n_heads"])
            for index, kind in enumerate(extra["cond_or_uncond"]):
                if kind == 0:
                    source, target = maps[2 * index], maps[2 * index + 1]
                    maps[2 * index + 1] = edited(source, target, extra)
            return (maps @ v.unflatten(-1, (extra["n_heads"], -1)).transpose(1, 2)).transpose(1, 2).flatten(2)

        return replace

    def edit_cross(self, source, target, extra):
        matrix = self.matrix.to(source)
        edited = torch.where(matrix.ne(0).any(dim=0), source @ matrix, target) * self.equalizer.to(source)
        alpha = torch.tensor([self.open(float(end), extra) for end in self.cross]).to(source)
        return edited * alpha + target * (1 - alpha)

    def edit_self(self, source, target, extra):
        height, width = extra["original_shape"][-2:]
        small = source.shape[1] <= (height // 2) * (width // 2)
        return source if small and self.open(self.self_end, extra) else target

    def run(self, models, texts, sampler):
        model = models[0].clone()
        for block in transformer_blocks(model.model.diffusion_model):
            model.set_model_attn1_replace(self.attend(self.edit_self), *block)
            model.set_model_attn2_replace(self.attend(self.edit_cross), *block)
        with torch.inference_mode():
            both = torch.cat([encode(models, text)[0][0] for text in texts])
            latent = empty(2) | {"batch_index": [0, 0]}
            return sample(model, [[both, {}]], encode(models, "blurry"), latent, sampler).chunk(2)


def refine() -> torch.Tensor:
    """Eq. 7: IndexProj of TARGET and SOURCE; padding takes the map of its own place."""
    matrix = torch.eye(77)
    matrix[:, : len(ALIGNED)] = 0.0
    for column, source in enumerate(ALIGNED):
        if source >= 0:
            matrix[source, column] = 1.0
    return matrix


def replace(ours: int, theirs: int = 1, at: int = 5) -> torch.Tensor:
    """One word of `theirs` tokens at column `at` exchanged for one of `ours`; the tail moves along."""
    matrix = torch.zeros(77, 77)
    for column in range(77):
        if column < at:
            matrix[column, column] = 1.0
        elif column < at + ours:
            matrix[at : at + theirs, column] = 1.0 / ours
        else:
            matrix[column - ours + theirs, column] = 1.0
    return matrix


def agrees(models, texts, notebook: Notebook, sampler="euler", **settings):
    source, target = edit(models, texts[0], [texts[1]], sampler=sampler, **settings)
    expected_source, expected = notebook.run(models, texts, sampler)
    size = (expected - expected_source).norm()
    assert (source - expected_source).norm() < 1e-4 * size
    assert (target - expected).norm() < 1e-4 * size
    return size


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
@pytest.mark.parametrize(("cross_end", "self_end"), [(1.0, 1.0), (0.8, 0.4), (0.6, 0.0)])
def test_eq_7_is_attention_refine(models, sampler, cross_end, self_end):
    sampling = models[0].model.model_sampling
    notebook = Notebook(sampling, refine(), {"default_": cross_end}, self_end)
    size = agrees(models, (SOURCE, TARGET), notebook, sampler, cross_end=cross_end, self_end=self_end)
    free = alone(models, TARGET, sampler=sampler)
    edited = edit(models, SOURCE, [TARGET], sampler=sampler, cross_end=cross_end, self_end=self_end)[1]
    assert (edited - free).norm() > 1e-2 * size, "the comparison is not of two runs without injection"


def test_attention_replace_with_words_of_unequal_length(models):
    known = encode(models, BEAST)[0][1]["aai_tokens"].texts
    tokens = known.index("at</w>") - 5
    assert tokens > 1
    notebook = Notebook(models[0].model.model_sampling, replace(tokens), {"default_": 0.8}, 0.4)
    agrees(models, (DOG, BEAST), notebook, controller="AttentionReplace")


def test_reweighting_composed_with_replacing(models):
    """AttentionReweight on top of AttentionReplace: the source's map is scaled, and only inside the window."""
    equalizer = torch.ones(77)
    equalizer[5] = 2.0
    notebook = Notebook(models[0].model.model_sampling, replace(1), {"default_": 0.6}, 0.4, equalizer)
    settings = {"reweight": "cat: 2", "reweight_base": "injected", "reweight_window": "cross_window"}
    agrees(models, (DOG, OTHER), notebook, controller="AttentionReplace", cross_end=0.6, **settings)


def test_a_window_for_one_word(models):
    notebook = Notebook(models[0].model.model_sampling, refine(), {"default_": 0.8, 7: 0.3}, 0.4)
    agrees(models, (SOURCE, TARGET), notebook, word_windows="beach: 0-0.3")
