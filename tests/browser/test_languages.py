"""The nodes in another language, as the editor shows them to a person who has chosen it."""

from __future__ import annotations

import pytest
from aai_pack.devtools import locales

pytestmark = pytest.mark.usefixtures("default_editor")

NODE = "AAI_TrainAudioToken"
TITLES = "() => Object.fromEntries(Object.entries(LiteGraph.registered_node_types).map(([type, kind]) => [type, kind.title]))"
LABELS = """type => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    return [...node.inputs, ...node.widgets].map(part => part.localized_name ?? part.label);
}"""


@pytest.fixture(scope="module", params=["ja", "ar"])
def language(request):
    return request.param


@pytest.fixture(scope="module")
def editor(language, server, browser):
    from aai_pack.devtools.editor import Editor

    editor = Editor(server.url, browser, nodes_2=False)
    editor.set("Comfy.Locale", language)
    with editor:
        yield editor


def test_nodes_and_inputs_have_their_names(editor, language):
    words, english = locales.dictionary(language), locales.english_texts()["nodeDefs"]
    titles = editor.page.evaluate(TITLES)
    assert {name: titles[name] for name in english} == {name: words[n["display_name"]] for name, n in english.items()}
    labels = editor.page.evaluate(LABELS, NODE)
    assert {words[one["name"]] for one in english[NODE]["inputs"].values()} <= set(labels)
    assert not editor.errors
