"""Figures without people: the encoders beside those of their authors, and the pocket world's judge on drawings."""

from __future__ import annotations

import json
import shutil
import wave

import lpips
import numpy as np
import pytest
import torch
import torchaudio
import torchvision
import transformers
from aai_pack.aai_models.errors import StudyError
from aai_pack.aai_models.study import cli, clip, figures, instruments, measures, wav2clip
from aai_pack.aai_models.study import lpips as ours
from aai_pack.aai_models.study.record import Picture, Record, file_hash
from aai_pack.lab.comparison.pocket import PocketWitness
from aai_pack.pocket.world.scene import Scene, draw
from aai_pack.pocket.world.sounds import synthesise
from aai_pack.tests import published_twins
from aai_pack.tests.comparisons import comparison, write_wave
from PIL import Image


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (90 + 9 * k, 120, 3), dtype=np.uint8)) for k in range(count)]


def test_win_rates_by_hand():
    similarities = torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.5, 0.9], [0.3, 0.2, 0.1]])
    assert measures.win_rates(similarities, [0, 1, 2]) == [1.0, 0.25, 0.0]


def test_lpips_equals_its_authors_on_the_same_weights(tmp_path):
    torch.manual_seed(0)
    backbone = torchvision.models.alexnet(weights=None).state_dict()
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    slices = reference.net.state_dict()
    reference.net.load_state_dict({name: backbone[f"features.{name.split('.', 1)[1]}"] for name in slices})
    torch.save(backbone, tmp_path / ours.BACKBONE)
    heads = {k: v for k, v in reference.state_dict().items() if k.startswith("lin") and not k.startswith("lins")}
    torch.save(heads, tmp_path / ours.HEADS)
    found = ours.LPIPS.from_folder(tmp_path)
    a, b = torch.rand(3, 3, 96, 80) * 2 - 1, torch.rand(3, 3, 96, 80) * 2 - 1
    with torch.no_grad():
        expected = reference(a, b).flatten()
    assert expected.min() > 0
    torch.testing.assert_close(found(a, b), expected, rtol=1e-4, atol=1e-6)
    assert found.distances(pictures(2), pictures(2)).abs().max() == 0
    (tmp_path / ours.HEADS).write_bytes(b"nothing")
    with pytest.raises(StudyError, match="Download them again"):
        ours.LPIPS.from_folder(tmp_path)


def test_wav2clip_equals_a_resnet_on_a_spectrogram(tmp_path):
    """The published file's names, on torchvision's ResNet-18 and torchaudio's spectrogram as its authors use them."""
    torch.manual_seed(0)
    tower = torchvision.models.resnet18(weights=None)
    tower.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    head = torch.nn.Sequential(
        torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(512, 512)
    )
    spectrogram = torchaudio.transforms.Spectrogram(n_fft=512, hop_length=353)
    tensors = {f"audio_encoder.{k}": v for k, v in tower.state_dict().items()}
    tensors |= {f"audio_transform.sequential.{k}": v for k, v in head.state_dict().items()}
    tensors["audio_encoder.spectrogram.window"] = spectrogram.window
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "Wav2CLIP.pt")
    model = wav2clip.Wav2CLIP.from_file(tmp_path / "Wav2CLIP.pt")
    write_wave(tmp_path / "a.wav", seconds=1.0)
    tower.fc = torch.nn.Identity()
    waveform = samples_of(tmp_path / "a.wav")
    with torch.no_grad():
        x = torch.log(spectrogram(waveform)[:, None] + 1e-7)
        expected = head.eval()(tower.eval()((x - x.mean()) / (x.std() + 1e-9)))
    expected = torch.nn.functional.normalize(expected, dim=-1)
    torch.testing.assert_close(model.hear([tmp_path / "a.wav"]), expected, rtol=1e-4, atol=1e-5)
    torch.save({"state_dict": {}}, tmp_path / "Wav2CLIP.pt")
    with pytest.raises(StudyError, match="Download it again"):
        wav2clip.Wav2CLIP.from_file(tmp_path / "Wav2CLIP.pt")


def samples_of(path) -> torch.Tensor:
    """(1, T) of a 16-bit file at 16 kHz."""
    return torch.from_numpy(np.frombuffer(path.read_bytes()[44:], "<i2").astype(np.float32) / 32768)[None]


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A folder in the layout of openai/clip-vit-large-patch14, tiny and random."""
    folder = tmp_path_factory.mktemp("models") / instruments.LARGE
    folder.mkdir()
    names = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    size = published_twins.write_tokenizer(folder, names, "CLIPTokenizer")
    shared = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = transformers.CLIPConfig(
        text_config={**shared, "vocab_size": size, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1},
        vision_config={**shared, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def test_clip_s_input_is_that_of_transformers():
    (picture,) = pictures(1)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(clip.clip_input(picture, 64), expected, rtol=0, atol=0.03)


def test_clip_scores_pictures_and_texts(tiny_clip):
    model, shown = clip.CLIP(tiny_clip), pictures(3)
    seen, read = model.see(shown), model.read(["dog", "rain"])
    assert seen.shape == (3, 24) and torch.allclose(seen.norm(dim=-1), torch.ones(3))
    reference = transformers.CLIPModel.from_pretrained(tiny_clip).eval()
    with torch.no_grad():
        pixels = torch.stack([clip.clip_input(picture, 32) for picture in shown])
        state = reference.visual_projection(reference.vision_model(pixel_values=pixels).pooler_output)
    torch.testing.assert_close(seen, torch.nn.functional.normalize(state, dim=-1))
    found = model.name_pictures(shown, ["dog", "rain"])
    assert found == [["dog", "rain"][int(i)] for i in (seen @ read.T).argmax(1)]
    assert model.score(shown[:2], ["dog", "rain"]) == pytest.approx((seen[:2] * read).sum(1).numpy())


def test_a_clip_that_lacks_tensors_is_refused(tiny_clip, tmp_path):
    def without_a_tensor(tensors: dict) -> dict:
        return {name: tensor for name, tensor in tensors.items() if name != "visual_projection.weight"}

    shutil.copytree(tiny_clip, tmp_path / "clip")
    published_twins.change_tensors(tmp_path / "clip", without_a_tensor)
    with pytest.raises(StudyError, match="lacks 1 tensor"):
        clip.CLIP(tmp_path / "clip")


def test_what_is_absent_says_which_folder_it_goes_to(tmp_path, capsys, tiny_clip):
    record = comparison(tmp_path / "made", methods=("word", "adapter"))
    assert cli.main(["figures", str(tmp_path / "made"), "--models", str(tmp_path / "models")]) == 0
    told = capsys.readouterr().out
    for name in (
        instruments.LARGE,
        instruments.BASE,
        instruments.WAV2CLIP_FILE,
        ours.BACKBONE,
        str(tmp_path / "models" / "lpips"),
    ):
        assert name in told
    assert "No figure could be computed" in told
    found = figures.write_figures(record, instruments.published(tiny_clip.parent))
    assert "| AIC " in found and "| text" in found and "not measured: audio-image similarity" in found


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pocket")
    things = ("rooster", "train", "cat", "fire", "bell", "drum")
    record = comparison(
        folder,
        sounds=things,
        methods=({"name": "right", "kind": "word"}, {"name": "wrong", "kind": "adapter"}),
        prompts=["a photo of a {} in the snow"],
        seeds=[1, 2],
    )
    for number, thing in enumerate(things):
        write_sound(folder / record.material[thing].audio, thing)
        held = []
        for k in range(2):
            held.append(f"held_out/{thing}_{k}.png")
            write_drawing(folder / held[-1], thing, "city", 50 + k)
        record.material[thing].held_out = held
        for k in range(2):
            for method, shown in (("right", thing), ("wrong", things[number - 1])):
                place = (thing, method, 0, k)
                file = f"pictures/{thing}_{method}_{k}.png"
                write_drawing(folder / file, shown, "snow", 10 * k)
                record.pictures[place] = Picture(*place, file, "", "x", file_hash(folder / file))
    record.save()
    return Record.open(folder)


def write_drawing(path, thing: str, place: str, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(Scene(thing, place, "red", "flat", 0.7, seed=seed))[0]).save(path)


def write_sound(path, thing: str) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((synthesise(thing, 0.7, 5) * 32767).astype("<i2").tobytes())


class TestPocketWorld:
    """A method that draws the right thing, one that draws another, measured by the judge."""

    def test_every_figure_is_there_and_tells_right_from_wrong(self, record):
        told = figures.write_figures(record, PocketWitness().instruments())
        found = json.loads((record.folder / figures.FILE).read_text(encoding="utf-8"))
        by_key = {m["key"]: m for m in found["measures"]}
        assert list(by_key) == ["AIS", "AIC", "text", "image", "IIS", "variety"] and not any(
            m["absent"] for m in by_key.values()
        )
        right, wrong = ({k: m["methods"][name]["value"] for k, m in by_key.items()} for name in ("right", "wrong"))
        assert right["AIC"] == 1.0 and wrong["AIC"] == 0.0
        assert right["text"] == 1.0 and wrong["text"] == 0.5, "the place is right"
        assert right["AIS"] > 0.9 > wrong["AIS"] and right["IIS"] == 1.0 > wrong["IIS"]
        assert right["image"] > wrong["image"] and right["variety"] > 0
        (pair,) = by_key["AIC"]["pairs"]
        assert pair["p"] == pytest.approx(2 / 2**6) and pair["count"] == 6
        assert "missing" not in told and "the judge, of 24 things" in told

    def test_a_missing_picture_is_named_and_nothing_stands_in_for_it(self, record):
        lost = record.cell("cat", "wrong", 0, 1)
        content = lost.read_bytes()
        lost.unlink()
        try:
            told = figures.write_figures(record, PocketWitness().instruments())
            assert "1 pictures are missing" in told and "cat, wrong, prompt 1, seed 2" in told
        finally:
            lost.write_bytes(content)
