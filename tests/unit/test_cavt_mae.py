"""CAVT-MAE: the published sizes, names and positions, and a loader that cannot silently load nothing."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig, sincos_position_embedding
from aai_pack.aai_models.align.self_test import self_test
from aai_pack.aai_models.errors import CheckpointError
from aai_pack.devtools.stand_in import WeightMaker, cavt_tensors

TINY = CAVTMAEConfig(dim=128, depth=2, mlp_dim=256)


def tiny(**changes) -> dict[str, torch.Tensor]:
    """A seeded state dict of both towers at a small size."""
    torch.manual_seed(0)
    model = CAVTMAE(CAVTMAEConfig(**{**vars(TINY), **changes}))
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("config", "parameters", "tensors"), [({}, 164_500_224, 474), ({"image_tokens": 0}, 85_721_088, 246)]
)
def test_sizes_are_those_of_the_published_model(config, parameters, tensors):
    model = CAVTMAE(CAVTMAEConfig(**config), device="meta")
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == tensors


def test_positions():
    audio, image = sincos_position_embedding(768, 8, 64), sincos_position_embedding(768, 14, 14)
    assert float(audio.double().sum()) == pytest.approx(171206.7415, abs=1e-3)
    assert float(image.double().sum()) == pytest.approx(69594.4939, abs=1e-3)
    assert float(audio[0, 65, 0]) == pytest.approx(0.84147098, abs=1e-7)
    assert float(audio[0, 65, 384]) == pytest.approx(0.84147098, abs=1e-7)


def test_both_towers_give_unit_vectors_and_batch_equals_loop():
    model = CAVTMAE.from_state_dict(tiny())
    fbank, pixels = torch.randn(3, 1024, 128), torch.randn(2, 3, 224, 224)
    audio = model.encode_audio(fbank)
    assert audio.shape == (3, 128) and model.encode_image(pixels).shape == (2, 128)
    torch.testing.assert_close(audio.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(torch.cat([model.encode_audio(f[None]) for f in fbank]), audio)


def test_pieces_of_a_batch_equal_the_whole_of_it():
    """Without gradients a processor goes through a batch in pieces."""
    model = CAVTMAE.from_state_dict(tiny())
    passes = []
    model.blocks_u[0].register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    batch = 2 * torch.get_num_threads() + 1
    fbank, pixels = torch.randn(batch, 1024, 128), torch.randn(3 * batch, 3, 224, 224)
    for encode, inputs in ((model.encode_audio, fbank), (model.encode_image, pixels)):
        passes.clear()
        whole = encode(inputs)
        assert passes == [len(inputs)]
        with torch.inference_mode():
            torch.testing.assert_close(encode(inputs), whole)
        assert len(passes) > 2 and sum(passes[1:]) == len(inputs)


def test_the_shared_block_uses_the_norms_of_its_modality():
    tensors = tiny()
    model, fbank = CAVTMAE.from_state_dict(tensors), torch.randn(1, 1024, 128)
    before = model.encode_audio(fbank)
    for norm in ("norm1_v", "norm1", "norm2_v"):
        tensors[f"blocks_u.0.{norm}.weight"] *= 3
    torch.testing.assert_close(CAVTMAE.from_state_dict(tensors).encode_audio(fbank), before, rtol=0, atol=0)
    tensors["blocks_u.0.norm1_a.weight"] *= 3
    assert not torch.allclose(CAVTMAE.from_state_dict(tensors).encode_audio(fbank), before)


def test_time_and_frequency_are_not_swapped():
    """Token f * 64 + t sees rows of 16 mel channels and columns of 16 frames."""
    model = CAVTMAE.from_state_dict(tiny())
    seen = []
    model.blocks_a[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    silence, tick = torch.zeros(1, 1024, 128), torch.zeros(1, 1024, 128)
    tick[0, 5 * 16 : 6 * 16, 3 * 16 : 4 * 16] = 1.0
    model.encode_audio(silence), model.encode_audio(tick)
    changed = (seen[0] != seen[1]).any(dim=-1)[0].nonzero().flatten().tolist()
    assert changed == [3 * 64 + 5]


def test_audio_tower_alone():
    model = CAVTMAE.from_state_dict(cavt_tensors(WeightMaker(0), images=False), dtype=torch.float32)
    assert not model.has_images
    with pytest.raises(CheckpointError, match="only the audio tower"):
        model.encode_image(torch.zeros(1, 3, 224, 224))


class TestLoader:
    def test_prefix_is_stripped_and_the_decoder_dropped(self):
        extras = {
            "decoder_embed.weight": torch.zeros(2, 2),
            "mask_token": torch.zeros(1),
            "mlp_head.0.bias": torch.zeros(1),
        }
        wrapped = {f"module.{name}": tensor for name, tensor in {**tiny(), **extras}.items()}
        plain = CAVTMAE.from_state_dict(tiny())
        loaded = CAVTMAE.from_state_dict(wrapped)
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), loaded.parameters(), strict=True))

    def test_missing_and_unexpected_are_named(self):
        tensors = tiny()
        del tensors["blocks_a.1.attn.proj.bias"]
        tensors["blocks_a.1.attn.extra"] = torch.zeros(1)
        with pytest.raises(
            CheckpointError, match=r"missing is blocks_a\.1\.attn\.proj\.bias.*unexpected is blocks_a\.1\.attn\.extra"
        ):
            CAVTMAE.from_state_dict(tensors)

    def test_a_transposed_tensor_is_named(self):
        tensors = tiny()
        tensors["blocks_v.0.mlp.fc2.weight"] = tensors["blocks_v.0.mlp.fc2.weight"].T.contiguous()
        with pytest.raises(CheckpointError, match=r"blocks_v\.0\.mlp\.fc2\.weight has shape \(256, 128\)"):
            CAVTMAE.from_state_dict(tensors)

    @pytest.mark.parametrize(
        "tensors", [{}, {"model.weight": torch.zeros(3)}, {"patch_embed_a.proj.weight": torch.zeros(3)}]
    )
    def test_other_files_are_refused(self, tensors):
        with pytest.raises(CheckpointError, match="not a CAVT-MAE checkpoint"):
            CAVTMAE.from_state_dict(tensors)

    @pytest.mark.parametrize("name", ["epoch", "modality_a", 7])
    def test_other_things_among_the_tensors(self, name):
        with pytest.raises(CheckpointError, match=f"checkpoint's {name} is a int"):
            CAVTMAE.from_state_dict({**tiny(), name: 3})

    @pytest.mark.parametrize(("name", "tokens"), [("pos_embed_a", 300), ("pos_embed_v", 100)])
    def test_another_length_of_sound_or_size_of_picture(self, name, tokens):
        tensors = tiny()
        tensors[name] = tensors[name][:, :1].expand(1, tokens, -1)
        with pytest.raises(CheckpointError, match=f"{tokens} .*for 10 seconds of sound"):
            CAVTMAE.from_state_dict(tensors)

    def test_a_width_that_its_heads_cannot_share(self):
        tensors = {name: t[..., :100] if t.shape[-1] == 128 else t for name, t in tiny().items()}
        tensors["patch_embed_a.proj.weight"] = torch.zeros(100, 1, 16, 16)
        with pytest.raises(CheckpointError, match="features of width 100"):
            CAVTMAE.from_state_dict(tensors)

    def test_self_test_finds_weights_that_hear_nothing(self):
        model = CAVTMAE.from_state_dict(tiny())
        self_test(model.encode_audio)
        with torch.no_grad():
            model.patch_embed_a.proj.weight.zero_()
        with pytest.raises(CheckpointError, match="hears no difference"):
            self_test(model.encode_audio)

    @pytest.mark.parametrize("value", [0.0, 0.02, float("nan")])
    def test_self_test_finds_weights_that_are_all_alike(self, value):
        tensors = {name: torch.full_like(tensor, value) for name, tensor in tiny().items()}
        model = CAVTMAE.from_state_dict(tensors)
        with pytest.raises(CheckpointError, match="hears no difference"):
            self_test(model.encode_audio)

    def test_self_test_finds_a_tower_that_sees_nothing(self):
        model = CAVTMAE.from_state_dict(tiny())
        self_test(model.encode_audio, encode_image=model.encode_image)
        with torch.no_grad():
            model.patch_embed_v.proj.weight.zero_()
        self_test(model.encode_audio)
        with pytest.raises(CheckpointError, match="sees no difference between two unlike pictures"):
            self_test(model.encode_audio, encode_image=model.encode_image)
