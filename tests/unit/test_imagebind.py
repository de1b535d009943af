"""ImageBind's audio trunk: golden values of the original code, clips and policies, and its files in published layouts."""

from __future__ import annotations

import pickle

import pytest
import torch
from aai_pack.aai_models.align import imagebind_files, imagebind_text
from aai_pack.aai_models.align.__main__ import main
from aai_pack.aai_models.align.encoders import AudioEncoder
from aai_pack.aai_models.align.imagebind import ImageBindAudio, ImageBindConfig, ImageBindEncoder
from aai_pack.aai_models.align.imagebind_audio import MEAN, STD, clip_table, mel_pictures
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.audio.fbank import FLOOR, kaldi_fbank
from aai_pack.aai_models.errors import CheckpointError
from aai_pack.devtools.stand_in import write_cavt
from aai_pack.tests import imagebind_twins, published_twins, sounds

# Variant of the formula weights -> (seconds of the sound, first values of its embedding, length of it), by the original code.
GOLDEN = {
    "a": (3, (-0.045516, 0.172800, 0.048615), 2.694511),
    "b": (7, (-0.023751, 0.122711, 0.048251), 2.699390),
}
PADDING, SILENCE = 0.4670607, -1.2775646  # normalised


def trunk_of(tensors) -> ImageBindAudio:
    own = {imagebind_files._own_name(name, imagebind_files.PUBLISHED): tensor for name, tensor in tensors.items()}
    scale = float(own.pop(imagebind_files.SCALE))
    width, dim = own["projection.weight"].shape[1], own["projection.weight"].shape[0]
    depth = len({name.split(".")[1] for name in own if name.startswith("blocks.")})
    return ImageBindAudio.from_tensors(own, ImageBindConfig(width, depth, 4 * width, dim, scale))


@pytest.mark.parametrize("variant", GOLDEN)
def test_golden_values_at_full_size(variant):
    tensors = imagebind_twins.by_formula(variant, **imagebind_twins.HUGE)
    assert len(tensors) == 177 and sum(tensor.numel() for tensor in tensors.values()) == 86_235_649
    seconds, first, length = GOLDEN[variant]
    trunk = trunk_of(tensors)
    with torch.inference_mode():
        pictures = mel_pictures(imagebind_twins.wave(seconds), 16000)
        (embedding,) = trunk.embed(trunk(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2]))
    assert torch.allclose(embedding[:3], torch.tensor(first), rtol=2e-4, atol=2e-6)
    assert float(embedding.norm()) == pytest.approx(length, rel=2e-5)


class TestInput:
    def test_a_clip_is_kaldis_spectrogram(self):
        sound = imagebind_twins.wave(7)
        pictures = mel_pictures(sound, 16000)
        assert pictures.shape == (1, 3, 1, 128, 204)
        for picture, (start, end) in zip(pictures[0, :, 0], clip_table(7 * 16000), strict=True):
            fbank = kaldi_fbank(sound[0, :, start:end])[0]
            assert fbank.shape == (198, 128)
            # Beside the floor, in float32, a mean that was taken off shows by 1e-3.
            assert torch.allclose(picture[:, :198] * STD + MEAN, fbank.T, atol=2e-3)
            assert torch.allclose(picture[:, 198:], torch.tensor(PADDING), atol=1e-6)
        assert torch.allclose(pictures[..., 3, :198] * STD + MEAN, torch.tensor(FLOOR).log(), atol=1e-4), "holds no bin"

    @pytest.mark.parametrize(
        ("samples", "expected"),
        [
            (32000, [(0, 32000)]),
            (40001, [(0, 32000), (4000, 36000), (8000, 40000)]),
            (48000, [(0, 32000), (8000, 40000), (16000, 48000)]),
            (112000, [(0, 32000), (40000, 72000), (80000, 112000)]),
            (500, [(0, 500)]),
        ],
    )
    def test_where_clips_lie(self, samples, expected):
        assert clip_table(samples) == expected

    def test_a_short_sound(self):
        short = sounds.noise(1, 1, 8000)
        tiled, silent, padded = (
            mel_pictures(short, 16000, short_clip=policy)[0] for policy in ("tile", "silence", "pad_reference")
        )
        assert tiled.shape == silent.shape == padded.shape == (1, 1, 128, 204), "three equal clips are one"
        assert torch.allclose(padded[..., 48:], torch.tensor(PADDING), atol=1e-6)
        assert torch.allclose(silent[..., 60:198], torch.tensor(SILENCE), atol=1e-6)
        assert torch.allclose(tiled, mel_pictures(short.repeat(1, 1, 4), 16000)[0], atol=1e-6)

    def test_long_sounds(self):
        early = sounds.tone(10.24, 16000)[None]
        late = torch.cat([early, sounds.noise(1, 1, 11 * 16000, scale=0.5)], dim=-1)
        assert torch.allclose(mel_pictures(late, 16000), mel_pictures(early, 16000), atol=1e-4)
        assert mel_pictures(late, 16000, long_clip="mean_of_windows").shape[1] == 11, "21.24 s in parts of 2 s"
        assert not torch.equal(mel_pictures(late, 16000, long_clip="loudest"), mel_pictures(late, 16000))

    def test_a_sound_between_the_clips(self):
        sound = torch.zeros(2, 1, 10 * 16000)
        sound[:, :, 40000:50000] = sounds.noise(2, 1, 10000)
        sound[0, :, :1000] = 0.1
        with pytest.raises(AudioError, match=r"Sound 2 of 2 is silent in the 3 x 2 s .*mean_of_windows"):
            mel_pictures(sound, 16000)
        assert mel_pictures(sound, 16000, long_clip="mean_of_windows").isfinite().all()

    def test_unknown_policies(self):
        with pytest.raises(ValueError, match="known are"):
            mel_pictures(sounds.noise(1, 1, 9000), 16000, long_clip="last")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = imagebind_twins.published(tmp_path_factory.mktemp("imagebind") / "imagebind_huge.pth")
    config, tensors = imagebind_files.read_trunk(path)
    return ImageBindEncoder(ImageBindAudio.from_tensors(tensors, config), path.name)


class TestEncoder:
    def test_interface(self, encoder):
        assert isinstance(encoder, AudioEncoder) and encoder.dim == 1024 and encoder.model.scale == pytest.approx(20)
        clip = sounds.noise(3, 2, 44100 * 3)
        features = encoder.encode(clip, 44100)
        assert features.shape == (3, 1024) and torch.allclose(features.norm(dim=-1), torch.ones(3), atol=1e-5)
        apart = torch.cat([encoder.encode(row[None], 44100) for row in clip])
        assert torch.allclose(features, apart, atol=1e-5)

    @pytest.mark.parametrize(("shape", "rate"), [((1, 1, 700), 16000), ((1, 8, 9600), 192000), ((1, 1, 400), 384000)])
    def test_any_sound(self, encoder, shape, rate):
        assert encoder.encode(sounds.noise(*shape), rate).isfinite().all()

    def test_one_more_key_and_value_count(self, encoder):
        """Every query also sees the learnt key and value."""
        pictures = mel_pictures(sounds.noise(1, 1, 32000), 16000).flatten(0, 1)
        with torch.inference_mode():
            before = encoder.model(pictures)
            kept = encoder.model.blocks[0].attn.bias_v.clone()
            encoder.model.blocks[0].attn.bias_v.data.zero_()
            assert not torch.allclose(encoder.model(pictures), before, atol=1e-3)
            encoder.model.blocks[0].attn.bias_v.data.copy_(kept)


LAYOUTS = {
    "pth": ("imagebind_huge.pth", "published"),
    "safetensors": ("model.safetensors", "published"),
    "transformers": ("model.safetensors", "transformers"),
}


def refusal(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        imagebind_files.read_trunk(path)
    message = str(caught.value)
    assert len(message) < 600 and "Traceback" not in message
    return message


@pytest.mark.parametrize("layout", LAYOUTS)
class TestFiles:
    def test_the_trunk_alone_is_read(self, tmp_path, layout):
        name, kind = LAYOUTS[layout]
        path = imagebind_twins.published(tmp_path / name, kind)
        assert imagebind_files.find_weights(path) == path
        if name == "model.safetensors":
            assert imagebind_files.find_weights(tmp_path) == path, "a folder as Hugging Face has it"
        config, tensors = imagebind_files.read_trunk(path)
        assert config == ImageBindConfig(64, 2, 256, 1024, pytest.approx(2.9957323))
        plain = imagebind_twins.published(tmp_path / "other.pth", others=False)
        expected = imagebind_files.read_trunk(plain)[1]
        assert tensors.keys() == expected.keys() and len(tensors) == 177 - 10 * 14 - 1
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)

    def test_a_file_that_lacks_something(self, tmp_path, layout):
        name, kind = LAYOUTS[layout]
        path = imagebind_twins.published(tmp_path / name, kind)
        gone = "blocks.1.attn.bias_k"
        column = imagebind_files._layout(imagebind_files.tensor_names(path))
        file_name = imagebind_files.published_name(gone, column)
        imagebind_twins.change(path, lambda tensors: {n: t for n, t in tensors.items() if n != file_name})
        assert (
            f"lacks 1 tensors of ImageBind's audio trunk and has 0 unknown ones: the first missing is {file_name}"
            in (refusal(path))
        )

    def test_a_shape_that_does_not_fit(self, tmp_path, layout):
        name, kind = LAYOUTS[layout]
        path = imagebind_twins.published(tmp_path / name, kind)
        column = imagebind_files._layout(imagebind_files.tensor_names(path))
        file_name = imagebind_files.published_name("pos_embed", column)
        imagebind_twins.change(path, lambda tensors: {**tensors, file_name: torch.zeros(1, 301, 64)})
        assert f"{file_name} of {name} has the shape (1, 301, 64). The other tensors need (1, 229, 64)" in refusal(path)

    def test_an_unknown_tensor(self, tmp_path, layout):
        name, kind = LAYOUTS[layout]
        path = imagebind_twins.published(tmp_path / name, kind)
        column = imagebind_files._layout(imagebind_files.tensor_names(path))
        odd = imagebind_files.published_name("blocks.0.attn.out_proj.gain", column)
        imagebind_twins.change(path, lambda tensors: {**tensors, odd: torch.zeros(4)})
        assert f"lacks 0 tensors of ImageBind's audio trunk and has 1 unknown ones: the first unknown is {odd}" in (
            refusal(path)
        )

    def test_a_cut_file(self, tmp_path, layout):
        name, kind = LAYOUTS[layout]
        path = imagebind_twins.published(tmp_path / name, kind)
        path.write_bytes(path.read_bytes()[:-5000])
        assert imagebind_files.find_weights(path) == path
        assert "damaged or was cut short" in refusal(path)


class TestConvert:
    @pytest.mark.parametrize("audio_only", [False, True])
    def test_a_small_file(self, tmp_path, audio_only, capsys):
        path = imagebind_twins.published(tmp_path / "imagebind_huge.pth", texts=True, dim=64)
        small = tmp_path / "small.safetensors"
        assert main(["convert", str(path), str(small), *(["--audio-only"] if audio_only else [])]) in (0, None)
        assert "imagebind-audio" in capsys.readouterr().out and small.stat().st_size < path.stat().st_size / 1.9
        assert imagebind_files.find_weights(small) == small
        config, tensors = imagebind_files.read_trunk(small)
        whole, expected = imagebind_files.read_trunk(path)
        assert config == whole and all(torch.equal(tensors[name], expected[name].half()) for name in expected)
        assert imagebind_text.has_text(small) is not audio_only
        if not audio_only:
            assert imagebind_text.text_scale(small) == imagebind_text.text_scale(path)
            texts, known = (imagebind_text.read_text(file) for file in (small, path))
            assert texts.config == known.config and texts.tensors.keys() == known.tensors.keys()


class TestOtherFiles:
    def test_an_early_name_of_the_positions(self, tmp_path):
        path = imagebind_twins.published(tmp_path / "model.safetensors", "transformers")
        new, old = "audio_model.embeddings.position_embeddings", "audio_model.embeddings.position_embedding"
        imagebind_twins.change(path, lambda tensors: {old if n == new else n: t for n, t in tensors.items()})
        assert imagebind_files.read_trunk(path)[1]["pos_embed"].shape == (1, 229, 64)

    def test_without_a_scale_it_is_20(self, tmp_path):
        path = imagebind_twins.published(tmp_path / "imagebind.pth")
        imagebind_twins.change(path, lambda t: {n: v for n, v in t.items() if "log_logit_scale" not in n})
        config, tensors = imagebind_files.read_trunk(path)
        assert ImageBindAudio.from_tensors(tensors, config).scale == pytest.approx(20)

    def test_without_audio(self, tmp_path):
        path = imagebind_twins.published(tmp_path / "eyes.pth")
        imagebind_twins.change(path, lambda tensors: {n: t for n, t in tensors.items() if ".audio." not in n})
        assert "eyes.pth is an ImageBind without its audio trunk" in refusal(path)

    def test_another_width(self, tmp_path):
        path = imagebind_twins.published(tmp_path / "odd.pth", width=96)
        assert "is 96 wide. It must be a multiple of 64" in refusal(path)

    def test_code_in_it(self, tmp_path):
        path = tmp_path / "imagebind_huge.pth"
        path.write_bytes(b"modality_trunks.audio" + pickle.dumps(print))
        assert imagebind_files.find_weights(path) == path
        assert "damaged" in refusal(path)
        torch.save({"modality_trunks.audio.x": torch.zeros(1), "y": Runs()}, path)
        assert "holds code and was not opened" in refusal(path)

    def test_other_encoders_are_left_alone(self, tmp_path):
        write_cavt(tmp_path / "cavt.pth")
        (tmp_path / "text.pth").write_text("modality")
        clap = published_twins.clap(tmp_path / "clap", "foley")
        paths = (tmp_path / "cavt.pth", tmp_path / "text.pth", clap, tmp_path / "none")
        assert [imagebind_files.find_weights(path) for path in paths] == [None] * 4


class Runs:
    """What a hostile file would run."""

    def __reduce__(self):
        return print, ("run",)
