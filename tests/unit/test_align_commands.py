"""The four commands of docs/align.md on a folder of videos, with CLIP for the frames and CLIP's words."""

from __future__ import annotations

import json

import pytest
import torch
from aai_pack.aai_models.align.__main__ import main
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.align.convert import read_state_dict
from aai_pack.aai_models.align.data.shards import ShardSet, ShardSource
from aai_pack.aai_models.align.texts import CLIPTexts, Reduced
from aai_pack.tests.unit.align_sets import SMALL, make_set, run, small_config
from aai_pack.tests.unit.test_prepare import write_clip_model, write_video
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return write_clip_model(tmp_path_factory.mktemp("clip"))


def test_a_folder_of_videos(tmp_path, clip_folder, capsys):
    for n in range(12):
        shade = [(20 * (n % 3) + 5 * frame, 90 * (n % 2), 200 - 4 * frame) for frame in range(40)]
        write_video(tmp_path / "videos" / ("kettle", "door bell")[n % 2] / f"{n}.mp4", shade)
    begun = tmp_path / "cav_mae.safetensors"
    save_file(CAVTMAE.fresh(SMALL).state_dict(), begun)
    data, out, words = str(tmp_path / "set"), tmp_path / "run", f"--texts={clip_folder / 'text'}"
    command = ["prepare", str(tmp_path / "videos"), data, "--clip", str(clip_folder), "--heldout=0.3", "--device=cpu"]
    assert main(command) == 0
    said = capsys.readouterr().out
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    assert index["labels"] == ["door bell", "kettle"] and index["pictures_per_clip"] == 10
    assert "120 pictures" in said and index["splits"]["val"]["clips"] >= 2, said
    looked = [raw["note"] for raw in ShardSet.open(data).raw("train")]
    assert all(note.looked_at == 20 and len(note.order) == 10 for note in looked)
    assert any(list(note.order) != sorted(note.order) for note in looked)  # CLIP's order, not that of time
    settings = ["--preset=paper", "--set=batch=4", "--set=epochs=2", "--workers=0", "--device=cpu"]
    assert main(["train", data, str(out), f"--init={begun}", words, *settings]) == 0
    said = capsys.readouterr().out
    assert "no --texts" not in said and "no --init" not in said and "finished at step" in said
    judged = ["evaluate", str(out / "best.safetensors"), data, "--split=val", f"--out={tmp_path / 'judged'}"]
    assert main([*judged, words]) == 0 and "not trained on the texts of" not in capsys.readouterr().out
    assert main(judged) == 0 and "was not trained on the texts of hashed words" in capsys.readouterr().out
    mine = tmp_path / "mine.safetensors"
    assert main(["convert", str(out / "best.safetensors"), str(mine)]) == 0
    assert CAVTMAE.from_state_dict(read_state_dict(mine)).has_images and mine.stat().st_size < begun.stat().st_size


def test_the_text_encoder_stays_bit_for_bit(tmp_path, clip_folder):
    config, texts = small_config(momentum_target="both"), CLIPTexts(clip_folder / "text")
    before = {name: tensor.clone() for name, tensor in texts._model.state_dict().items()}
    place = ShardSet.open(str(make_set(tmp_path)))
    source = ShardSource(place, config, Reduced(texts, 64), states=(49, 64))
    result, _ = run(tmp_path / "run", source, config)
    assert result.finished and before.keys() == texts._model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in texts._model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in texts._model.parameters())
