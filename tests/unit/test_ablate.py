"""The ablation: every row with every seed, mean and spread, and nothing done twice."""

from __future__ import annotations

import json

import pytest
from aai_pack.aai_models.align.__main__ import main
from aai_pack.aai_models.align.data.shards import ShardSet
from aai_pack.aai_models.align.judge.ablate import ROWS, AblationRow, ablate, difference
from aai_pack.aai_models.align.judge.evaluate import Judged
from aai_pack.aai_models.align.momentum import READINGS
from aai_pack.aai_models.align.texts import HashedWords
from aai_pack.aai_models.errors import TrainingError
from aai_pack.tests.unit.align_sets import SMALL, make_set, small_config


def test_mean_and_spread():
    row = AblationRow("both", [{"a2t": 10.0}, {"a2t": 20.0}, {"a2t": 60.0}])
    assert row.mean("a2t") == 30.0 and row.spread("a2t") == pytest.approx(26.4575, abs=1e-3)
    assert AblationRow("one", [{"a2t": 3.0}]).spread("a2t") == 0.0
    better = AblationRow("better", [{"a2t": 12.0}, {"a2t": 22.0}, {"a2t": 62.0}])
    assert difference(better, row, "a2t") == (2.0, 0.0)


def test_the_control_is_there():
    assert ROWS["alpha alone"] == {"momentum_target": "frozen"} and ROWS["w/o m"]["alpha"] == 0.0
    assert {row["momentum_target"] for row in ROWS.values()} == set(READINGS)


def test_the_command(tmp_path, capsys):
    place = make_set(tmp_path)
    tower = [f"--set=tower.{name}={value}" for name, value in vars(SMALL).items()]
    settings = ["--set=batch=8", "--set=epochs=1", "--set=lr=0.01", *tower, "--cache-gib=0.1", "--device=cpu"]
    command = ["ablate", str(place), str(tmp_path / "out"), "--preset=tiny", *settings, "--split=val"]
    command += ["--seeds=0,4", "--rows=w/o m; alpha alone;visual_shared"]
    assert main(command) == 0
    text = capsys.readouterr().out
    for words in ("w/o m", "alpha alone", "visual_shared", "over 2 seeds", "52.16", "not comparable"):
        assert words in text
    values = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert len(values["visual_shared"]["runs"]) == 2 and values["alpha alone"]["l_t"]["mean"] == pytest.approx(
        0, abs=1e-4
    )
    seeds = [json.loads(p.read_text()) for p in sorted((tmp_path / "out").glob("visual_shared-*/result.json"))]
    assert len(seeds) == 2 and (tmp_path / "out" / "ablation.png").stat().st_size > 1000
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/last.run")}
    assert main(command) == 0 and stamps == {p: p.stat().st_mtime_ns for p in stamps}


def test_what_is_refused(tmp_path):
    place, texts = ShardSet.open(str(make_set(tmp_path))), HashedWords(64)
    with pytest.raises(TrainingError, match=r"no row 'queue'.*w/o m"):
        ablate(lambda *_: True, small_config(), place, texts, tmp_path, seeds=[0], rows=["queue"])
    with pytest.raises(TrainingError, match="was stopped"):
        ablate(lambda *_: False, small_config(), place, texts, tmp_path, seeds=[0], rows=["both"], say=str)


def test_commands_end_to_end(tmp_path, capsys):
    """prepare, train and evaluate as a newcomer calls them; mistakes are one line."""
    make_set(tmp_path)
    files = tmp_path / "files"
    lines = [f"{n}.wav,{n}-0.png,class {n % 3},{('train', 'train', 'test')[n % 3]}" for n in range(24)]
    (files / "clips.csv").write_text("audio,image,label,split\n" + "\n".join(lines) + "\n")
    assert main(["prepare", str(files / "clips.csv"), str(tmp_path / "mine"), "--heldout=0.2"]) == 0
    assert "test: 8 clips" in capsys.readouterr().out
    tower = [f"--set=tower.{name}={value}" for name, value in vars(SMALL).items()]
    run = ["train", str(tmp_path / "mine"), str(tmp_path / "run"), "--preset=tiny", "--set=batch=4", "--set=epochs=1"]
    assert main([*run, *tower, "--workers=0", "--max-steps=1", "--device=cpu"]) == 130
    assert main([*run, *tower, "--workers=0", "--device=cpu"]) == 0
    text = capsys.readouterr().out
    assert "going on from step 1" in text and "the towers are untrained" in text and "the teacher averages" in text
    judged = ["evaluate", str(tmp_path / "run" / "final.safetensors"), str(tmp_path / "mine"), "--probe"]
    assert main([*judged, f"--out={tmp_path / 'judged'}"]) == 0
    assert "untrained tower" in capsys.readouterr().out and (tmp_path / "judged" / "evaluation.json").exists()
    half = tmp_path / "mine.safetensors"
    assert main(["convert", str(tmp_path / "run" / "final.safetensors"), str(half)]) == 0
    assert Judged.open(half).config.preset == "tiny"
    assert main(["train", str(tmp_path / "gone"), str(tmp_path / "x")]) == 1
    assert main([*run, "--set=batch=5", *tower, "--workers=0", "--device=cpu"]) == 1
    assert "batch was 4 and is 5" in capsys.readouterr().err
