"""The pocket models outside the host: exact shortcuts of training, the weights file, resuming."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.audio.fbank import encoder_input
from aai_pack.aai_models.errors import PocketError
from aai_pack.lab.training import diffusion, export, takes
from aai_pack.lab.training import sounds as sound_training
from aai_pack.lab.training.autoencoder import AutoencoderConfig
from aai_pack.lab.training.autoencoder import train as train_autoencoder
from aai_pack.lab.training.sounds import SoundConfig
from aai_pack.lab.training.words import TOKENS, Words, end_columns, indices
from aai_pack.pocket.models import hearing, text, vocabulary, weights
from aai_pack.pocket.models.unet import UNet
from aai_pack.pocket.world.names import NAMED
from aai_pack.pocket.world.sounds import RATE, synthesise


def shaken(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights that start at zero get values, so that nothing is skipped."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return module


@pytest.fixture(scope="module")
def words():
    torch.manual_seed(0)
    return shaken(Words())


def whole(words, rows: torch.Tensor) -> torch.Tensor:
    """All 77 columns, computed one by one, and emptied behind the first end token as the host does it."""
    encoder = words.encoder
    rows = torch.nn.functional.pad(rows, (0, text.LENGTH - rows.shape[1]), value=1)
    states = encoder.token_embedding[rows] + encoder.host_state_dict()["embeddings.position_embedding.weight"]
    states = encoder.final_layer_norm(encoder.layer(states))
    return states * (torch.arange(text.LENGTH) <= end_columns(rows)[:, None]).unsqueeze(-1)


@torch.no_grad()
def test_a_prompt_is_its_words_and_its_end(words):
    rows = torch.tensor([indices("a photo of a red dog on a beach"), indices(""), indices("a sketch of a bell")])
    states, short = whole(words, rows), words(rows, torch.zeros(3, dtype=torch.long))
    assert torch.allclose(short, states[:, : short.shape[1]], atol=1e-5)
    for one, end in zip(short, end_columns(rows).tolist(), strict=True):
        assert not one[end + 1 :].any() and bool(one[: end + 1].any(1).all())


@torch.no_grad()
def test_one_empty_column_counts_as_all_of_them(words):
    torch.manual_seed(1)
    unet = shaken(UNet())
    rows = torch.tensor([indices("a photo of a red dog on a beach")])
    x, timestep = torch.randn(1, 4, 16, 16), torch.tensor([500])
    long = unet(x, timestep, whole(words, rows))
    for columns in (int(end_columns(rows)) + 2, rows.shape[1]):
        states = words(rows[:, :columns], torch.zeros(1, dtype=torch.long))
        short = unet(x, timestep, states, text.key_bias(columns))
        assert torch.allclose(short, long, atol=1e-4 * float(long.abs().max()))


@torch.no_grad()
def test_a_repeated_clip_is_heard_as_one_clip():
    torch.manual_seed(0)
    model = shaken(hearing.build())
    period = torch.randn(2, hearing.PERIOD_FRAMES, 128)
    whole_clip = period.repeat(1, 4, 1)
    model.pos_embed_a.data.copy_(hearing.build().pos_embed_a)
    assert torch.allclose(hearing.encode_period(model, period), model.encode_audio(whole_clip), atol=1e-5)
    among = torch.cat([whole_clip[:1], torch.randn(1, 1024, 128), whole_clip[1:]])
    assert torch.equal(model.pool_audio(among)[[0, 2]], CAVTMAE.pool_audio(model, whole_clip)), "as in version 0.1.0"
    everything = torch.arange(32).expand(2, -1)
    assert torch.equal(hearing.encode_period(model, period, everything), hearing.encode_period(model, period))
    with pytest.raises(ValueError, match="encode_audio takes"):
        model.encode_audio(period)


@pytest.mark.parametrize("gain", [1.0, 0.1])
@pytest.mark.parametrize("filling", ["recorded silence", "silence", "pad_reference"])
@torch.no_grad()
def test_what_follows_a_sound_does_not_drown_it(filling, gain):
    model = hearing.PocketCAVTMAE.from_state_dict(hearing.as_used(weights.load()[0]["cavt"]))
    clips = [gain * torch.from_numpy(synthesise(thing, 0.7, 1))[None, None] for thing in NAMED]
    followed, policy = clips, filling
    if filling == "recorded silence":
        followed, policy = [torch.nn.functional.pad(clip, (0, 3 * clip.shape[-1])) for clip in clips], "tile"
    alone = torch.cat([encoder_input(clip, RATE, short_clip="tile") for clip in clips])
    followed = torch.cat([encoder_input(clip, RATE, short_clip=policy) for clip in followed])

    def likeness(heard):
        return torch.nn.functional.cosine_similarity(model.encode_audio(alone), heard)

    together, in_one_piece = model.pool_audio(followed), CAVTMAE.pool_audio(model, followed)
    assert likeness(together).min() > 0.8 and likeness(together).mean() > 0.92
    assert likeness(in_one_piece).mean() < likeness(together).mean() - 0.05
    assert torch.allclose(together, torch.cat([model.pool_audio(x[None]) for x in followed]), atol=1e-4)


@torch.no_grad()
def test_silence_and_padding_alone_are_heard_as_something_finite():
    model = hearing.PocketCAVTMAE.from_state_dict(hearing.as_used(weights.load()[0]["cavt"]))
    alone = torch.stack([torch.full((1024, 128), value) for value in (-2.42, 1.1329, 0.0)])
    changing = torch.cat([alone[:1, :512], alone[1:2, 512:]], dim=1)
    assert model.encode_audio(torch.cat([alone, changing])).isfinite().all()


@torch.no_grad()
def test_the_image_tower_at_half_size_is_the_image_tower():
    torch.manual_seed(0)
    model = shaken(hearing.build())
    kernel = torch.randn(768, 3, 16, 16) * 0.02
    model.patch_embed_v.proj.weight.data.copy_(hearing.full_kernel(kernel))
    pixels = torch.randn(2, 3, 224, 224)
    half = torch.nn.functional.avg_pool2d(pixels, 2)
    assert torch.allclose(hearing.encode_half(model, half, kernel), model.encode_image(pixels), atol=1e-5)
    assert torch.allclose(hearing.half_kernel(hearing.full_kernel(kernel)), kernel, atol=1e-6)


def test_the_table_of_words_shares_rows_between_synonyms(words):
    rows = words.encoder.token_embedding.detach()
    table = vocabulary.table(rows, TOKENS)
    ids = vocabulary.vocabulary()
    assert table.shape == (49408, 768) and torch.equal(table[TOKENS], rows)
    assert torch.equal(table[ids["puppy"][0]], table[ids["dog"][0]])
    assert torch.equal(table, vocabulary.table(rows, TOKENS))
    others = table[[n for n in range(1000, 1200) if n not in TOKENS]]
    assert others.std(0).mean() > 0


def parts() -> dict:
    generator = torch.Generator().manual_seed(0)
    return {
        part: {"a.weight": torch.randn(96, 64, generator=generator), "b": torch.randn(7, generator=generator)}
        for part in weights.PARTS
    }


def test_the_weights_file_keeps_what_it_was_given(tmp_path):
    path = tmp_path / "pocket.safetensors"
    weights.save(parts(), {"tokens": [1, 2]}, path)
    found, about = weights.load(path)
    assert about == {"tokens": [1, 2]}
    for part, tensors in parts().items():
        error = (found[part]["a.weight"] - tensors["a.weight"]).abs().amax(1)
        assert (error <= tensors["a.weight"].abs().amax(1) / 127).all()
        assert torch.allclose(found[part]["b"], tensors["b"], atol=2e-3)
    assert path.stat().st_size < len(weights.PARTS) * 96 * 64 * 1.2


def test_missing_and_damaged_weights_are_named_with_the_remedy(tmp_path):
    path = tmp_path / "pocket.safetensors"
    with pytest.raises(PocketError, match=r"not at .*Install the pack again"):
        weights.load(path)
    weights.save(parts(), {}, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(PocketError, match=r"damaged.*git checkout"):
        weights.load(path)
    weights.save({"unet": parts()["unet"]}, {}, path)
    with pytest.raises(PocketError, match="lacks text, vae, cavt"):
        weights.load(path)


def test_training_starts_goes_on_and_refuses_other_settings(tmp_path):
    settings = AutoencoderConfig(minutes=0.01, batch=2)
    first = torch.load(train_autoencoder(settings, tmp_path), weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in first.values())
    small = diffusion.DiffusionConfig(minutes=0.01, batch=2, first=4, fresh=1, most=8)
    diffusion.train(small, tmp_path)
    state = torch.load(tmp_path / "pictures" / "state.pt", weights_only=True)
    again = diffusion.train(small, tmp_path)  # its time is spent: nothing changes
    after = torch.load(tmp_path / "pictures" / "state.pt", weights_only=True)
    assert state["step"] == after["step"] and again.is_file()
    with pytest.raises(ValueError, match=r"other settings.*batch"):
        diffusion.train(diffusion.DiffusionConfig(minutes=0.01, batch=4, first=4, fresh=1, most=8), tmp_path)


def test_the_later_runs_move_the_unet_and_the_third_what_it_reads(tmp_path):
    train_autoencoder(AutoencoderConfig(minutes=0.01, batch=2), tmp_path)
    small = {"minutes": 0.06, "batch": 2, "first": 4, "fresh": 1, "most": 8}
    before = torch.load(diffusion.train(diffusion.DiffusionConfig(**small), tmp_path), weights_only=True)
    after = torch.load(diffusion.train(diffusion.PairsConfig(**small), tmp_path), weights_only=True)
    assert moved(before, after) == {"unet"}
    settings = diffusion.StylesConfig(**small, styled=0.9, unnumbered=0.9)
    last = torch.load(diffusion.train(settings, tmp_path), weights_only=True)
    assert moved(after, last) == {"unet", "words.styles", "glance"}


def moved(before: dict, after: dict) -> set[str]:
    """The parts that differ; of the words each tensor by itself."""
    names = [name for name in before if not torch.equal(before[name], after[name])]
    return {name if name.startswith("words") else name.split(".")[0] for name in names}


def test_the_second_run_sees_more_pairs():
    def share(config) -> float:
        scenes = [diffusion.training_scene(np.random.default_rng(seed), config.second) for seed in range(1000)]
        return np.mean([scene.second is not None for scene in scenes])

    assert share(diffusion.PairsConfig()) > 2 * share(diffusion.DiffusionConfig()) > 0.3


def test_the_third_run_sees_shapes_without_number_under_words_that_are_off(tmp_path):
    torch.manual_seed(0)
    config = diffusion.StylesConfig(batch=32, first=64, most=64, bf16=False)
    model, pool = diffusion.Model(), diffusion.Pool(diffusion.load_autoencoder(tmp_path), config, diffusion.Team())
    pool.grow(64)
    batch = pool.batch(np.random.default_rng(0))
    assert 0 < len(batch.unnumbered) == len(batch.portraits) < 16
    told = diffusion.embed(model, batch.rows, batch, replace(config, disturbed=0.0), None)
    off = diffusion.embed(model, batch.rows, batch, config, torch.Generator().manual_seed(0)).detach()
    slot = (batch.rows[batch.unnumbered] == -1).nonzero()  # their captions are not all empty
    rows = model.glance(batch.portraits)
    assert len(slot) and torch.equal(told[batch.unnumbered][slot[:, 0], slot[:, 1]], rows[slot[:, 0]])
    distance = (off - told.detach()).norm(dim=-1) / told.norm(dim=-1)
    ends = (batch.rows == 0) | (batch.rows == 1)
    assert (distance[ends] == 0).all() and 0.5 < distance.max() <= config.furthest + 1e-4
    assert 0.1 < (distance > 0).any(1).float().mean() < 0.6


def test_an_untrained_part_is_exported_as_it_came(tmp_path):
    export.export(tmp_path, tmp_path / "again.safetensors")
    again, shipped = weights.load(tmp_path / "again.safetensors")[0], weights.load()[0]
    for part, tensors in shipped.items():
        assert all(torch.equal(again[part][name], tensor) for name, tensor in tensors.items()), part


def test_sounds_that_are_mixed_belong_to_both_words_in_any_order():
    config, rng = SoundConfig(batch=8, pictures=8, shapes=0, mixed=0.5), np.random.default_rng(0)
    clips, classes = torch.randn(8, 16, 128), torch.tensor([5, 1, 2, 3, 4, 0, 6, 3])
    both, heard = sound_training._mixed(clips, classes, config, rng)
    assert heard[:4].tolist() == [[4, 5], [0, 1], [2, 6], [3, 3]] and heard[4:, 0].equal(heard[4:, 1])
    assert torch.equal(both[4:], clips[4:]) and (both - clips)[:4].min() > -1e-6  # powers add
    assert torch.allclose(sound_training.mix(clips, clips - 100, rng), clips, atol=1e-4)
    targets = torch.nn.functional.normalize(torch.randn(8, 16), dim=-1)
    exact = torch.nn.functional.normalize(targets[heard].sum(1), dim=-1)
    parts = sound_training._loss(exact, exact, heard, heard, targets, config)[1]
    assert parts["sound_text_right"] == 1 and abs(parts["sound_text_distance"]) < 1e-6


def test_a_part_of_a_recording_is_one_that_can_be_heard():
    quiet = torch.full((2, 480, 128), -1.0)
    quiet[0, 300:310] = 1.0  # one bark
    barks, noise = takes.audible_starts(quiet, 256)
    assert barks.min() + 256 > 300 and barks.max() == 480 - 256, "some of the bark is in every part"
    assert len(noise) == 480 - 256 + 1, "of a steady sound any part does"


def test_a_step_takes_in_some_patches_of_each_clip():
    chosen = takes.some_patches(200, 32, 0.6, np.random.default_rng(0))
    assert chosen.shape == (200, 19) and all(len(set(row)) == 19 for row in chosen.tolist())
    often = torch.bincount(chosen.flatten(), minlength=32) / 200
    assert (often - 19 / 32).abs().max() < 0.15, "any patch as likely as another"


def test_pictures_are_painted_from_captions(tmp_path):
    torch.manual_seed(0)
    model, autoencoder = diffusion.Model(), diffusion.Autoencoder()
    settings = {"seed": 3, "steps": 2}
    one = diffusion.paint(model, autoencoder, ["a photo of a dog", "a sketch of a *"], [0, 2], **settings)
    assert one.shape == (2, 128, 128, 3) and one.dtype == np.uint8
    assert np.array_equal(
        one, diffusion.paint(model, autoencoder, ["a photo of a dog", "a sketch of a *"], [0, 2], **settings)
    )


def test_the_shipped_models_draw_what_words_and_sounds_say(tmp_path):
    """A small fixed sample of the scoreboard: docs/pocket.md has the whole."""
    from aai_pack.lab.scoreboard.board import examine
    from aai_pack.lab.training.judge_model import judge_pictures
    from aai_pack.pocket.world.names import NAMED

    exam = examine(tmp_path, repeats=1)
    things = list(NAMED)

    def right(texts, words=None) -> float:
        drawn = exam.artist.paint(texts, words, seed=1)
        said = judge_pictures(exam.judge, drawn).thing
        return float(np.mean([s == t for s, t in zip(said, things, strict=True)]))

    assert right([f"a photo of a {thing}" for thing in things]) >= 0.85
    assert right(["a photo of a *"] * len(things), exam.words(things)) >= 0.7
