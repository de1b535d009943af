"""The study's page as a participant has it: opened from the disk in a real browser, filled in by keyboard, saved."""

from __future__ import annotations

import json
import shutil

import pytest
from aai_pack.aai_models.study import answers, collect, orders, page
from aai_pack.aai_models.study.page import PageSettings
from aai_pack.devtools.editor import ARGUMENTS
from aai_pack.tests.comparisons import HTML, comparison
from playwright.sync_api import sync_playwright

CLOCK = 20_000  # milliseconds for anything that appears


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(folder, id, key) of a study with HTML in every name that people give."""
    folder = tmp_path_factory.mktemp("study")
    record = comparison(folder, sounds=("rooster", HTML, "cat"), methods=("word", "untrained", "adapter"))
    page.write_page(record, PageSettings(title=f"Sounds {HTML}", contact=HTML, consent=HTML))
    ((name, key),) = page.read_key(folder)["studies"].items()
    return folder, name, key


@pytest.fixture(scope="module")
def chromium(browser):
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=browser, args=list(ARGUMENTS))


@pytest.fixture
def people(chromium):
    """Opens the page as a fresh person; whatever goes wrong in it, and whatever it asks the network for, is kept."""
    contexts, problems, asked = [], [], []

    def open_page(path, query: str = "", phone: bool = False, locale: str = "en-GB"):
        size = {"width": 390, "height": 844} if phone else {"width": 1200, "height": 900}
        context = chromium.new_context(viewport=size, accept_downloads=True, locale=locale)
        contexts.append(context)
        opened = context.new_page()
        opened.set_default_timeout(CLOCK)
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("dialog", lambda dialog: problems.append(f"a dialog: {dialog.message}"))
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(path.as_uri() + query)
        return opened

    open_page.problems, open_page.asked = problems, asked
    yield open_page
    for context in contexts:
        context.close()
    assert not problems
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))], "something was sent"


def begin(opened, number: int) -> None:
    """Through the first screen by keyboard."""
    opened.locator("#number").focus()
    opened.keyboard.press("Control+A")
    opened.keyboard.type(str(number))
    opened.keyboard.press("Tab")
    opened.keyboard.press("Space")  # the consent
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")


def answer(opened, number: int, key: dict, first: int = 0, last: int | None = None) -> list[int]:
    """Answer screens by keyboard, in a way that differs from screen to screen; what was pressed."""
    screens = orders.trials(number, len(key["items"]), len(key["methods"]), key["checks"])
    pressed = []
    for place, trial in list(enumerate(screens))[first:last]:
        if opened.locator("input[type=radio]").count() == 0:  # the introduction of a part
            opened.keyboard.press("Enter")
        most = len(key["methods"]) if trial.order else 5
        choice = trial.wanted or (place * 7 + number) % most + 1
        opened.locator("input[type=radio]").first.wait_for()
        assert opened.locator("[data-name=next]").is_disabled(), "nothing is chosen yet"
        opened.keyboard.press(str(choice))
        opened.keyboard.press("Enter")
        opened.get_by_text(f"{place + 1} of {len(screens)} done", exact=True).wait_for()
        pressed.append(choice)
    return pressed


def saved(opened) -> dict:
    with opened.expect_download() as download:
        opened.locator("[data-name=save]").focus()
        opened.keyboard.press("Enter")
    with open(download.value.path(), encoding="utf-8") as file:
        return json.load(file)


def take_part(opened, number: int, key: dict) -> tuple[dict, list[int]]:
    begin(opened, number)
    pressed = answer(opened, number, key)
    return saved(opened), pressed


def test_two_people_by_keyboard_one_of_them_with_a_reload(study, people, tmp_path):
    folder, study_id, key = study
    index = folder / "page" / "index.html"
    first, pressed = take_part(people(index), 1, key)

    opened = people(index, phone=True)
    begin(opened, 2)
    half = answer(opened, 2, key, last=6)
    before = opened.locator("main img").first.get_attribute("src")
    opened.reload()
    opened.get_by_text("6 of 15 done", exact=True).wait_for()
    assert opened.locator("main img").first.get_attribute("src") == before, "it goes on where it was"
    rest = answer(opened, 2, key, first=6)
    opened.locator("#comment").fill(f"fine {HTML}")
    second = saved(opened)

    for given, number, choices in ((first, 1, pressed), (second, 2, half + rest)):
        expected = orders.trials(number, len(key["items"]), len(key["methods"]), key["checks"])
        assert given["finished"] and given["number"] == number and len(given["answers"]) == len(expected)
        for answered, trial, choice in zip(given["answers"], expected, choices, strict=True):
            assert answered["part"] == trial.part
            if trial.part == orders.PREFERENCE:
                assert answered["picture"] == key["items"][trial.item]["pictures"][trial.order[choice - 1]]
            else:
                assert answered["value"] == choice
            if trial.part == orders.RATING:
                assert answered["picture"] == key["items"][trial.item]["pictures"][trial.method]
        assert given["checksum"] == answers.checksum_of(study_id, given["participant"], number, given["answers"])
    seen = [[a["picture"] for a in given["answers"] if a["part"] == "naturalness"] for given in (first, second)]
    assert seen[0] != seen[1] and sorted(seen[0]) == sorted(seen[1]), "the same pictures in another order"

    for name, given in (("1", first), ("2", second)):
        (tmp_path / f"{name}.json").write_text(json.dumps(given), encoding="utf-8")
    told = collect.collect([tmp_path], folder, tmp_path / "results", collect.CollectSettings())
    assert "2 participants" in told and "6 of 6 attention checks passed" in told
    found = json.loads((tmp_path / "results" / collect.RESULTS).read_text(encoding="utf-8"))
    owner = {p: m for item in key["items"] for m, p in zip(key["methods"], item["pictures"], strict=True)}
    for method in key["methods"]:
        values = [
            [a["value"] for a in given["answers"] if a["part"] == "naturalness" and owner[a["picture"]] == method]
            for given in (first, second)
        ]
        assert found["naturalness"][method]["value"] == pytest.approx(sum(sum(v) / 3 for v in values) / 2)


def test_the_script_has_the_orders_of_the_module(study, people):
    opened = people(study[0] / "page" / "index.html")
    key = study[2]
    for number in (1, 2, 7, 24, 999_999):
        found = opened.evaluate("number => trialsOf(number)", number)
        expected = orders.trials(number, len(key["items"]), len(key["methods"]), key["checks"])
        assert [t["part"] for t in found] == [t.part for t in expected]
        assert [t.get("item", -1) for t in found] == [t.item for t in expected]
        assert [t.get("method", -1) for t in found] == [t.method for t in expected]
        assert [tuple(t.get("order", ())) for t in found] == [t.order for t in expected]
        assert [t.get("wanted", 0) for t in found] == [t.wanted for t in expected]


def test_consent_comes_first_and_the_sound_plays(study, people):
    opened = people(study[0] / "page" / "index.html", "?number=5")
    assert opened.locator("#stored").is_visible() and opened.locator("main img").count() == 0
    assert opened.get_by_text(HTML).first.is_visible(), "names are shown as they are written"
    opened.locator("#begin").click()
    assert "tick the box" in opened.locator("#problem").inner_text()
    opened.locator("#agree").check()
    opened.locator("#begin").click()
    opened.keyboard.press("Enter")
    opened.locator(".picture").wait_for()
    opened.keyboard.press("p")
    opened.wait_for_function("heard && document.querySelector('audio').duration > 0.3")
    assert opened.evaluate("store.current.number") == 5


def test_the_next_person_on_the_same_device(study, people):
    folder, _, key = study
    opened = people(folder / "page" / "index.html")
    first, _ = take_part(opened, 3, key)
    opened.locator("[data-name=next_person]").click()
    begin(opened, 4)
    answer(opened, 4, key)
    opened.locator("[data-name=as_text]").click()
    second = json.loads(opened.locator("#text").input_value())
    opened.locator("[data-name=next_person]").click()
    with opened.expect_download() as download:
        opened.locator("[data-name=save_all]").click()
    with open(download.value.path(), encoding="utf-8") as file:
        both = json.load(file)
    assert [given["participant"] for given in both["answers"]] == [first["participant"], second["participant"]]


def test_a_page_without_its_folder_says_so(study, people, tmp_path):
    alone = tmp_path / "index.html"
    shutil.copy(study[0] / "page" / "index.html", alone)
    opened = people(alone)
    opened.get_by_text("Copy the whole folder").wait_for()
    assert opened.locator("#begin").is_disabled()


def test_a_picture_that_is_gone_stops_the_trial_and_loses_nothing(study, people, tmp_path):
    folder, _, key = study
    shutil.copytree(folder / "page", tmp_path / "page")
    gone = orders.trials(1, len(key["items"]), len(key["methods"]), key["checks"])[1]
    (tmp_path / "page" / "media" / f"{key['items'][gone.item]['pictures'][gone.method]}.png").unlink()
    opened = people(tmp_path / "page" / "index.html")
    begin(opened, 1)
    answer(opened, 1, key, last=1)
    opened.get_by_text("Copy the whole folder").wait_for()
    assert opened.locator("[data-name=next]").is_hidden()
    assert opened.evaluate("JSON.parse(localStorage.getItem(KEY)).current.answers.length") == 1


def test_one_file_alone_in_another_language(people, tmp_path):
    page.write_page(comparison(tmp_path / "made", methods=("word", "adapter")), PageSettings(single=True, pilot=True))
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "made" / "pilot" / "index.html", tmp_path / "alone" / "study.html")
    opened = people(tmp_path / "alone" / "study.html", phone=True, locale="de-DE")
    assert "Probelauf" in opened.locator("main").inner_text()
    opened.locator("#language").select_option("he")
    assert opened.evaluate("document.documentElement.dir") == "rtl"
    opened.locator("#language").select_option("ja")
    assert opened.locator("html").get_attribute("lang") == "ja"
    opened.locator("#agree").check()
    opened.locator("#begin").click()
    opened.locator("[data-name=next]").click()
    opened.wait_for_function("document.querySelector('.picture').naturalWidth > 0")
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert opened.evaluate(fits), "nothing is wider than the phone"


def test_a_script_in_the_page_s_data_cannot_run(study, people):
    """Were a name to become HTML in spite of all, the page's own policy would stop it."""
    opened = people(study[0] / "page" / "index.html")
    opened.evaluate("main.innerHTML = '<img src=x onerror=\"window.ran = true\">'")
    opened.evaluate("main.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))")
    opened.wait_for_timeout(300)
    assert opened.evaluate("window.ran === undefined")
    sent = opened.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', error => 'stopped')")
    assert sent == "stopped"
    people.asked.clear()
