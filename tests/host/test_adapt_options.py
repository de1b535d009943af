"""Every option of Train Audio Token trains on the host's models."""

from __future__ import annotations

import comfy.model_management as mm
import pytest
import torch
from aai_pack.aai_models.adapt.config import PRESETS, from_preset
from aai_pack.aai_models.errors import TokenError, TrainingError
from aai_pack.nodes import adapt
from aai_pack.nodes.host.adapt import bridge, carried, references, training
from aai_pack.nodes.host.base.types import AudioFeature
from aai_pack.nodes.host.base.vocabulary import vocabulary_rows, word_rows
from aai_pack.tests.host import micro
from aai_pack.tests.host.marks import equal_trainings
from aai_pack.tests.host.test_training import state_of

SMALL = {"steps": 6, "resolution": 64, "evaluate_every": 3, "held_out": 2, "learning_rate": 0.02}


pytestmark = pytest.mark.usefixtures("forgetful")


@pytest.fixture(scope="module")
def models():
    return micro.build()


@pytest.fixture(autouse=True)
def few_words(tmp_path, monkeypatch):
    """The bridge of the preset `quality` from few words."""
    monkeypatch.setattr(bridge.folder_paths, "get_user_directory", lambda: str(tmp_path))
    monkeypatch.setattr(
        carried, "bridge_of", lambda clip, limit, kind, own=None: bridge.bridge_of(clip, 100, kind, own)
    )


def train(models, preset="as_set", sounds=1, groups=None, masks=(), **changes):
    own = {**SMALL, **changes} if preset == "as_set" else {"resolution": 64, "steps": 6, **changes}
    features = torch.stack([micro.sound(seed) for seed in range(sounds)])
    with torch.inference_mode():
        groups = groups or [micro.pictures(seed=seed) for seed in range(sounds)]
        sounds = AudioFeature(features, norms=tuple(5.0 + n for n in range(sounds)), aligned_with="clip_l")
        return training.train(*models, sounds, groups, from_preset(preset, **own), masks=list(masks))


@pytest.mark.parametrize(
    "changes",
    [
        *({"scale": scale} for scale in ("unit", "raw")),
        *({"start": start, "words": "thunder storm"} for start in ("zero", "words")),
        *({"norm_control": control} for control in ("renorm", "dti")),
        *({"timesteps": policy} for policy in ("stratified", "composition", "middle")),
        *({"prompts": prompts} for prompts in ("object", "style")),
        *({"flip": True}, {"vectors": 8}, {"accumulation": 2}, {"mode": "adapter_only"}),
    ],
    ids=str,
)
def test_every_option_trains_and_leaves_the_models(models, changes):
    before = state_of(models)
    done = train(models, **changes)
    rows = done.token.vectors["clip_l"]
    assert rows.shape == (changes.get("vectors", 1), 768) and bool(rows.isfinite().all())
    assert len(done.losses) == 6
    assert state_of(models) == before
    if changes.get("norm_control"):
        norms = vocabulary_rows(models[1], "clip_l").norm(dim=-1)
        wanted = norms.mean() if changes["norm_control"] == "dti" else norms.median()
        assert float(rows.norm()) == pytest.approx(float(wanted), rel=1e-4)


def test_modes_in_their_figures(models):
    whole, adapter, sound = (train(models, mode=m) for m in ("sound_and_adapter", "adapter_only", "sound_only"))
    rows, part = whole.token.vectors["clip_l"], whole.token.sound("clip_l")
    assert whole.report.sound_share["clip_l"] == pytest.approx(float(part.norm() / rows.norm()), rel=1e-5)
    assert adapter.report.sound_share["clip_l"] == 0 and adapter.report.other_sound_cosine["clip_l"] == pytest.approx(1)
    assert adapter.report.other_sound_loss == pytest.approx(adapter.report.chosen_loss, rel=1e-6)
    assert sound.report.sound_share["clip_l"] == pytest.approx(1) and sound.losses == []
    assert sound.report.other_sound_loss != sound.report.chosen_loss
    assert "|s f_a| / |v*|" in whole.report.text()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets(models, preset):
    assert bool(train(models, preset).token.vectors["clip_l"].isfinite().all())


def test_raw_is_the_size_that_the_encoder_gave(models):
    done = train(models, sounds=2, scale="raw")
    assert done.token.scales == {"clip_l": 5.0}
    other = done.token.of_sound(micro.sound(1), 1.0, norm=6.0)
    assert float(other.sound("clip_l").norm()) == pytest.approx(6.0, rel=1e-5)
    with pytest.raises(TokenError, match="normalised to length 1"):
        done.token.of_sound(micro.sound(1), 1.0)
    with torch.inference_mode(), pytest.raises(TrainingError, match="normalised to length 1"):
        training.train(*models, micro.sound()[None], [micro.pictures()], from_preset("as_set", **SMALL, scale="raw"))


def test_words_start_at_their_rows(models):
    rows = word_rows(models[1], "thunder storm")["clip_l"]
    ids = models[1].tokenizer.clip_l.tokenizer("thunder storm")["input_ids"][1:-1]
    assert torch.equal(rows.cpu(), vocabulary_rows(models[1], "clip_l")[ids].cpu())
    with pytest.raises(TrainingError, match="no word"):
        word_rows(models[1], "   ")


def test_several_sounds_share_one_adapter(models):
    done = train(models, sounds=2)
    assert not torch.equal(done.token.vectors["clip_l"], done.token.with_audio(micro.sound(1)).vectors["clip_l"])
    assert torch.equal(done.token.audio_feature, micro.sound(0))


class TestTheNodeGivesEachSoundItsPictures:
    def run(self, models, features, **pictures):
        values = {"steps": 6, "learning_rate": 0.02, "resolution": 64, "seed": 3, "prompt": "a photo of <A*>"}
        values |= dict(zip(("model", "clip", "vae"), models, strict=True)) | {"batch_size": 1}
        with torch.inference_mode():
            token, losses, *_ = adapt.AAI_TrainAudioToken.execute(
                features, **pictures, **{name: [value] for name, value in values.items()}
            ).result
        return token, losses["loss"]

    def sounds(self, *seeds):
        return AudioFeature(torch.stack([micro.sound(seed) for seed in seeds]), "a", tuple(0.0 for _ in seeds))

    @equal_trainings
    def test_a_batch_of_sounds_or_several_wires(self, models):
        """As `train` with the pictures in groups; groups that are swapped are another training."""
        pictures = {"references": micro.pictures(2, seed=1), "references_3": micro.pictures(1, seed=2)}
        token, losses = self.run(models, [self.sounds(0, 1)], **pictures)
        again, wires = self.run(models, [self.sounds(0), self.sounds(1)], **pictures)
        swapped = {"references": pictures["references_3"], "references_3": pictures["references"]}
        assert losses == wires and torch.equal(token.vectors["clip_l"], again.vectors["clip_l"])
        groups = list(pictures.values())
        config = from_preset("as_set", steps=6, learning_rate=0.02, resolution=64, seed=3)
        with torch.inference_mode():
            done = training.train(*models, self.sounds(0, 1).vectors, groups, config)
        assert done.losses == losses
        assert self.run(models, [self.sounds(0, 1)], **swapped)[1] != losses

    def test_one_sound_takes_all(self, models):
        apart = self.run(models, [self.sounds(0)], references=micro.pictures(2), references_2=micro.pictures(1, seed=2))
        together = self.run(models, [self.sounds(0)], references=[*micro.pictures(2), *micro.pictures(1, seed=2)])
        assert apart[1] == together[1]

    def test_a_sound_without_pictures(self, models):
        with pytest.raises(
            TrainingError, match=r"2 sounds, and pictures at 1 inputs\. .*`references_2` for the second"
        ):
            self.run(models, [self.sounds(0, 1)], references=micro.pictures(2))


def test_mirrored_pictures_double_the_references(models):
    with torch.inference_mode():
        found = references.encode_all(models[0], models[2], [micro.pictures(2)], [], 64, flip=True)
        picture = references._prepare_picture(micro.pictures(1)[0][0], 64)
        mirrored = models[0].model.process_latent_in(models[2].encode(picture.flip(2)))
    assert found.latents.shape[0] == 4
    assert torch.allclose(found.latents[2], mirrored[0], atol=1e-5)


class TestMasks:
    def test_what_is_masked_out_does_not_count(self, models):
        """Pictures that differ only where the mask is black give latents that the loss cannot tell apart there."""
        mask = torch.zeros(1, 64, 64)
        mask[:, :, :32] = 1
        with torch.inference_mode():
            pictures = [torch.rand(1, 64, 64, 3)]
            found = references.encode_all(models[0], models[2], [pictures], [mask], 64, flip=True)
        assert found.masks.shape == (2, 1, 8, 8)
        assert bool((found.masks[0, 0, :, :4] == 1).all()) and not found.masks[0, 0, :, 4:].any()
        assert torch.equal(found.masks[1], found.masks[0].flip(-1))
        assert train(models, groups=[pictures], masks=[mask]).losses != train(models, groups=[pictures]).losses

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (torch.zeros(1, 8, 8), "Mask 1 is empty"),
            (torch.full((8, 8), float("nan")), "Mask 1 is empty, or contains NaN"),
            (torch.ones(2, 8, 8), "2 masks for 3 pictures"),
            (torch.ones(1, 1, 8, 8), "Mask 1 has the shape"),
            (torch.ones(1, 0, 8), "Mask 1 has the shape"),
        ],
    )
    def test_masks_that_do_not_fit(self, models, mask, words, monkeypatch):
        """Before anything is loaded or encoded."""
        monkeypatch.setattr(mm, "load_models_gpu", lambda *_, **__: pytest.fail("a model was loaded"))
        with pytest.raises(TrainingError, match=words):
            train(models, masks=[mask])
