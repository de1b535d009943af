"""The ridge bridge: exact where the truth is linear, honest where there is none, and a file that is what it says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.adapt.bridge import Bridge, fit, nearest_words
from aai_pack.aai_models.errors import TokenError


def world(count: int = 600, noise: float = 0.0):
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(count, 32, generator=generator) + 0.5, dim=-1)
    maps = {"clip_l": torch.randn(32, 24, generator=generator), "clip_g": torch.randn(32, 40, generator=generator)}
    rows = {key: features @ m + 0.3 for key, m in maps.items()}
    return features, {key: r + noise * torch.randn(r.shape, generator=generator) for key, r in rows.items()}


def test_a_linear_world_is_carried_whole():
    features, rows = world()
    bridge = fit(features, rows)
    for key in rows:
        assert bridge.figures[f"{key}.cosine"] > 0.999 and bridge.figures[f"{key}.nearest"] == 1.0
        assert float(F.cosine_similarity(bridge.carry(features[5])[key], rows[key][5], dim=-1)) > 0.999
        assert float(bridge.carry(features[5])[key].norm()) == pytest.approx(1, rel=1e-5)


def test_the_figures_do_not_flatter():
    """Rows that have nothing to do with the features: held-out words are not found."""
    features, _ = world(count=200)
    bridge = fit(features, {"clip_l": torch.randn(200, 24, generator=torch.Generator().manual_seed(5))})
    assert bridge.figures["clip_l.nearest"] < 0.2 and abs(bridge.figures["clip_l.cosine"]) < 0.3


def test_noise_asks_for_a_stronger_ridge():
    strengths = [fit(*world(80, noise)).figures["clip_l.strength"] for noise in (0.0, 3.0)]
    assert strengths[0] < strengths[1]


def test_file(tmp_path):
    features, rows = world()
    bridge = fit(features, rows)
    bridge.save(tmp_path / "b.safetensors")
    loaded = Bridge.load(tmp_path / "b.safetensors")
    assert torch.equal(loaded.carry(features[0])["clip_g"], bridge.carry(features[0])["clip_g"])
    assert loaded.figures == bridge.figures
    (tmp_path / "b.safetensors").write_bytes(b"damaged")
    assert Bridge.load(tmp_path / "b.safetensors") is None


def test_what_does_not_fit():
    features, rows = world()
    with pytest.raises(TokenError, match="768 values"):
        fit(features, rows).carry(torch.zeros(768))
    with pytest.raises(TokenError, match="10 words"):
        fit(features[:10], {key: r[:10] for key, r in rows.items()})


def test_nearest_words():
    rows = torch.eye(4)
    found = nearest_words(torch.tensor([0.0, 3.0, 4.0, 0.0]), rows, ["a", "b", "c", "d"], 2)
    assert [word for word, _ in found] == ["c", "b"] and found[0][1] == pytest.approx(0.8)
