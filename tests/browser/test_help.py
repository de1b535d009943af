"""Help pages as a person opens them: beside the graph, in the language of the editor, with the picture of the node."""

from __future__ import annotations

import pytest
from aai_pack.devtools import help_pages, locales

pytestmark = pytest.mark.usefixtures("default_editor")

NODE = "AAI_LoudnessScale"
OPEN = """async type => {
    await app.loadGraphData({nodes: [], links: [], last_node_id: 0, last_link_id: 0, version: 0.4}, true, true);
    const node = LiteGraph.createNode(type);
    node.pos = [600, 300];
    app.graph.add(node);
}"""
# The editor may still be arranging what it opened, and then forgets what is selected.
SELECTED = """() => {
    if (document.querySelector("[data-testid=info-button]")) return true;
    app.canvas.deselectAll();
    app.canvas.selectItems(app.graph.nodes);
    return false;
}"""
LOADED = "() => document.querySelector('.node-help-content img')?.naturalWidth > 60"
OVER = """() => [...document.querySelectorAll('.node-help-content table')]
    .some(table => table.scrollWidth > table.parentElement.clientWidth + 1)"""


@pytest.fixture(params=["en", "ja", "pt-BR"])
def language(request):
    return request.param


@pytest.fixture
def editor(language, server, browser):
    from aai_pack.devtools.editor import Editor

    editor = Editor(server.url, browser, nodes_2=False)
    editor.set("Comfy.Locale", language)
    with editor:
        yield editor
    editor.set("Comfy.Locale", "en")


def test_a_page_opens_in_its_language_with_its_picture(editor, language):
    editor.page.evaluate(OPEN, NODE)
    editor.page.wait_for_function(SELECTED, polling=1000)
    editor.page.get_by_test_id("info-button").click()
    editor.page.wait_for_function(LOADED)
    english = locales.english_texts()["nodeDefs"][NODE]["display_name"]
    title = locales.dictionary(language)[english] if language in help_pages.LANGUAGES else english
    assert editor.page.locator(".node-help-content h1").first.inner_text() == title
    assert not editor.page.evaluate(OVER), "a table is wider than the panel"
