"""What the demo adds to an example leaves the example as it is."""

from __future__ import annotations

import pytest
from aai_pack.devtools import on_pocket, story, workflows


@pytest.mark.parametrize("name", workflows.names())
def test_every_wire_has_an_end_and_the_example_stays(name):
    original = workflows.load_api(name)
    prompt = on_pocket.shown(original)
    wires = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert all(source in prompt for source, _ in wires)
    assert {key: prompt[key] for key in original} == original == workflows.load_api(name)
    assert len(prompt) > len(original)


def test_another_thing_somewhere_else():
    graph = workflows.load_api(story.GALLERY_EXAMPLE)
    cat = on_pocket.in_a_place("cat", "in the snow", graph)
    by_class = {node["class_type"]: node["inputs"] for node in cat.values()}
    assert by_class["AAI_PocketSound"]["thing"] == "cat" and by_class["SaveAudio"]["filename_prefix"] == "sound_cat"
    assert by_class["AAI_AudioTokenConditioning"]["text"] == "a photo of a <A*> in the snow"
    assert cat.keys() == on_pocket.shown(graph).keys()


def test_how_a_word_is_learned_is_saved():
    graph = on_pocket.shown(workflows.load_api(story.LEARNED_EXAMPLE), on_pocket.LEARNS)
    (training,) = [key for key, node in graph.items() if node["class_type"] == "AAI_TrainAudioToken"]
    assert graph[training]["inputs"]["preview_every"] == on_pocket.LEARNS
    saved = [node["inputs"] for node in graph.values() if node["class_type"] == "SaveImage"]
    assert {"images": [training, 3], "filename_prefix": "learning"} in saved
