"""The ridge bridge: exact where the truth is linear, honest where there is none, and a file that is what it says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.adapt.bridge import Bridge, disturbed, fit, nearest_words, towards_words
from aai_pack.aai_models.adapt.phi import fit_phi
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


def uneven_world(count: int = 600):
    """Words that differ much in a few ways and little in most, as a text encoder's do; all ways count in their rows."""
    generator = torch.Generator().manual_seed(2)
    features = F.normalize(torch.randn(count, 32, generator=generator) * 0.7 ** torch.arange(32), dim=-1)
    return features, {
        "clip_l": features @ torch.diag(1.3 ** torch.arange(32)) @ torch.randn(32, 24, generator=generator)
    }


def test_a_bridge_that_expects_an_error_carries_what_is_off():
    features, rows = uneven_world()
    sounds = disturbed(features[:100], 0.5, torch.Generator().manual_seed(8))

    def cosine(bridge):
        carried = torch.stack([bridge.carry(sound)["clip_l"] for sound in sounds])
        return float(F.cosine_similarity(carried, rows["clip_l"][:100], dim=-1).mean())

    naive, expecting = fit(features, rows), fit(features, rows, error=0.5)
    assert cosine(expecting) > cosine(naive) + 0.2
    assert expecting.figures["clip_l.disturbed"] == pytest.approx(cosine(expecting), abs=0.1), "what it says of itself"
    assert expecting.figures["clip_l.disturbed"] < expecting.figures["clip_l.cosine"]


def test_what_is_off_is_off_by_so_much():
    unit = F.normalize(torch.randn(50, 768, generator=torch.Generator().manual_seed(0)), dim=-1)
    moved = disturbed(unit, 0.5, torch.Generator().manual_seed(1))
    assert torch.allclose(moved.norm(dim=-1), torch.ones(50), atol=1e-5)
    assert torch.allclose((moved - unit).norm(dim=-1), torch.full((50,), 0.5), atol=1e-5)
    assert torch.equal(disturbed(unit, 0.0, torch.Generator()), unit)


def test_file(tmp_path):
    features, rows = world()
    bridge = fit(features, rows)
    bridge.save(tmp_path / "b.safetensors")
    loaded = Bridge.load(tmp_path / "b.safetensors")
    assert torch.equal(loaded.carry(features[0])["clip_g"], bridge.carry(features[0])["clip_g"])
    assert loaded.figures == bridge.figures
    assert Bridge.load(tmp_path / "b.safetensors", "another clip") is None
    (tmp_path / "b.safetensors").write_bytes(b"damaged")
    assert Bridge.load(tmp_path / "b.safetensors") is None


def test_what_does_not_fit():
    features, rows = world()
    with pytest.raises(TokenError, match="768 values"):
        fit(features, rows).carry(torch.zeros(768))
    with pytest.raises(TokenError, match="10 usable words"):
        fit(features[:10], {key: r[:10] for key, r in rows.items()})


def test_a_word_moves_onto_the_words_that_it_is_nearest_to():
    rows = torch.nn.functional.normalize(torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    heard = disturbed(rows[:20], 0.7, torch.Generator().manual_seed(1))
    assert towards_words(heard, rows, 0.0) is heard
    cosines = [(towards_words(heard, 3 * rows, share) * rows[:20]).sum(-1).min() for share in (0.0, 0.5, 1.0)]
    assert cosines[0] < cosines[1] < cosines[2] and cosines[2] > 0.95
    assert torch.allclose(towards_words(heard, rows, 0.5).norm(dim=-1), torch.ones(20))
    one = towards_words(heard[3], rows, 1.0)
    assert one.shape == (64,) and torch.allclose(one, towards_words(heard, rows, 1.0)[3], atol=1e-6)


def test_nearest_words():
    rows = torch.eye(4)
    found = nearest_words(torch.tensor([0.0, 3.0, 4.0, 0.0]), rows, ["a", "b", "c", "d"], 2)
    assert [word for word, _ in found] == ["c", "b"] and found[0][1] == pytest.approx(0.8)


def test_the_ridge_is_the_textbooks():
    features, rows = world(count=200, noise=0.1)
    bridge = fit(features, rows)
    x = features.double() - features.double().mean(0)
    y = rows["clip_l"].double() - rows["clip_l"].double().mean(0)
    gram = x.T @ x
    ridge = bridge.figures["clip_l.strength"] * gram.diagonal().mean() * torch.eye(32, dtype=torch.float64)
    assert torch.allclose(bridge.weights["clip_l"].double(), torch.linalg.solve(gram + ridge, x.T @ y), atol=1e-5)


class TestCentring:
    def test_features_of_another_kind_need_their_own_mean(self):
        """Sounds are the words' features around another mean: centred by it they arrive, by the words' they do not."""
        features, rows = world()
        bridge = fit(features, rows)
        shift = torch.randn(32, generator=torch.Generator().manual_seed(7))
        sounds = F.normalize(0.3 * (features - features.mean(0)) + shift, dim=-1)

        def cosine(centre):
            carried = torch.stack([bridge.carry(sound, centre)["clip_l"] for sound in sounds[:50]])
            return float(F.cosine_similarity(carried, rows["clip_l"][:50], dim=-1).mean())

        assert cosine(sounds.mean(0)) > cosine(None) + 0.1


class TestPhi:
    def test_it_finds_what_a_line_cannot(self, tmp_path):
        generator = torch.Generator().manual_seed(1)
        features = F.normalize(torch.randn(3000, 8, generator=generator), dim=-1)
        hidden = torch.relu(6 * features @ torch.randn(8, 24, generator=generator)) - 1
        rows = {"clip_l": hidden @ torch.randn(24, 12, generator=generator)}
        seen = []
        bridge = fit_phi(features, rows, on_epoch=lambda done, total: seen.append((done, total)))
        assert bridge.figures["clip_l.cosine"] > bridge.figures["clip_l.ridge_cosine"] + 0.03
        assert seen[-1][0] == seen[-1][1]
        bridge.save(tmp_path / "b.safetensors")
        loaded = Bridge.load(tmp_path / "b.safetensors")
        assert loaded.kind == "phi" and torch.equal(
            loaded.carry(features[0])["clip_l"], bridge.carry(features[0])["clip_l"]
        )

    def test_where_a_line_is_the_truth_it_stays_with_it(self):
        features, rows = world()
        bridge = fit_phi(features, rows)
        assert bridge.figures["clip_l.cosine"] > 0.995

    def test_it_expects_an_error_too(self):
        features, rows = uneven_world()
        naive, expecting = fit_phi(features, rows), fit_phi(features, rows, error=0.5)
        sounds = disturbed(features[:100], 0.5, torch.Generator().manual_seed(8))
        cosines = [
            float(
                F.cosine_similarity(
                    torch.stack([b.carry(s)["clip_l"] for s in sounds]), rows["clip_l"][:100], dim=-1
                ).mean()
            )
            for b in (naive, expecting)
        ]
        assert cosines[1] > cosines[0] + 0.1

    def test_it_can_be_stopped(self):
        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit_phi(*world(100), on_epoch=stop)
