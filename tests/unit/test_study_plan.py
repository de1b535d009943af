"""Plans of comparisons, the graphs that they become, and who sees what when."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from aai_pack.aai_models.errors import StudyError
from aai_pack.aai_models.study import graphs, orders, plan
from aai_pack.tests.comparisons import plan_of

PLANS = Path(plan.__file__).parent / "plans"


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.json")), ids=lambda p: p.stem)
def test_the_plans_that_come_with_it_are_sound(path):
    found = plan.read_plan(path)
    assert {method.kind for method in found.methods} >= {plan.WORD, plan.INVERSION, plan.UNTRAINED, plan.ADAPTER}
    assert len(found.cells()) == len(found.sounds) * len(found.methods) * len(found.prompts) * len(found.seeds)


WRONG = {
    "no object": ([], "JSON object"),
    "an unknown key": ({"sound": []}, "'sound'"),
    "no sounds": ({"sounds": []}, "no sounds"),
    "a prompt without a place": ({"prompts": ["a photo"]}, "{}"),
    "a size": ({"size": [100, 128]}, "multiples of 8"),
    "a seed": ({"seeds": [-1]}, "whole number"),
    "seeds twice": ({"seeds": [1, 1]}, "twice"),
    "models": ({"models": {"checkpoint": "a"}}, "encoder"),
    "a method": ({"methods": ["words"]}, "adapter"),
    "a folder without a name": ({"methods": [{"folder": "x"}]}, "a name and a folder"),
    "methods twice": ({"methods": ["word", "word"]}, "twice"),
    "no references": ({"sounds": [{"name": "a", "audio": "a.wav"}]}, "3 to 5 pictures"),
    "too many references": ({"sounds": [{"name": "a", "audio": "a.wav", "references": ["x.png"] * 6}]}, "at most 5"),
    "no audio": ({"sounds": [{"name": "a"}]}, "audio"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_plan_is_said(name, tmp_path):
    change, told = WRONG[name]
    good = json.loads((PLANS / "pocket.json").read_text(encoding="utf-8"))
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**good, **change} if isinstance(change, dict) else change), encoding="utf-8")
    with pytest.raises(StudyError) as error:
        plan.read_plan(path)
    assert told in str(error.value)


def test_a_plan_that_is_no_json(tmp_path):
    (tmp_path / "plan.json").write_text("{", encoding="utf-8")
    with pytest.raises(StudyError, match="Correct that place"):
        plan.read_plan(tmp_path / "plan.json")
    with pytest.raises(StudyError, match="no file"):
        plan.read_plan(tmp_path / "none.json")


def test_two_methods_differ_in_the_word_alone(tmp_path):
    made = plan_of(tmp_path, negative="blurry", training={"steps": 7})
    built = {m.kind: graphs.picture_graph(made, made.sounds[0], m.kind, 0, 0, {}) for m in made.methods}
    for key in ("sampler", "latent", "negative", "decoded", graphs.PICTURE, graphs.MODELS):
        assert len({json.dumps(graph[key]) for graph in built.values()}) == 1, key
    inversion, adapter = (built[kind][graphs.TOKEN]["inputs"] for kind in (plan.INVERSION, plan.ADAPTER))
    assert {k for k in adapter if adapter[k] != inversion[k]} == {"mode"}
    assert inversion["mode"] == "adapter_only" and adapter["steps"] == 7
    assert built[plan.WORD]["positive"]["inputs"]["text"] == "a photo of a rooster"
    assert built[plan.UNTRAINED]["positive"]["inputs"]["text"] == "a photo of a <A*>"


def test_names_of_files_never_meet():
    found = plan.distinct_slugs(["a/b", "a:b", "A_B", "<b>", "../..", "音"])
    assert len({name.casefold() for name in found.values()}) == 6
    assert all("/" not in name and "." not in name for name in found.values())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_a_square_is_latin_and_balanced_for_what_comes_before(count):
    rows = orders.latin_square(count)
    assert all(sorted(row) == list(range(count)) for row in rows)
    for column in zip(*rows, strict=True):
        assert set(Counter(column).values()) == {len(rows) // count}
    before = Counter(pair for row in rows for pair in pairwise(row))
    assert count == 1 or (len(before) == count * (count - 1) and len(set(before.values())) == 1)


@pytest.mark.parametrize("items, methods", [(5, 4), (6, 4), (4, 3), (3, 2), (8, 6)])
def test_the_order_is_balanced_over_24_participants(items, methods):
    """Exact counts: every picture in every round, and every method at every place of a preference, equally often."""
    rounds, places = Counter(), Counter()
    for number in range(1, 25):
        screens = [t for t in orders.trials(number, items, methods, checks=2)]
        rated = [t for t in screens if t.part == orders.RATING]
        assert len({(t.item, t.method) for t in rated}) == items * methods, "each picture once"
        for place, trial in enumerate(rated):
            rounds[place // items, trial.item, trial.method] += 1
        for trial in (t for t in screens if t.part == orders.PREFERENCE):
            assert sorted(trial.order) == list(range(methods))
            for place, method in enumerate(trial.order):
                places[trial.item, place, method] += 1
    assert len(rounds) == items * methods * methods and set(rounds.values()) == {24 // methods}
    assert len(places) == items * methods * methods and set(places.values()) == {24 // methods}


def test_checks_lie_between_the_answers_and_ask_for_different_things():
    asked = set()
    for number in range(1, 11):
        screens = orders.trials(number, 4, 4, checks=2)
        parts = [t.part for t in screens]
        assert parts.count(orders.CHECK) == 2 and parts.count(orders.PREFERENCE_CHECK) == 1
        assert parts[0] == orders.RATING and parts.index(orders.PREFERENCE) > parts.index(orders.CHECK)
        asked.add(tuple(t.wanted for t in screens if t.wanted))
    assert len(asked) > 5
    assert all(t.part in (orders.RATING, orders.PREFERENCE) for t in orders.trials(1, 4, 4, checks=0))
