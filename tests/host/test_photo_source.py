"""A photo's latent as the source of an edit."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.errors import EditError
from aai_pack.nodes.host.inject import photo
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_prompt_to_prompt import SOURCE, TARGET, edit, encode


@pytest.fixture(scope="module")
def models():
    return micro.build()


def latent(pictures: int = 1) -> dict:
    generator = torch.Generator().manual_seed(4)
    return {"samples": torch.randn(pictures, 4, 8, 12, generator=generator)}


def source(models, method: str, text: str = SOURCE):
    return photo.tagged(encode(models, text), method)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m", "heun", "dpmpp_sde"])
@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_virtual_gives_the_photo_back_exactly(models, sampler, denoise):
    given = latent()
    original, edited = edit(models, source(models, "virtual"), [SOURCE], given, sampler=sampler, denoise=denoise)
    assert torch.equal(original, given["samples"])
    assert torch.equal(edited, given["samples"])


@pytest.mark.parametrize("cfg", [1.0, 6.0])
def test_direct_gives_the_photo_back_exactly(models, cfg):
    given = latent(2)
    original, edited = edit(models, source(models, "direct"), [SOURCE], given, cfg=cfg)
    assert torch.equal(original, given["samples"])
    assert torch.equal(edited, given["samples"])


@pytest.mark.parametrize("method", ["virtual", "direct", "ddim"])
def test_an_edited_prompt_changes_the_photo(models, method):
    given = latent()
    original, edited = edit(models, source(models, method), [TARGET], given)
    assert not torch.equal(original, edited)
    assert bool(torch.isfinite(edited).all())


@pytest.mark.parametrize("method", ["virtual", "direct"])
def test_a_mask_keeps_the_rest_of_the_photo(models, method):
    mask = torch.zeros(1, 64, 96)
    mask[:, :, 48:] = 1.0
    given = latent()
    original, edited = edit(models, source(models, method), [TARGET], given, mask=mask)
    assert torch.equal(edited[..., :6], given["samples"][..., :6])
    assert not torch.equal(edited[..., 6:], original[..., 6:])


def test_ddim_is_a_baseline_that_drifts_under_guidance(models):
    given = latent()
    drift = [edit(models, source(models, "ddim"), [SOURCE], given, cfg=cfg)[0] - given["samples"] for cfg in (1.0, 8.0)]
    assert drift[0].norm() < drift[1].norm()


@pytest.mark.parametrize(
    "image", [torch.rand(1, 16, 16, 4), torch.rand(1, 17, 23, 1), torch.rand(2, 16, 24, 3) * 3 - 1]
)
def test_photos_of_every_kind(models, image):
    with torch.inference_mode():
        encoded = photo.encode_photo(models[2], image)
    assert encoded.shape == (image.shape[0], 4, image.shape[1] // 8, image.shape[2] // 8)


def test_refusals(models):
    with pytest.raises(EditError, match="at least 8 x 8"):
        photo.encode_photo(models[2], torch.rand(1, 1, 1, 3))
    with pytest.raises(EditError, match="NaN or infinity"):
        photo.encode_photo(models[2], torch.full((1, 16, 16, 3), float("nan")))
    with pytest.raises(EditError, match="one of"):
        photo.tagged([], "magic")
