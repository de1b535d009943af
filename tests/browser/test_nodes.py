"""What a person sees on the pack's nodes in the real editor: texts, pictures, players, menus, the waveform."""

from __future__ import annotations

import wave

import numpy as np
import pytest

from .test_examples import without_an_error  # noqa: F401 (a fixture for every test here)

MAKE = """async ({nodes, links}) => {
    await app.loadGraphData({nodes: [], links: [], last_node_id: 0, last_link_id: 0, version: 0.4}, true, true);
    const made = nodes.map(({type, values = {}}, place) => {
        const node = LiteGraph.createNode(type);
        node.pos = [60 + 420 * (place % 4), 60 + 480 * Math.floor(place / 4)];
        app.graph.add(node);
        for (const [name, value] of Object.entries(values))
            node.widgets.find(widget => widget.name === name).value = value;
        return node;
    });
    for (const [from, output, to, input] of links)
        made[from].connect(output, made[to], made[to].inputs.findIndex(slot => slot.name === input));
    await new Promise(done => setTimeout(done, 300));
    Object.assign(app.canvas.ds, {scale: 1, offset: [0, 0]}); // older front ends fit the empty workflow into the window
    app.canvas.setDirty(true, true);
    await new Promise(done => setTimeout(done, 300));
}"""


def make(editor, nodes: list[dict], links: list[tuple] = ()) -> None:
    """A new workflow: nodes with values by name, and wires (from, output, to, input's name)."""
    editor.page.evaluate(MAKE, {"nodes": nodes, "links": links})


def element(editor, kind: str, widget: str):
    """The element that a script put on the only node of a kind."""
    return editor.page.evaluate_handle(
        "([kind, widget]) => app.graph.nodes.find(n => n.comfyClass === kind).widgets.find(w => w.name === widget)?.element",
        [kind, widget],
    ).as_element()


def values(editor, kind: str) -> dict:
    """The widgets' values of the only node of a kind."""
    return editor.page.evaluate(
        "kind => Object.fromEntries(app.graph.nodes.find(n => n.comfyClass === kind).widgets.map(w => [w.name, w.value]))",
        kind,
    )


SOUND = {"type": "AAI_PocketSound", "values": {"thing": "bell", "seed": 1}}
WORD = [
    SOUND,
    {"type": "AAI_PocketModels"},
    {"type": "AAI_CAVTEncode"},
    {"type": "AAI_WordFromSound", "values": {"vocabulary": 200}},
    {"type": "AAI_SaveAudioToken", "values": {"name": "bell"}},
    {"type": "AAI_AudioOverview"},
]
WIRES = [
    (0, 0, 2, "audio"),
    (1, 3, 2, "cavt"),
    (1, 1, 3, "clip"),
    (2, 0, 3, "audio_feature"),
    (3, 0, 4, "audio_token"),
    (0, 0, 5, "audio"),
]


@pytest.fixture(scope="module")
def ran(editor):
    """The graph above, after a run by the editor's button."""
    make(editor, WORD, WIRES)
    assert editor.press_run() == ("success", "")
    editor.page.wait_for_timeout(1000)


@pytest.mark.usefixtures("ran")
class TestResults:
    def test_texts_are_on_the_nodes(self, editor):
        heard = element(editor, "AAI_WordFromSound", "aai_text")
        assert "bell" in heard.input_value() and heard.is_visible() and not heard.is_editable()
        assert element(editor, "AAI_SaveAudioToken", "aai_text").input_value() == "embedding:bell"

    def test_a_sound_plays(self, editor):
        player = element(editor, "AAI_PocketSound", "audioUI")
        assert "type=temp" in player.get_attribute("src")
        assert editor.page.evaluate("player => new Promise(done => { player.onloadedmetadata = () => done(player.duration); "
                                    "player.load(); })", player) == pytest.approx(2.56, abs=0.01)  # fmt: skip

    def test_a_picture_is_on_the_node(self, editor):
        shown = editor.page.evaluate("app.graph.nodes.find(n => n.comfyClass === 'AAI_AudioOverview').imgs?.length")
        assert shown == 1 or editor.page.locator("[data-node-id] img[src*='temp']").count()

    def test_the_workflow_stays_small(self, editor):
        _, saved = editor.read()
        assert "embedding:bell" not in str(saved)
        assert all(len(node["widgets_values"]) <= 7 for node in saved["nodes"] if "widgets_values" in node)
        before = editor.read()[0]
        editor.load(saved)
        assert editor.read()[0] == before


def field(editor):
    """The prompt's text field, in either renderer."""
    return editor.page.locator("textarea:not([readonly])").last


class TestPromptWords:
    def test_words_are_offered_and_written(self, editor):
        kinds = ("AAI_PocketModels", "AAI_AudioTokenConditioning", "AAI_LoadAudioToken", "AAI_LoadAudioToken")
        wires = [(0, 1, 1, "clip"), (2, 0, 1, "audio_token"), (3, 0, 1, "audio_token_2")]
        make(editor, [{"type": kind} for kind in kinds], wires)
        menu, text = editor.page.get_by_role("listbox", name="Words for this place"), field(editor)
        text.fill("a beach in ")
        text.press_sequentially("<")
        menu.wait_for()
        assert menu.get_by_role("option").all_inner_texts()[:2] == ["<A*>", "<A2>"]
        text.press("ArrowDown")
        text.press("Enter")
        assert menu.count() == 0
        assert self.value(editor) == "a beach in <A2>"
        text.press_sequentially(" embedding:bel")
        menu.wait_for()
        text.press("Tab")
        assert self.value(editor) == "a beach in <A2> embedding:bell "

    def test_it_goes_away(self, editor):
        text = field(editor)
        text.fill("")
        text.press_sequentially("<")
        menu = editor.page.get_by_role("listbox", name="Words for this place")
        menu.wait_for()
        text.press("Escape")
        assert menu.count() == 0
        text.press_sequentially("x")
        assert self.value(editor) == "<x" and menu.count() == 0

    @staticmethod
    def value(editor) -> str:
        return values(editor, "AAI_AudioTokenConditioning")["text"]


def test_a_note_is_drawn_and_shown_beside_the_graph(editor):
    """What a node says while it runs: a note is kept and also a toast, progress only replaces itself."""
    make(editor, [{"type": "AAI_BatchStylize"}])
    key = str(editor.page.evaluate("app.graph.nodes[0].id"))
    for kind, text in (
        ("progress", "1 of 2: a.png"),
        ("note", "word.safetensors is its best token"),
        ("progress", "2 of 2: b.png"),
    ):
        message = {"node": key, "prompt_id": "p", "kind": kind, "text": text}
        editor.page.evaluate("detail => app.api.dispatchCustomEvent('aai.message', detail)", message)
    box = element(editor, "AAI_BatchStylize", "aai_text")
    assert box.input_value() == "word.safetensors is its best token\n2 of 2: b.png"
    toast = editor.page.get_by_role("alert").filter(has_text="word.safetensors")
    toast.first.wait_for()
    assert not editor.page.get_by_role("alert").filter(has_text="a.png").count()


def test_wires_have_colours(editor):
    assert editor.page.evaluate("LGraphCanvas.link_type_colors.AUDIO_TOKEN") == "#f2a541"
    css = "getComputedStyle(document.documentElement).getPropertyValue('--color-datatype-AUDIO_TOKEN').trim()"
    assert editor.page.evaluate(css) == "#f2a541"


def test_training_shows_seven_settings_first(editor):
    make(editor, [{"type": "AAI_TrainAudioToken"}])
    shown = editor.page.evaluate(
        "app.graph.nodes[0].widgets.filter(w => !(w.advanced ?? w.options.advanced)).map(w => w.name)"
    )
    assert shown == ["steps", "learning_rate", "batch_size", "resolution", "seed", "prompt", "preset"]
    make(editor, [{"type": "AAI_P2PAttentionInject"}])
    assert editor.page.evaluate("app.graph.nodes[0].widgets.find(w => w.name === 'cross_end').type") == "slider"


def write_sound(path, seconds: float) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        tone = np.sin(np.arange(int(seconds * 8000)) / 8) * np.linspace(0, 20000, int(seconds * 8000))
        file.writeframes(tone.astype("<i2").tobytes())


class TestWaveform:
    KIND = "AAI_LoadAudio"

    @pytest.fixture(autouse=True)
    def made(self, editor, server):
        """A node with 20 seconds of a tone, of which 5 to 9 are heard."""
        write_sound(server.workspace.input / "tone.wav", 20.0)
        make(editor, [{"type": self.KIND, "values": {"start": 5, "duration": 4}}])
        choose = (
            "const w = app.graph.nodes[0].widgets.find(w => w.name === 'audio'); w.value = name; w.callback?.(name);"
        )
        editor.page.evaluate(f"name => {{ {choose} }}", "tone.wav")
        status = editor.page.get_by_role("status").filter(has_text="4.00 s of 20.0 s")
        status.wait_for()
        assert "LUFS" in status.inner_text()

    def heard(self, editor) -> tuple[float, float]:
        found = values(editor, self.KIND)
        return pytest.approx(found["start"], abs=0.3), pytest.approx(found["duration"], abs=0.3)

    def ends(self, editor):
        return [editor.page.get_by_role("slider", name=f"{end} of the part that is heard") for end in ("Start", "End")]

    def drag(self, editor, element, seconds: float) -> None:
        field = editor.page.get_by_role("img", name="Waveform").bounding_box()
        box = element.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        editor.page.mouse.move(x, y)
        editor.page.mouse.down()
        editor.page.mouse.move(x + seconds * field["width"] / 20, y, steps=4)
        editor.page.mouse.up()

    def test_it_is_dragged(self, editor):
        start, end = self.ends(editor)
        self.drag(editor, end, 4.0)
        assert self.heard(editor) == (5, 8)
        self.drag(editor, start, 3.0)
        assert self.heard(editor) == (8, 5)
        assert editor.read()[0]["1"]["inputs"]["duration"] == values(editor, self.KIND)["duration"]

    def test_it_is_moved_by_keys(self, editor):
        start, end = self.ends(editor)
        start.focus()
        start.press("ArrowRight")
        found = values(editor, self.KIND)
        assert (found["start"], found["duration"]) == (5.1, 3.9)
        end.press("End")
        found = values(editor, self.KIND)
        assert (found["start"], found["duration"]) == (5.1, 14.9)
        assert end.get_attribute("aria-valuetext") == "20.00 seconds"

    def test_it_follows_the_widgets(self, editor):
        editor.page.evaluate("app.graph.nodes[0].widgets.find(w => w.name === 'start').value = 12")
        start = self.ends(editor)[0]
        editor.page.wait_for_function(
            "slider => slider.getAttribute('aria-valuenow') === '12'", arg=start.element_handle()
        )

    def test_it_plays_the_part(self, editor):
        button = editor.page.get_by_role("button", name="Play part")
        button.click()
        editor.page.get_by_role("button", name="Stop").click()
        button.wait_for()

    def test_a_video_is_dropped(self, editor):
        dropped = """async () => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array([1, 2, 3])], "clip.mp4", {type: "video/mp4"}));
            return app.graph.nodes[0].onDragDrop({dataTransfer: data});
        }"""
        assert editor.page.evaluate(dropped) is True
        assert values(editor, self.KIND)["audio"].startswith("clip")
        editor.page.get_by_role("status").filter(has_text="cannot be read as a sound").wait_for()
        editor.errors.clear()  # the browser notes each answer that is not 200, and its player what is no video

    def test_nothing_of_it_is_saved(self, editor):
        saved = editor.read()[1]
        assert [v for v in saved["nodes"][0]["widgets_values"] if v is not None][:4] == ["tone.wav", 5, 4, 0]
        before = editor.read()[0]
        editor.load(saved)
        assert editor.read()[0] == before


INPUTS = "kind => app.graph.nodes.find(n => n.comfyClass === kind).inputs.filter(i => !i.widget).map(i => i.name)"
JOIN = """async ([name, connect]) => {
    const find = kind => app.graph.nodes.find(node => node.comfyClass === kind);
    const scene = find("AAI_PocketScene"), training = find("AAI_TrainAudioToken");
    const slot = training.inputs.findIndex(input => input.name === name);
    if (connect) scene.connect(0, training, slot); else training.disconnectInput(slot);
    await new Promise(done => setTimeout(done, 100));
}"""


class TestGrowingInputs:
    KIND = "AAI_TrainAudioToken"

    def shown(self, editor) -> list[str]:
        return [name for name in editor.page.evaluate(INPUTS, self.KIND) if name.startswith("references")]

    def wires(self, editor) -> dict:
        (node,) = (node for node in editor.read()[0].values() if node["class_type"] == self.KIND)
        return {name: value for name, value in node["inputs"].items() if isinstance(value, list)}

    def test_a_free_input_waits_behind_the_last_connected_one(self, editor):
        make(
            editor,
            [{"type": "AAI_PocketScene"}, {"type": self.KIND}, {"type": "AAI_PocketModels"}],
            [(2, 4, 1, "clip_vision")],
        )
        assert self.shown(editor) == ["references", "references_2"]
        for number, name in enumerate(["references", "references_2", "references_3", "references_4", "references_5"]):
            editor.page.evaluate(JOIN, [name, True])
            assert len(self.shown(editor)) == min(5, max(2, number + 2))
        scene = self.wires(editor)["references"]
        assert self.wires(editor) == {
            **{name: scene for name in ("references", *(f"references_{n}" for n in range(2, 6)))},
            "clip_vision": self.wires(editor)["clip_vision"],
        }
        editor.page.evaluate(JOIN, ["references_3", False])
        assert len(self.shown(editor)) == 5, "what stands before a connected one stays"
        for name in ("references_5", "references_4"):
            editor.page.evaluate(JOIN, [name, False])
        assert self.shown(editor) == ["references", "references_2", "references_3"]
        assert set(self.wires(editor)) == {"references", "references_2", "clip_vision"}

    def test_it_is_saved_and_opened_as_it_is(self, editor):
        make(editor, [{"type": "AAI_PocketScene"}, {"type": self.KIND}], [(0, 0, 1, "references")])
        editor.page.evaluate(JOIN, ["references_2", True])
        prompt, workflow = editor.read()
        editor.load(workflow)
        assert self.shown(editor) == ["references", "references_2", "references_3"]
        assert editor.read()[0] == prompt
