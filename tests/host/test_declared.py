"""How nodes are declared: sliders, folded settings, and fields that some versions of the host do not know."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields

import pytest
from aai_pack.nodes import AlignAdaptInject, adapt
from aai_pack.nodes.host.base import schema
from comfy_api.latest import io


@pytest.fixture(scope="module")
def nodes() -> list:
    return asyncio.run(AlignAdaptInject().get_node_list())


def options(one) -> dict:
    """What the editor gets of an input, as it gets it."""
    return json.loads(json.dumps(one.as_dict()))


def test_shares_and_scales_are_sliders(nodes):
    sliders = set()
    for node in nodes:
        for one in node.define_schema().inputs:
            if isinstance(one, io.Float.Input):
                told = options(one)
                is_share = told.get("min") == 0 and told.get("max") in (1, 2) and not told.get("forceInput")
                assert (told.get("display") == "slider") == is_share, (node.__name__, one.id)
                sliders |= {one.id} if is_share else set()
    assert {"cross_end", "self_end", "scale", "loudness", "strength", "audio_gain"} <= sliders


def test_training_folds_all_but_seven_settings():
    widgets = [one for one in adapt.AAI_TrainAudioToken.define_schema().inputs if isinstance(one, io.WidgetInput)]
    first = [one.id for one in widgets if not options(one).get("advanced")]
    assert first == ["steps", "learning_rate", "batch_size", "resolution", "seed", "prompt", "preset"]
    assert len(widgets) > 15


def test_every_node_is_found_by_other_names(nodes):
    for node in nodes:
        known = {field.name for field in fields(io.Schema)}
        if "search_aliases" in known:
            assert node.define_schema().search_aliases, node.__name__


def test_a_host_that_knows_none_of_it(nodes, monkeypatch):
    monkeypatch.setattr(schema, "KNOWN", schema.KNOWN - set(schema.NEWER))
    for node in nodes:
        declared = node.define_schema()
        assert not getattr(declared, "search_aliases", None) and not getattr(declared, "has_intermediate_output", False)
        assert declared.display_name and declared.inputs
