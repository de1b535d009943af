"""Examples on the pocket models keep their graph."""

from __future__ import annotations

import pytest
from aai_pack.devtools import on_pocket, workflows

FILES = {"CheckpointLoaderSimple", "AAI_LoadCAVT", "AAI_LoadAudio", "LoadImage"}


@pytest.mark.parametrize("name", workflows.names())
def test_every_wire_has_an_end_and_no_file_is_asked_for(name):
    original = workflows.load_api(name)
    prompt = on_pocket.on_pocket(original)
    assert not FILES & {node["class_type"] for node in prompt.values()}
    for node in prompt.values():
        for value in node["inputs"].values():
            if isinstance(value, list):
                assert value[0] in prompt
    kept = {key: node["class_type"] for key, node in original.items() if node["class_type"] not in FILES}
    assert {key: prompt[key]["class_type"] for key in kept} == kept
    assert workflows.load_api(name) == original, "the example itself is untouched"


def test_the_encoder_is_the_fourth_output_of_the_models():
    prompt = on_pocket.on_pocket(workflows.load_api("6_word_without_training"))
    (models,) = [key for key, node in prompt.items() if node["class_type"] == "AAI_PocketModels"]
    (encode,) = [node for node in prompt.values() if node["class_type"] == "AAI_CAVTEncode"]
    assert encode["inputs"]["cavt"] == [models, 3]


def test_an_edit_names_a_thing_as_this_world_does():
    prompt = on_pocket.on_pocket(workflows.load_api("7_sound_in_a_scene"))
    told = [node["inputs"]["text"] for node in prompt.values() if node["class_type"] == "AAI_AudioTokenConditioning"]
    assert "a photo of a beach with a <A*>" in told


def test_another_thing_somewhere_else():
    graph = on_pocket.on_pocket(workflows.load_api("11_pocket_sound_to_picture"))
    cat = on_pocket.in_a_place("cat", "in the snow", graph)
    by_class = {node["class_type"]: node["inputs"] for node in cat.values()}
    assert by_class["AAI_PocketSound"]["thing"] == "cat" and by_class["SaveAudio"]["filename_prefix"] == "sound_cat"
    assert by_class["AAI_AudioTokenConditioning"]["text"] == "a photo of a <A*> in the snow"
    assert cat.keys() == graph.keys()


def test_how_a_word_is_learned_is_saved():
    name = "12_pocket_new_thing"
    graph = on_pocket.on_pocket(workflows.load_api(name))
    (training,) = [key for key, node in graph.items() if node["class_type"] == "AAI_TrainAudioToken"]
    assert graph[training]["inputs"]["preview_every"] == on_pocket.LEARNS
    saved = [node["inputs"] for node in graph.values() if node["class_type"] == "SaveImage"]
    assert {"images": [training, 3], "filename_prefix": "learning"} in saved


def test_a_style_is_told_as_this_world_does():
    prompt = on_pocket.on_pocket(workflows.load_api("9_photo_in_the_style_of_a_sound"))
    told = {node["inputs"].get("text") for node in prompt.values()}
    assert {"a photo of a forest", "a picture of a forest in the style of a <A*>"} <= told
    (training,) = [node["inputs"] for node in prompt.values() if node["class_type"] == "AAI_TrainAudioToken"]
    assert training["start"] == "best_word" and training["learning_rate"] == on_pocket.GENTLY["learning_rate"]
    assert training["prompt"] == "a picture of a thing in the style of a <A*>"
