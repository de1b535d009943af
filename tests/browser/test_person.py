"""What happens to a person in the real editor: opens a template, cancels and goes on, forgets a wire, is not alone."""

from __future__ import annotations

import re

import pytest
from aai_pack.devtools import workflows
from aai_pack.devtools.editor import ENDS, LISTEN

from .test_examples import without_an_error  # noqa: F401 (a fixture for every test here)
from .test_nodes import WIRES, WORD, element, make, values

pytestmark = pytest.mark.usefixtures("default_editor")

PACK = "comfyui-align-adapt-inject"
CARD = "template-workflow-"
STEPS = 60  # of the training that is cancelled; no other node counts to as many
# The steps of the training that were told so far, from the call on.
COUNT = f"""() => {{
    window.aaiSteps = [];
    app.api.addEventListener("progress", event => {{
        if (event.detail.max === {STEPS}) window.aaiSteps.push(event.detail.value);
    }});
}}"""


class TestTemplates:
    @pytest.fixture
    def dialog(self, editor):
        """The editor's dialog of templates, at those of the pack."""
        editor.page.get_by_role("button", name="Templates").click()
        dialog = editor.page.get_by_role("dialog")
        dialog.get_by_text(PACK).first.click()
        dialog.get_by_text(f"Showing {len(workflows.names())} of {len(workflows.names())} templates").wait_for()
        yield dialog
        editor.page.keyboard.press("Escape")

    def test_each_example_has_a_card_with_its_picture(self, editor, dialog):
        cards = [card for card in dialog.get_by_test_id(re.compile(f"^{CARD}")).all() if card.is_visible()]
        assert {card.get_attribute("data-testid").removeprefix(CARD) for card in cards} == set(workflows.names())
        for card in cards:
            card.scroll_into_view_if_needed()
            picture = card.locator("img").first
            picture.wait_for()
            editor.page.wait_for_function("image => image.complete && image.naturalWidth", arg=picture.element_handle())
            assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [320, 320]

    def test_a_card_opens_the_example(self, editor, dialog):
        name = "12 New thing"
        dialog.get_by_test_id(f"{CARD}{name}").click()
        dialog.wait_for(state="hidden")
        editor.page.wait_for_function("app.graph.nodes.some(node => node.type === 'AAI_TrainAudioToken')")
        kinds = sorted(editor.page.evaluate("app.graph.nodes.map(node => node.type)"))
        assert kinds == sorted(node["type"] for node in workflows.load_editor(name)["nodes"])


@pytest.mark.parametrize("editor", ["classic"], indirect=True)
def test_a_training_is_cancelled_and_goes_on(editor):
    """As the button does it: the node and a toast say what is kept, a menu offers it, and Run goes on from there."""
    editor.load(workflows.load_editor("01 Sound to picture"))
    editor.fill_in({"AAI_TrainAudioToken": {"steps": STEPS}, "KSampler": {"steps": 2}})
    editor.page.evaluate(LISTEN, list(ENDS))
    editor.page.evaluate(COUNT)
    editor.page.get_by_test_id("queue-button").click()
    editor.page.wait_for_function("window.aaiSteps.at(-1) > 5", timeout=300_000)
    editor.page.get_by_role("button", name="Cancel current run").click()
    said = f"of {STEPS} steps. Run again to go on from there."
    editor.page.get_by_role("alert").filter(has_text=said).wait_for()
    editor.page.wait_for_function("window.aaiEnd")
    assert editor.page.evaluate("window.aaiEnd.name") == "execution_interrupted"
    text = element(editor, "AAI_TrainAudioToken", "aai_text").input_value()
    assert text.startswith("output/aai_tokens/") and text.endswith(said)
    done = int(text.removesuffix(f" {said}").split()[-1])

    workflow = editor.read()[1]
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions')")
    editor.page.wait_for_function(
        "LiteGraph.createNode('AAI_LoadAudioToken').widgets[0].options.values[0]?.startsWith('unfinished: ')"
    )
    editor.load(workflow)
    editor.page.evaluate(COUNT)
    assert editor.press_run() == ("success", "")
    steps = editor.page.evaluate("window.aaiSteps")
    assert done < steps[0] <= done + 2 and steps[-1] == STEPS


def refused(editor, said: str) -> None:
    """Press Run; the editor refuses and says why."""
    assert editor.press_run()[0] == "rejected"
    editor.page.get_by_text(said).first.wait_for()


def test_a_wire_is_missing(editor):
    make(editor, [{"type": "AAI_AudioOverview"}, {"type": "SaveImage"}], [(0, 0, 1, "images")])
    refused(editor, "Look at Sound is missing a required input: audio")
    editor.errors.clear()  # the browser notes the answer, which is not 200


def test_a_file_is_missing(editor):
    """The editor names node and input, and what it found out, when asked, in the words of the pack; the node says so too."""
    make(editor, [{"type": "AAI_LoadAudio"}, {"type": "AAI_AudioOverview"}], [(0, 0, 1, "audio")])
    editor.page.evaluate("app.graph.nodes[0].widgets.find(widget => widget.name === 'audio').value = 'gone.wav'")
    refused(editor, "Load Sound rejected the value for audio.")
    editor.page.get_by_role("status").filter(has_text="There is no such file").wait_for()
    editor.page.get_by_role("button", name="View details").click()
    editor.page.get_by_role("button", name="Info").first.click()
    editor.page.get_by_text("There is no file 'gone.wav' in input. Upload the recording again").first.wait_for()
    editor.errors.clear()


@pytest.mark.parametrize("editor", ["classic"], indirect=True)
def test_two_people_at_once(editor):
    """Each gets what is theirs: the texts of one are not drawn in the other's editor."""
    other = editor.beside()
    for page, thing in ((editor, "bell"), (other, "rain")):
        sound = {"type": "AAI_PocketSound", "values": {"thing": thing, "seed": 1}}
        make(page, [sound, *WORD[1:4], {"type": "AAI_SaveAudioToken", "values": {"name": thing}}, WORD[5]], WIRES)
        page.page.evaluate(LISTEN, list(ENDS))
    for page in (editor, other):
        page.page.get_by_test_id("queue-button").click()
    for page, thing in ((editor, "bell"), (other, "rain")):
        page.page.wait_for_function("window.aaiEnd", timeout=300_000)
        assert page.page.evaluate("window.aaiEnd.name") == "execution_success"
        page.page.wait_for_timeout(500)
        assert element(page, "AAI_SaveAudioToken", "aai_text").input_value() == f"embedding:{thing}"
        assert values(page, "AAI_PocketSound")["thing"] == thing
        assert thing in element(page, "AAI_WordFromSound", "aai_text").input_value()
    assert other.errors == []
