"""Presets, settings of the command line, and differences that are named."""

from __future__ import annotations

import dataclasses

import pytest
from aai_pack.aai_models.align.config import PRESETS, AlignConfig, differences
from aai_pack.aai_models.errors import TrainingError


def test_the_paper_preset_is_the_papers():
    paper = PRESETS["paper"]
    assert (paper.momentum, paper.weight_decay, paper.batch, paper.epochs, paper.lr) == (0.995, 0.02, 120, 10, 5e-5)
    assert (paper.tau, paper.short_clip, paper.channels, paper.prompt) == (0.05, "pad_reference", "first", "label")
    assert paper.tower.dim == 768 and not paper.multi_positive


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_frozen_and_survive_a_file(name):
    config = PRESETS[name]
    assert config.preset == name and AlignConfig.from_json(config.to_json()) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.lr = 1.0


def test_settings():
    config = PRESETS["tiny"].changed(["lr=0.01", "noise=false", "momentum_target=head", "tower.depth=3", "epochs=7"])
    assert (config.lr, config.noise, config.momentum_target, config.epochs) == (0.01, False, "head", 7)
    assert config.tower.depth == 3 and config.tower.dim == PRESETS["tiny"].tower.dim
    assert differences(PRESETS["tiny"], config)[0].startswith("momentum_target was both and is head")
    assert differences(config, config) == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("speed=1", "no setting 'speed=1'"),
        ("lr", "no setting 'lr'"),
        ("tower.size=3", "no setting"),
        ("lr=fast", "a value of type float"),
        ("noise=perhaps", "a value of type bool"),
        ("lr=nan", "must lie between"),
        ("alpha=2", "must lie between"),
        ("momentum_target=none", "Known are frozen"),
        ("schedule=step", "Known are halve"),
    ],
)
def test_settings_that_are_none(setting, words):
    with pytest.raises(TrainingError, match=words):
        PRESETS["paper"].changed([setting])
