"""What the pocket world's nodes draw and sound like."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.errors import PocketError
from aai_pack.nodes import pocket as nodes
from aai_pack.nodes.host.pocket import scenes


def test_scenes_are_pictures_and_masks():
    picture, mask = nodes.AAI_PocketScene.execute("cat", "snow", "blue", "sketch", 0.7, 3, 4).result
    assert picture.shape == (4, 128, 128, 3) and mask.shape == (4, 128, 128)
    assert picture.dtype == mask.dtype == torch.float32 and 0 <= float(picture.min()) < float(picture.max()) <= 1
    one = nodes.AAI_PocketScene.execute("cat", "snow", "blue", "sketch", 0.7, 4, 1).result[0]
    assert torch.equal(one[0], picture[1])
    nothing, empty = nodes.AAI_PocketScene.execute("nothing", "snow", "blue", "photo", 0.7, 3, 1).result
    assert not empty.any() and nothing.std() > 0
    pair = nodes.AAI_PocketScene.execute("cat", "snow", "blue", "photo", 0.7, 3, 1, "left", "bell").result[1]
    assert pair[0, :, :60].any() and pair[0, :, 68:].any()


def test_sides():
    def middle(side):
        mask = scenes.draw_scene("clock", "room", "red", "photo", 0.2, side, "nothing", 5, 1)[1][0]
        return float((mask.sum(0) * torch.arange(128)).sum() / mask.sum())

    assert middle("left") < middle("middle") < middle("right")


def test_sounds_are_the_hosts_audio():
    audio = nodes.AAI_PocketSound.execute("bell", 0.5, 1, 1.0).result[0]
    assert audio["waveform"].shape == (1, 1, 16000) and audio["sample_rate"] == 16000
    again = nodes.AAI_PocketSound.execute("bell", 0.5, 1, 1.0).result[0]
    assert torch.equal(audio["waveform"], again["waveform"])


def test_two_things_sound_at_once():
    alone = nodes.AAI_PocketSound.execute("bell", 1.0, 1, 1.0).result[0]["waveform"]
    other = nodes.AAI_PocketSound.execute("rain", 1.0, 2, 1.0).result[0]["waveform"]
    both = nodes.AAI_PocketSound.execute("bell", 1.0, 1, 1.0, "rain").result[0]["waveform"]
    assert both.shape == alone.shape and float(both.abs().max()) <= 1.0
    summed = alone + other
    assert torch.allclose(both, summed / max(1.0, float(summed.abs().max())), atol=1e-6)
    nothing = nodes.AAI_PocketSound.execute("bell", 1.0, 1, 1.0, "nothing").result[0]["waveform"]
    assert torch.equal(nothing, alone)
    with pytest.raises(PocketError, match="rooster"):
        nodes.AAI_PocketSound.execute("bell", 0.5, 0, 1.0, "unicorn")


def test_unknown_names_are_told_what_there_is():
    with pytest.raises(PocketError, match="photo, sketch"):
        nodes.AAI_PocketScene.execute("cat", "snow", "blue", "cubist", 0.5, 0, 1)
    with pytest.raises(PocketError, match="beach"):
        nodes.AAI_PocketScene.execute("cat", "moon", "blue", "photo", 0.5, 0, 1)
    with pytest.raises(PocketError, match="rooster"):
        nodes.AAI_PocketSound.execute("unicorn", 0.5, 0)
