"""AudioToken against values of its authors' code, and the facts of its files."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.align.audiotoken import audioset, files
from aai_pack.aai_models.align.audiotoken.beats import BEATsConfig, beats_input, relative_buckets
from aai_pack.aai_models.align.audiotoken.encoder import audiotoken_input
from aai_pack.aai_models.align.audiotoken.model import AudioTokenNet, dropout_mask
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.audio.fbank import kaldi_fbank
from aai_pack.aai_models.errors import CheckpointError
from aai_pack.tests import audiotoken_twin as twin
from aai_pack.tests import sounds

SILENCE = -2.391693  # a channel at its floor
# Of the authors' code, with the weights of `formula` and dropout off: first values of the row, and its length.
GOLDEN = {"a": ([0.220577, 0.211037, -0.07968], 11.131978), "b": ([-0.254381, 0.125573, -0.094687], 9.348105)}
LOUD = {  # what variant b multiplies by instead of 0.02
    **{"relative_attention_bias.weight": 1.0, "self_attn.grep_linear.weight": 0.2},
    **{"fga.un_models.0.feature_reduce.weight": 0.2, "fga.reduce_potentials.0.weight": 4.0},
}


def formula(name: str, shape: tuple[int, ...], variant: str) -> torch.Tensor:
    """A weight that is known without any file: its random numbers hang on its name."""
    table = name.endswith("relative_attention_bias.weight")
    key = "encoder.layers.0.self_attn.relative_attention_bias.weight" if table else name
    state = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    x = torch.from_numpy(state.standard_normal(shape).astype(np.float32))
    if name.endswith(("weight_g", "grep_a", "norm.weight")):
        return 1 + 0.1 * x
    loud = next((scale for end, scale in LOUD.items() if name.endswith(end)), 0.02)
    return x * (loud if variant == "b" else 0.02)


def published_sound() -> torch.Tensor:
    """The 5 seconds that the values belong to: noise that swells, and a rising tone between."""
    t = np.arange(80000) / 16000
    noise, swell = np.random.RandomState(5).standard_normal(80000), 0.5 - 0.5 * np.cos(2 * np.pi * 1.25 * t)
    tone = np.sin(2 * np.pi * (300 * t + 1000 * t**2 / 5))
    wave = 0.1 * (0.02 + 0.98 * swell) * noise + 0.2 * (1 - swell) * tone
    return torch.from_numpy(wave.astype(np.float32))[None]


@pytest.fixture(scope="module")
def published():
    """A network of the published size with the formula's weights, in the layout of the published files."""
    tables = {"beats": files.published_shapes(BEATsConfig()), "embedder": files.embedder_shapes(BEATsConfig())}
    known = {part: {n: formula(n, shape, "a") for n, shape in table.items()} for part, table in tables.items()}
    config, tensors, *_ = files.beats_of(files.BEATS, {"cfg": twin.CFG, "model": known["beats"]})
    own = files.embedder_of(files.EMBEDDER, known["embedder"], config)
    net = files.AudioTokenFiles(config, files.joined(tensors, own), ()).build()
    louder = {n: formula(n.split(".", 1)[1], tuple(t.shape), "b") for n, t in net.state_dict().items() if _is_loud(n)}

    def of(variant: str) -> AudioTokenNet:
        net.load_state_dict(louder if variant == "b" else {}, strict=False)
        return net

    return of


def _is_loud(name: str) -> bool:
    return name.endswith(tuple(LOUD))


@torch.inference_mode()
def test_the_row_is_that_of_the_authors_code(published):
    """Of two sets of weights; the second is one in which relative positions, gates and potentials count."""
    fbank = beats_input(published_sound())
    for variant, (first, length) in GOLDEN.items():
        rows, probabilities = published(variant)(fbank)
        assert rows.shape == (1, 768) and probabilities.shape == (1, 527)
        assert rows[0, :3].tolist() == pytest.approx(first, abs=1e-4)
        assert float(rows.norm()) == pytest.approx(length, abs=1e-4)


def test_what_the_files_hold():
    beats, embedder = files.published_shapes(BEATsConfig()), files.embedder_shapes(BEATsConfig())
    assert len(beats) == 252 and len(embedder) == 13
    assert sum(int(np.prod(shape)) for shape in embedder.values()) == 8_853_507
    assert beats["encoder.pos_conv.0.weight_g"] == (1, 1, 128) and beats["predictor.weight"] == (527, 768)
    assert beats["encoder.layers.11.self_attn.relative_attention_bias.weight"] == (320, 12)
    assert embedder["fga.reduce_potentials.0.weight"] == (1, 2, 1)


class TestSpectrogram:
    @pytest.mark.parametrize(("samples", "frames"), [(80000, 498), (160000, 998), (2800, 16)])
    def test_frames(self, samples, frames):
        assert beats_input(torch.zeros(1, samples)).shape == (1, frames, 128)

    def test_silence_and_the_channel_without_a_bin(self):
        assert beats_input(torch.zeros(1, 1600)).flatten().tolist() == pytest.approx([SILENCE] * 128 * 8, abs=1e-6)
        assert beats_input(sounds.noise(1, 1600))[..., 3].flatten().tolist() == pytest.approx([SILENCE] * 8, abs=1e-6)

    def test_loudness_stays(self):
        loud, soft = beats_input(sounds.noise(1, 16000)), beats_input(0.1 * sounds.noise(1, 16000))
        assert float((loud - soft).median()) == pytest.approx(np.log(100) / 13.11164, abs=1e-3)

    def test_equals_kaldi(self):
        compliance = pytest.importorskip("torchaudio.compliance.kaldi", exc_type=ImportError)
        sound = published_sound()
        expected = compliance.fbank(sound * 2**15, num_mel_bins=128, sample_frequency=16000, dither=0.0)
        assert torch.allclose(kaldi_fbank(sound * 2**15, window="povey")[0], expected, atol=1e-3)

    def test_an_unknown_window(self):
        with pytest.raises(ValueError, match="known are hanning, povey"):
            kaldi_fbank(torch.zeros(1, 400), window="hamming")


class TestWhichSeconds:
    def test_a_short_sound_is_repeated(self):
        sound = sounds.noise(1, 1, 48000)
        tiled, silent = (audiotoken_input(sound, 16000, short_clip=how) for how in ("tile", "silence"))
        assert tiled.shape == silent.shape == (1, 1, 998, 128)
        assert torch.equal(tiled, audiotoken_input(sound.repeat(1, 1, 4), 16000))
        assert torch.equal(tiled, audiotoken_input(sound, 16000, short_clip="pad_reference"))
        assert silent[0, 0, 400:].flatten().tolist() == pytest.approx([SILENCE] * (598 * 128), abs=1e-6)

    def test_a_long_one_is_cut_or_heard_in_parts(self):
        sound = sounds.noise(2, 1, 16000 * 25)
        assert torch.equal(audiotoken_input(sound, 16000), audiotoken_input(sound[..., :160000], 16000))
        windows = audiotoken_input(sound, 16000, long_clip="mean_of_windows")
        assert windows.shape == (2, 3, 998, 128)
        assert torch.equal(windows[1, 2], audiotoken_input(sound[1:, :, -160000:], 16000)[0, 0])

    def test_other_rates_and_channels(self):
        sound = sounds.tone(2.0, 48000, 1000.0, 0.5).reshape(1, 1, -1)
        expected = audiotoken_input(sounds.tone(2.0, 16000, 1000.0, 0.5).reshape(1, 1, -1), 16000)
        assert float((audiotoken_input(sound.repeat(1, 2, 1), 48000) - expected).abs().median()) < 0.05

    def test_what_is_no_sound(self):
        with pytest.raises(AudioError, match="NaN"):
            audiotoken_input(torch.full((1, 1, 16000), torch.nan), 16000)


def test_relative_positions():
    buckets = relative_buckets(900)
    assert buckets.shape == (900, 900) and int(buckets.max()) == 319 and int(buckets.min()) == 0
    assert buckets[500, 400:601].tolist() == [*_of(100, 80), *range(79, -1, -1), *range(161, 240), *_of(80, 100, 160)]
    assert buckets[0, 0] == 0 and buckets[0, 899] == 319 and buckets[899, 0] == 159


def _of(first: int, last: int, half: int = 0) -> list[int]:
    step = 1 if last >= first else -1
    return [half + 80 + int(80 * np.log(np.float32(r) / 80) / np.log(10)) for r in range(first, last + step, step)]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return files.read_files(twin.write(tmp_path_factory.mktemp("twin"))).build()


class TestDropout:
    def test_the_mask_is_what_torch_draws(self):
        torch.manual_seed(7)
        assert torch.equal(dropout_mask(768, 496, 7), F.dropout(torch.ones(1, 768, 496)))

    @torch.inference_mode()
    def test_off_by_default_and_seeded(self, net):
        fbank = torch.randn(2, 160, 128)
        plain, seeds = [net(fbank)[0] for _ in range(2)], [net(fbank, seed)[0] for seed in (0, 0, 1)]
        assert torch.equal(*plain) and torch.equal(*seeds[:2])
        assert not torch.allclose(plain[0], seeds[0], rtol=1e-3) and not torch.allclose(seeds[0], seeds[2], rtol=1e-3)
        # The same draw for each sound of a batch, whatever stands beside it.
        assert torch.allclose(net(fbank[1:], 1)[0], seeds[2][1:], atol=1e-5)

    @torch.inference_mode()
    def test_the_generator_of_others_is_left_alone(self, net):
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        net(torch.randn(1, 32, 128, generator=torch.Generator()), 5)
        assert torch.equal(torch.rand(1), expected)

    @torch.inference_mode()
    def test_classes_are_apart_from_each_other(self, net):
        """A sigmoid of the mean over tokens, not a softmax."""
        fbank = torch.randn(1, 64, 128)
        features = net.beats(fbank)
        expected = torch.sigmoid(net.beats.predictor(features[0, :, 128:]).mean(0))
        assert torch.allclose(net(fbank)[1][0], expected, atol=1e-6)


def test_names_of_classes():
    assert len(audioset.names()) == 527 and audioset.names()["/m/0bt9lr"] == "Dog"
    assert audioset.class_names({0: "/m/0bt9lr", 1: "/m/06mb1"}, 2) == ("Dog", "Rain")
    assert audioset.class_names({"0": "/m/0bt9lr", "1": "/m/new"}, 2) == ("Dog", "/m/new"), "an unknown id names itself"
    for useless in (None, {}, {0: "/m/0bt9lr"}, {0: "/m/0bt9lr", 1: "/m/0bt9lr"}, {0: "/m/0bt9lr", 2: "/m/06mb1"}):
        assert audioset.class_names(useless, 2) == ()


class Code:
    """Runs when it is unpickled by whoever runs code in files."""

    def __reduce__(self):
        return (print, ("it ran",))


def changed(part: str, change) -> dict:
    """What `write` is given for a twin in which `change` was done to the part `cfg` or `model` of BEATs, or to `embedder`."""
    if part == "embedder":
        content = twin.tensors(files.embedder_shapes(twin.config()), 1)
        change(content)
        return {"embedder": content}
    content = twin.beats_content()
    change(content.get(part, content))
    return {"beats": content}


REFUSED = {
    "another cfg": (
        changed("cfg", lambda c: c.update(max_distance=1280)),
        r"max_distance = 1280.*has max_distance = 800",
    ),
    "no deep norm": (changed("cfg", lambda c: c.pop("deep_norm")), r"does not say deep_norm.*deep_norm = True"),
    "before fine-tuning": (changed("cfg", lambda c: c.update(finetuned_model=False)), "finetuned_model = False"),
    "sizes": (changed("cfg", lambda c: c.update(encoder_attention_heads=5)), "encoder_attention_heads = 5"),
    "no sizes": (changed("cfg", lambda c: c.update(embed_dim="512")), "whole numbers"),
    "no cfg": (changed("", lambda c: c.pop("cfg")), r"is no BEATs: it holds model, label_dict"),
    "a tensor is gone": (
        changed("model", lambda m: m.pop("encoder.layers.3.fc1.bias")),
        r"lacks 1 tensors.*layers\.3\.fc1",
    ),
    "a tensor more": (changed("model", lambda m: m.update(x=torch.zeros(1))), "1 unknown ones.*is x"),
    "a shape": (changed("model", lambda m: m.update({"layer_norm.bias": torch.zeros(3)})), r"layer_norm\.bias.*\(3,\)"),
    "whole numbers": (changed("model", lambda m: m.update({"layer_norm.bias": torch.zeros(32).long()})), "int64"),
    "no numbers": (changed("model", lambda m: m.update({"layer_norm.bias": "x"})), "is str"),
    "another embedder": (changed("embedder", lambda e: e.pop("fga.pp_models.0.embed_X.bias")), "lacks 1 tensors"),
    "an embedder for SD2": (
        {"embedder": twin.tensors(files.embedder_shapes(twin.config(), 1024))},
        "words of 1024 values.*768, for SD1.x",
    ),
    "the LoRA": ({"embedder": twin.lora()}, "no embedder.*its LoRA, which Load LoRA"),
    "code": ({"beats": {"cfg": Code()}}, "holds code and was not opened"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_not_as_published(case, tmp_path, capsys):
    content, words = REFUSED[case]
    with pytest.raises(CheckpointError, match=words) as raised:
        files.read_files(twin.write(tmp_path / "AudioToken", **content))
    assert "it ran" not in capsys.readouterr().out
    assert raised.value.do and len(str(raised.value)) < 500


@pytest.mark.parametrize("name", [files.BEATS, files.EMBEDDER])
class TestDamaged:
    def test_cut_short(self, name, tmp_path):
        path = twin.write(tmp_path / "AudioToken") / name
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(CheckpointError, match=f"{name} of AudioToken is damaged or was cut short"):
            files.read_files(path.parent)

    def test_a_pointer(self, name, tmp_path):
        path = twin.write(tmp_path / "AudioToken") / name
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        with pytest.raises(CheckpointError, match="Git LFS pointer"):
            files.read_files(path.parent)

    def test_gone(self, name, tmp_path):
        path = twin.write(tmp_path / "AudioToken") / name
        path.unlink()
        assert files.audiotoken_folder(path.parent) == path.parent
        with pytest.raises(CheckpointError, match=f"AudioToken has no {name}.*models/audio_encoders"):
            files.read_files(path.parent)


class TestWhichBeats:
    def test_another_one_is_refused_by_its_name(self, tmp_path):
        folder = twin.write(tmp_path)
        (folder / files.BEATS).rename(folder / "BEATs_iter3_finetuned_on_AS2M_cpt1.pt")
        with pytest.raises(CheckpointError, match=r"BEATs_iter3_finetuned_on_AS2M_cpt1\.pt.*was trained with"):
            files.read_files(folder)

    def test_a_name_that_says_nothing_is_told(self, tmp_path):
        folder = twin.write(tmp_path)
        assert files.read_files(folder).notes == ()
        (folder / files.BEATS).rename(folder / "beats.pt")
        assert "whether beats.pt is the same file is not known" in files.read_files(folder).notes[0]

    def test_two_of_them(self, tmp_path):
        folder = twin.write(tmp_path)
        (folder / "beats.pt").write_bytes(b"")
        assert files.read_files(folder).notes == (), "the published name counts"

    def test_layers_that_disagree(self, tmp_path):
        first = "encoder.layers.0.self_attn.relative_attention_bias.weight"
        content = changed("model", lambda m: m.update({first: m[first] + 1}))
        found = files.read_files(twin.write(tmp_path, **content))
        expected = files.read_files(twin.write(tmp_path)).tensors
        assert "disagree about relative positions" in found.notes[0]
        assert torch.equal(
            found.tensors["beats.encoder.relative_attention_bias.weight"],
            expected["beats.encoder.relative_attention_bias.weight"],
        )

    def test_no_names_for_the_classes(self, tmp_path):
        found = files.read_files(twin.write(tmp_path, **changed("", lambda c: c.pop("label_dict"))))
        assert found.classes == () and "does not name its classes" in found.notes[0]

    def test_classes_in_the_files_order(self, tmp_path):
        assert files.read_files(twin.write(tmp_path)).classes == tuple(reversed(audioset.names().values()))


def test_a_folder_is_recognised(tmp_path):
    twin.write(tmp_path / "own")
    (tmp_path / "clap").mkdir()
    assert files.audiotoken_folder(tmp_path / "own") == tmp_path / "own"
    assert files.audiotoken_folder(tmp_path / "own" / files.EMBEDDER) == tmp_path / "own"
    for other in (tmp_path, tmp_path / "clap", tmp_path / "gone", tmp_path / "own" / files.BEATS):
        assert files.audiotoken_folder(other) is None
