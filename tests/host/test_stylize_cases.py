"""What goes wrong for people who stylise folders: stale pictures, lost pictures, odd folders, plans that wait."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import folder_paths
import numpy as np
import pytest
import torch
from aai_pack.aai_models.errors import EditError
from aai_pack.devtools import device
from aai_pack.nodes.batch import AAI_BatchStylize
from aai_pack.nodes.host.adapt import bridge, embeddings
from aai_pack.nodes.host.inject import batch_words, sound_files
from aai_pack.tests.host import micro
from aai_pack.tests.host.test_identity import CLIP_KEY, UNET_KEY, freeu, predicting, rescaled, with_lora
from aai_pack.tests.host.test_prompt_to_prompt import word
from aai_pack.tests.host.test_stylize import encoder, made, run  # noqa: F401 (a fixture)
from aai_pack.tests.sounds import write_encoded
from PIL import Image
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def models():
    return micro.build()


def photo(path: Path, seed: int, size: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(path)
    return path


def results(output: str) -> Path:
    return Path(folder_paths.get_output_directory()) / output


def contents(output: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(results(output).glob("*.png"))}


def pixels(output: str) -> list[bytes]:
    return [np.asarray(Image.open(path).convert("RGB")).tobytes() for path in sorted(results(output).glob("*.png"))]


def alike(one: list[bytes], other: list[bytes]) -> bool:
    """Equal; on a GPU but for the last bits, which differ in the first picture after a change of the model."""
    if device.current() == "cpu" or len(one) != len(other):
        return one == other
    pairs = zip(*([np.frombuffer(x, np.uint8).astype(int) for x in side] for side in (one, other)), strict=True)
    return all(a.shape == b.shape and abs(a - b).max() <= 3 for a, b in pairs)


@functools.cache
def others():
    return micro.build(seed=9)


def skipping(clip):
    clone = clip.clone()
    clone.clip_layer(-2)
    return clone


# What a user changes -> the models of the second run, or settings of it.
CHANGES = {
    "a first LoRA": lambda m: ((with_lora(m[0], (UNET_KEY, 1, 1.0)), *m[1:]), {}),
    "its strength": lambda m: ((with_lora(m[0], (UNET_KEY, 1, 0.5)), *m[1:]), {}),
    "a second LoRA": lambda m: ((with_lora(m[0], (UNET_KEY, 1, 1.0), (UNET_KEY, 2, 1.0)), *m[1:]), {}),
    "a LoRA of the CLIP": lambda m: ((m[0], with_lora(m[1].clone(), (CLIP_KEY, 1, 5.0)), m[2]), {}),
    "another CLIP": lambda m: ((m[0], others()[1], m[2]), {}),
    "clip skip": lambda m: ((m[0], skipping(m[1]), m[2]), {}),
    "another VAE": lambda m: ((*m[:2], others()[2]), {}),
    "FreeU": lambda m: ((freeu(m[0], 1.1, 1.2, 0.9, 0.2), *m[1:]), {}),
    "RescaleCFG": lambda m: ((rescaled(m[0], 0.7), *m[1:]), {}),
    "prediction type": lambda m: ((predicting(m[0], "v_prediction", False), *m[1:]), {}),
    "cfg": lambda m: (m, {"cfg": 4.0}),
    "seed": lambda m: (m, {"seed": 1}),
    "steps": lambda m: (m, {"steps": 3}),
    "denoise": lambda m: (m, {"denoise": 0.9}),
    "sampler": lambda m: (m, {"sampler": "heun"}),
    "scheduler": lambda m: (m, {"scheduler": "karras"}),
    "target prompt": lambda m: (m, {"target_prompt": "a painting in the style of <A*>"}),
    "negative prompt": lambda m: (m, {"negative_prompt": "dark"}),
}


def test_every_change_makes_the_picture_anew_and_no_change_none(models, tmp_path):
    """After each change the picture is the one of a fresh folder; run again without a change, no file is written."""
    photo(tmp_path / "a.png", 0)
    run(models, tmp_path, "stale")
    seen = {tuple(pixels("stale"))}
    for name, change in CHANGES.items():
        changed, settings = change(models)
        plan = run(changed, tmp_path, "stale", plan_only=True, **settings)
        assert "0 finished, 1 to do" in plan.report, name
        run(changed, tmp_path, "stale", **settings)
        fresh = f"fresh-{name.replace(' ', '-')}"
        run(changed, tmp_path, fresh, **settings)
        assert alike(pixels("stale"), pixels(fresh)), name
        before = made("stale")
        assert "1 finished, 0 to do" in run(change(models)[0], tmp_path, "stale", **settings).report, name
        assert made("stale") == before, name
        seen.add(tuple(pixels("stale")))
    assert len(seen) > len(CHANGES) - 3, "most of them show in so small a picture"
    assert len(made("stale")) == 1


def test_an_embedding_in_a_prompt_counts_with_its_content(models, tmp_path):
    folder = Path(folder_paths.get_folder_paths("embeddings")[0])
    folder.mkdir(parents=True, exist_ok=True)
    photo(tmp_path / "a.png", 0)
    save_file({"clip_l": torch.randn(1, 768)}, folder / "mood.safetensors")
    stamp = embeddings.stamps("a photo, embedding:mood, dark")
    assert len(stamp) == 1 and embeddings.stamps("a mood") == []
    save_file({"clip_l": torch.randn(2, 768)}, folder / "mood.safetensors")
    assert embeddings.stamps("a photo, embedding:mood, dark") != stamp


def test_what_cannot_be_known_is_made_anew_and_told(models, tmp_path):
    photo(tmp_path / "a.png", 0)
    strengths = iter([1.0] * 1000)
    model = models[0].clone()
    model.set_model_sampler_post_cfg_function(lambda arguments: arguments["denoised"] * next(strengths))
    changed = (model, *models[1:])
    first = run(changed, tmp_path, "unknown")
    before = made("unknown")
    second = run(changed, tmp_path, "unknown")
    assert "The model has parts that cannot be compared with the last run" in first.report
    assert "made again" in second.report and "1 finished, 0 to do" in second.report
    assert set(made("unknown")) == set(before) and made("unknown") != before


def test_two_folders_with_the_same_names_and_foreign_files(models, tmp_path):
    for number, folder in enumerate(("first", "second")):
        photo(tmp_path / folder / "a.png", number)
        photo(tmp_path / folder / "b.png", number + 10)
    results("shared").mkdir(parents=True)
    foreign = results("shared") / "b__sound-1__x1.00.png"
    foreign.write_bytes(b"someone else's")
    run(models, tmp_path / "first", "shared")
    first = contents("shared")
    assert set(first) == {"a__sound-1__x1.00.png", "b__sound-1__x1.00.png", "b-2__sound-1__x1.00.png"}
    run(models, tmp_path / "second", "shared")
    both = contents("shared")
    assert len(both) == 5 and all(both[name] == content for name, content in first.items())
    assert foreign.read_bytes() == b"someone else's"
    for folder in ("first", "second"):
        report = run(models, tmp_path / folder, "shared").report
        assert "2 pictures, 2 finished, 0 to do" in report
    assert contents("shared") == both


def test_other_sounds_of_the_same_name_destroy_nothing(models, tmp_path):
    photo(tmp_path / "a.png", 0)
    run(models, tmp_path, "words", tokens=[word()])
    first = contents("words")
    run(models, tmp_path, "words", tokens=[word(1)])
    assert len(contents("words")) == 2 and contents("words").items() >= first.items()
    assert "1 finished" in run(models, tmp_path, "words", tokens=[word()]).report


def test_scales_that_are_near(models, tmp_path):
    photo(tmp_path / "a.png", 0)
    run(models, tmp_path, "near", scales="1, 1.001, 1.004")
    assert {name.split("__x")[1] for name in made("near")} == {"1.00.png", "1.001.png", "1.004.png"}
    assert "3 pictures, 3 finished, 0 to do" in run(models, tmp_path, "near", scales="1 1.001 1.004").report


def test_the_output_inside_the_photos(models, tmp_path):
    folder = Path(folder_paths.get_output_directory()) / "inside"
    photo(folder / "a.png", 0)
    for output in ("inside/one", "inside/two", "inside/one"):
        report = run(models, folder, output).report
        assert "1 pictures, 1 finished, 0 to do" in report
        assert len(made(output)) == 1
    assert "left out: the folder one, results of a batch" in report
    assert "left out: the folder two, results of a batch" in report
    with pytest.raises(EditError, match="Photos and results are in one folder"):
        run(models, folder, "inside")
    assert "1 pictures" in run(models, folder / "one", "of-results", plan_only=True).report, "if that is what is asked"


def test_reports_say_what_to_do(models, tmp_path):
    photo(tmp_path / "a.png", 0)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    (tmp_path / "b.heic").write_bytes(b"a photo of a phone")
    report = run(models, f'"{tmp_path}"', "reports").report
    assert (
        "failed: broken__sound-1__x1.00.png: broken.jpg cannot be read" in report and "save it as PNG or JPG" in report
    )
    assert "photos that cannot be read: 1 .jpg" in report and "left out: 1 .heic" in report
    assert "2 pictures, 1 finished, 1 to do" in report


class TestPlans:
    def inputs(self, models, folder, **changes):
        one = {"model": models[0], "clip": models[1], "vae": models[2], "folder": str(folder), "output": "planned"}
        one |= {"scales": "1", "plan_only": True, "source_prompt": "a photo", "target_prompt": "a photo of <A*>"}
        one |= {"negative_prompt": "", "method": "virtual", "cross_end": 0.6, "self_end": 0.25, "steps": 2, "cfg": 3.0}
        one |= {"sampler_name": "euler", "scheduler": "normal", "denoise": 0.6, "seed": 0, "longest_side": 64}
        return {name: [value] for name, value in (one | changes).items()}

    def test_nothing_is_heard_and_no_bridge_is_built(self, models, tmp_path, encoder, monkeypatch):  # noqa: F811
        photo(tmp_path / "photos" / "a.png", 0)
        for name in ("10.wav", "2.wav", "._2.wav"):
            (tmp_path / "sounds").mkdir(exist_ok=True)
            write_encoded(tmp_path / "sounds" / name, 0.1 * torch.randn(1, 8000), 16000, "wav")

        def refuse(*_, **__):
            raise AssertionError("A plan hears nothing")

        monkeypatch.setattr(bridge, "bridge_of", refuse)
        monkeypatch.setattr(sound_files, "decode_part", refuse)
        monkeypatch.setattr(encoder, "encode", refuse, raising=False)
        inputs = self.inputs(models, tmp_path / "photos", sounds=str(tmp_path / "sounds"), cavt=encoder, vocabulary=0)
        report = AAI_BatchStylize.execute(**inputs)[1]
        assert "2 pictures, 0 finished, 2 to do" in report
        assert report.index("a__2__x1.00.png") < report.index("a__10__x1.00.png")

    def test_it_does_not_wait_for_a_connected_word(self, models, tmp_path):
        photo(tmp_path / "a.png", 0)
        ask = AAI_BatchStylize.check_lazy_status
        assert ask(audio_token=(None,), plan_only=[True]) == [] == ask(plan_only=[False])
        assert ask(audio_token=(None,), plan_only=[False]) == ["audio_token"]
        assert ask(audio_token=[word()], plan_only=[False]) == []
        report = AAI_BatchStylize.execute(**self.inputs(models, tmp_path), audio_token=(None,))[1]
        assert "is not made for a plan" in report and "1 pictures, 0 finished, 1 to do" in report
        with torch.inference_mode():
            AAI_BatchStylize.execute(**self.inputs(models, tmp_path, plan_only=False), audio_token=[word(), word(1)])
        report = AAI_BatchStylize.execute(**self.inputs(models, tmp_path), audio_token=(None,))[1]
        assert "assumed to be that of the last run" in report and "2 pictures, 2 finished, 0 to do" in report

    def test_deleted_pictures_are_asked_for_again(self, models, tmp_path):
        photo(tmp_path / "a.png", 0)
        run(models, tmp_path, "asked")
        inputs = {"folder": [str(tmp_path)], "sounds": [""], "output": ["asked"]}
        before = AAI_BatchStylize.fingerprint_inputs(**inputs)
        assert before == AAI_BatchStylize.fingerprint_inputs(**inputs)
        next(results("asked").glob("*.png")).unlink()
        assert AAI_BatchStylize.fingerprint_inputs(**inputs) != before


class TestSavedWords:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        first, second = tmp_path / "embeddings", tmp_path / "more"
        (first / "sub").mkdir(parents=True)
        second.mkdir()
        known = dict(folder_paths.folder_names_and_paths)
        suffixes = known["embeddings"][1]
        known["embeddings"] = ([str(first), str(second)], suffixes)
        monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
        monkeypatch.setattr(folder_paths, "filename_list_cache", {})
        return first

    def test_ordinary_embeddings_and_names_with_spaces(self, folder):
        rows = torch.randn(2, 768)
        word().save(folder / "storm.safetensors")
        save_file({"emb_params": rows}, folder / "two words.safetensors")
        torch.save({"string_to_param": {"*": rows}}, folder / "sub" / "old.pt")
        torch.save({"<x>": rows}, folder.parent / "more" / "second.bin")
        names = ["storm", "two words", "sub/old", "embedding:second", "second.bin", "storm"]
        words = batch_words.name_words([], names, {})
        assert list(words) == ["storm", "two words", "old", "second", "second.bin"]
        assert torch.equal(batch_words.token_of(words["two words"]).vectors["clip_l"], rows)
        with pytest.raises(EditError, match="There is no saved word 'gone'"):
            batch_words.name_words([], ["gone"], {})
        for hostile in ("../../etc/passwd", "/etc/passwd", ""):
            with pytest.raises(EditError, match="no saved word"):
                batch_words.name_words([], [hostile], {})

    def test_names_that_meet_keep_apart(self, folder):
        word().save(folder / "sound-1.safetensors")
        assert list(batch_words.name_words([word(1)], ["sound-1"], {"rain": object()})) == [
            "sound-1",
            "rain",
            "sound-1-2",
        ]

    @pytest.mark.parametrize("other", ["thunder.pt", "thunder.bin", "../more/thunder.safetensors", "sub/thunder.pt"])
    def test_stop_looks_wherever_the_host_looks(self, folder, other):
        torch.save({"string_to_param": {"*": torch.randn(1, 768)}}, folder / other)
        with pytest.raises(ValueError, match=r"already an embedding named thunder \(.*thunder"):
            embeddings.save(word(), "thunder", "stop")
        assert embeddings.save(word(), "thunder", "number") == "thunder-2"
        assert embeddings.save(word(), "thunder", "number") == "thunder-2", "the same vectors"
        assert embeddings.save(word(), "thunder", "replace") == "thunder"
        assert embeddings.save(word(), "storm", "stop") == "storm" == embeddings.save(word(), "storm", "stop")


def test_a_record_of_version_0_1_0_is_kept(models, tmp_path):
    photo(tmp_path / "a.png", 0)
    folder = results("older")
    folder.mkdir(parents=True)
    (folder / "a__sound-1__x1.00.png").write_bytes(b"a picture of version 0.1.0")
    entry = {"photo": "a.png", "sound": "sound-1", "scale": 1.0, "identity": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps({"pictures": {"a__sound-1__x1.00.png": entry}}))
    run(models, tmp_path, "older")
    assert (folder / "a__sound-1__x1.00.png").read_bytes() == b"a picture of version 0.1.0"
    assert (folder / "a-2__sound-1__x1.00.png").is_file()


def test_a_plan_over_http_leaves_the_word_unmade_and_a_run_makes_it(client, stand_ins, workspace):
    """The word comes over a wire: a plan ends without it, a run waits for it, and the next plan knows it."""
    word().save(workspace.models / "embeddings" / "wired.safetensors")
    photo(workspace.input / "wired" / "a.png", 0, size=64)
    one = TestPlans().inputs((["1", 0], ["1", 1], ["1", 2]), "wired", output="wired")
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": stand_ins.checkpoint}},
        "2": {"class_type": "AAI_LoadAudioToken", "inputs": {"name": "wired.safetensors"}},
        "3": {"class_type": "AAI_BatchStylize", "inputs": {name: values[0] for name, values in one.items()}},
    }
    graph["3"]["inputs"]["audio_token"] = ["2", 0]
    plan = client.run(graph)
    assert plan.status == "success", plan.message
    assert "is not made for a plan" in plan.outputs["3"]["text"][0]
    graph["3"]["inputs"]["plan_only"] = False
    run = client.run(graph)
    assert run.status == "success", run.message
    assert "1 pictures, 1 finished, 0 to do" in run.outputs["3"]["text"][0]
    graph["3"]["inputs"]["plan_only"] = True
    again = client.run(graph).outputs["3"]["text"][0]
    assert "1 pictures, 1 finished, 0 to do" in again and "is assumed to be that of the last run" in again
