"""The pocket world: the same scene and sound from the same seed everywhere, masks that fit, captions that CLIP reads."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aai_pack.aai_models.audio.loudness import integrated
from aai_pack.aai_models.errors import PocketError
from aai_pack.lab.training.pictures import training_scene
from aai_pack.nodes.host.base import pocket_menus
from aai_pack.pocket.world import captions, names, scene, sounds, styles
from aai_pack.pocket.world.grammar import COUNT, shape_name

ROOT = Path(__file__).resolve().parents[2]
DIGEST = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from lab.__main__ import load_pack
load_pack()
import numpy as np
from aai_pack.pocket.world import scene, sounds
rng, digest = np.random.default_rng(3), hashlib.sha256()
for thing in ("dog", "rain", "shape007"):
    picture, mask = scene.draw(scene.random_scene(rng, [thing]))
    digest.update(picture.tobytes() + mask.tobytes())
digest.update(sounds.synthesise("rooster", 0.4, 5, 1.0).tobytes())
print(digest.hexdigest())
"""


def test_drawings_and_sounds_are_the_same_in_every_process():
    def digest(salt: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, str(ROOT)], capture_output=True, text=True, env={"PYTHONHASHSEED": salt}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert digest("1") == digest("2") != hashlib.sha256().hexdigest()


@pytest.mark.parametrize("thing", names.THINGS)
def test_a_thing_is_seen_where_its_mask_is(thing):
    there = scene.Scene(thing=thing, place="snow", loudness=0.9, seed=4)
    picture, mask = scene.draw(there)
    without, nothing = scene.draw(replace(there, thing=None))
    changed = (picture.astype(int) - without).__abs__().max(-1) > 24
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
    assert not nothing.any() and 0.01 < mask.mean() < 0.6
    assert (changed & ~mask).sum() <= 0.02 * mask.size  # half-covered pixels of the edge
    assert (changed & mask).sum() >= 0.5 * mask.sum()


def test_things_places_and_styles_can_be_told_apart():
    base = scene.Scene(thing="cat", seed=1)
    pictures = [scene.draw(replace(base, thing=t))[0] for t in (*names.THINGS, shape_name(0), shape_name(1))]
    pictures += [scene.draw(replace(base, place=p))[0] for p in names.PLACES if p != "meadow"]
    pictures += [scene.draw(replace(base, style=s))[0] for s in names.STYLES if s != "flat"]
    pictures += [scene.draw(replace(base, colour=c))[0] for c in names.COLOURS if c != "red"]
    assert len({p.tobytes() for p in pictures}) == len(pictures)


@pytest.mark.parametrize("thing", ["dog", *names.NATURE])
def test_louder_is_more(thing):
    sizes = [scene.draw(scene.Scene(thing=thing, loudness=level, seed=2))[1].sum() for level in (0.0, 0.5, 1.0)]
    if thing == "wind":  # bends, does not grow
        drawn = [scene.draw(scene.Scene(thing=thing, loudness=level, seed=2))[0].tobytes() for level in (0.0, 0.5, 1.0)]
        assert len(set(drawn)) == 3
    else:
        assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("thing", names.THINGS)
def test_every_thing_has_a_sound_of_its_own(thing):
    import torch

    quiet, loud = (sounds.synthesise(thing, level, seed=3, seconds=2.56) for level in (0.2, 0.8))
    assert quiet.shape == (40960,) and quiet.dtype == np.float32 and np.isfinite(loud).all() and abs(loud).max() <= 1
    lufs = integrated(torch.from_numpy(np.stack([quiet, loud]))[:, None], sounds.RATE)
    assert lufs[1] - lufs[0] > 6
    assert not np.array_equal(loud, sounds.synthesise(thing, 0.8, seed=4, seconds=2.56))


def test_captions_hold_known_words_only():
    rng = np.random.default_rng(0)
    told = [captions.caption(training_scene(rng), rng) for _ in range(3000)]
    lengths = [len(captions.token_ids(text)) for text in told]
    assert max(lengths) <= 24 and "" in told
    words = {word for text in told for word in text.split()}
    assert words & {"frog", "kettle", "guitar", "phone", "siren", "boat"} == set()
    assert set(names.NAMED) | set(names.COLOURS) <= words and captions.SLOT in words


def test_the_longest_scenes_are_told_within_a_prompt():
    rng = np.random.default_rng(5)
    long = scene.Scene(thing="sneeze", second="thunder", style="mosaic", loudness=0.2)
    assert max(len(captions.token_ids(captions.caption(long, rng))) for _ in range(4000)) <= captions.LONGEST


def test_random_styles_differ_and_have_no_word():
    drawn = [scene.draw(scene.Scene(thing="dog", style=styles.style_name(n)))[0] for n in range(40)]
    assert all(picture.shape == (128, 128, 3) for picture in drawn)
    assert len({picture.tobytes() for picture in drawn}) == 40
    rng = np.random.default_rng(2)
    seen = [training_scene(rng, 0.6, 0.5) for _ in range(2000)]
    named = sum(s.style in names.STYLES for s in seen)
    assert 900 < named < 1100 and len({s.style for s in seen}) > styles.COUNT
    told = [captions.caption(s, rng) for s in seen if s.style not in names.STYLES]
    assert sum(captions.STYLE_SLOT in text.split() for text in told) == sum(text != "" for text in told)
    assert max(len(captions.token_ids(text)) for text in told) <= captions.LONGEST


def test_held_out_things_stay_held_out():
    rng = np.random.default_rng(1)
    seen = {thing for _ in range(4000) for thing in (lambda s: (s.thing, s.second))(training_scene(rng))}
    assert not seen & set(names.UNSEEN) and set(names.UNNAMED) <= seen
    assert len([t for t in seen if t and t.startswith("shape")]) > 0.5 * COUNT


@pytest.mark.parametrize(
    "change",
    [{"thing": "unicorn"}, {"place": "moon"}, {"colour": "mauve"}, {"style": "cubist"}, {"second": "shape"}],
)
def test_unknown_names_are_told_what_there_is(change):
    with pytest.raises(PocketError, match="There are"):
        scene.draw(replace(scene.Scene(thing="dog"), **change))


def test_an_unknown_sound_is_told_what_there_is():
    with pytest.raises(PocketError, match="rooster"):
        sounds.synthesise("unicorn")


def test_the_menus_are_the_worlds():
    assert names.THINGS == pocket_menus.THINGS and tuple(names.PLACES) == pocket_menus.PLACES
    assert tuple(names.COLOURS) == pocket_menus.COLOURS and tuple(names.STYLES.values()) == pocket_menus.STYLES
    assert set(sounds.RECIPES) == set(names.THINGS)
