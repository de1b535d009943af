"""ComfyUI's editor in a real browser: open a workflow, read what it would queue, press Run. Needs playwright."""

from __future__ import annotations

import json
import urllib.request
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ENDS = ("execution_success", "execution_error", "execution_interrupted")
NOTHING = "filename=&"  # in the address of a file without a name
FRAMES = 5  # a second; without a graphics card each costs what the run itself needs
VIEWPORT = {"width": 1600, "height": 1000}
START_TIMEOUT = 120_000  # milliseconds; a busy machine needs long for the first page

LOAD = """async workflow => {
    await app.loadGraphData(workflow, true, true);
    return app.graph.nodes.map(node => node.type).filter(type => !LiteGraph.registered_node_types[type]);
}"""
READ = """async () => {
    const {output, workflow} = await app.graphToPrompt();
    return JSON.parse(JSON.stringify({prompt: output, workflow}));  // a file has no undefined values; they would arrive as null
}"""
SET = """settings => {
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name in (settings[node.type] ?? {})) widget.value = settings[node.type][widget.name];
}"""
LISTEN = """names => {
    window.aaiEnd = null;
    for (const name of names)
        app.api.addEventListener(name, event => { window.aaiEnd ??= {name, detail: event.detail}; }, {once: true});
}"""


class Editor:
    """The editor of a running server. Use as a context manager.

    While it is open, playwright keeps an event loop in this thread: `asyncio.run` and so `Client` do not work beside it.
    """

    def __init__(self, url: str, browser: str, *, nodes_2: bool):
        self.url, self.errors = url, []
        self._browser, self._nodes_2 = browser, nodes_2

    def __enter__(self) -> Editor:
        self.set("Comfy.TutorialCompleted", True)  # or the template dialog lies over everything
        self.set("Comfy.VueNodes.Enabled", self._nodes_2)
        self.set("LiteGraph.Canvas.MaximumFps", FRAMES)
        self._playwright = sync_playwright().start()
        try:
            launched = self._playwright.chromium.launch(executable_path=self._browser, args=list(ARGUMENTS))
            self.page = self._open(launched.new_page(viewport=VIEWPORT))
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._playwright.stop()

    def beside(self) -> Editor:
        """The editor of another person on the same server, who shares nothing with this one; it closes with this one."""
        other = Editor(self.url, self._browser, nodes_2=self._nodes_2)
        other.page = other._open(self.page.context.browser.new_page(viewport=VIEWPORT))
        return other

    def _open(self, page: Page) -> Page:
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(self.url, timeout=START_TIMEOUT)
        page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=START_TIMEOUT)
        page.get_by_test_id("queue-button").wait_for(timeout=START_TIMEOUT)
        # From here on: until then the front end asks for files of a user who has none yet.
        page.on("console", self._note)
        return page

    def _note(self, message: ConsoleMessage) -> None:
        """Keep an error, but not that another server was not reached: the front end asks its maker's for news; nor that a
        loader of sounds with nothing to load has no file: the front end asks for that of every such node."""
        source = urlsplit(message.location["url"])
        if message.type == "error" and source.netloc in ("", urlsplit(self.url).netloc) and NOTHING not in source.query:
            self.errors.append(f"{message.text} ({message.location['url']})")

    def set(self, name: str, value) -> None:
        """Store a setting of the editor on the server; a page that is opened afterwards has it."""
        body = json.dumps(value).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/settings/{name}", body, method="POST")).close()

    def load(self, workflow: dict) -> list[str]:
        """Open a workflow; returns the types of nodes that the editor does not know."""
        return self.page.evaluate(LOAD, workflow)

    def clear(self) -> None:
        """Open a workflow without nodes."""
        self.load({"nodes": [], "links": [], "last_node_id": 0, "last_link_id": 0, "version": 0.4})

    def fill_in(self, settings: dict[str, dict]) -> None:
        """Give widgets their values, by type of node and name of widget."""
        self.page.evaluate(SET, settings)

    def read(self) -> tuple[dict, dict]:
        """What Run would queue, as an API prompt; and the workflow as Save would write it."""
        read = self.page.evaluate(READ)
        return read["prompt"], read["workflow"]

    def press_run(self, timeout: float = 300.0) -> tuple[str, str]:
        """Press Run and wait for the end -> how it ended (success, error, interrupted, rejected), and what was said."""
        self._close_dialog()
        self.page.evaluate(LISTEN, list(ENDS))
        with self.page.expect_response(lambda answer: answer.url.endswith("/prompt")) as queued:
            self.page.get_by_test_id("queue-button").click()
        if queued.value.status != 200:
            return "rejected", queued.value.text()
        self.page.wait_for_function("window.aaiEnd", timeout=timeout * 1000)
        end = self.page.evaluate("window.aaiEnd")
        return end["name"].removeprefix("execution_"), end["detail"].get("exception_message", "")

    def _close_dialog(self) -> None:
        """Older front ends open a dialog for the models of bypassed loaders too; a person closes it."""
        if self.page.locator(".p-dialog-mask").count():
            self.page.keyboard.press("Escape")
            self.page.locator(".p-dialog-mask").wait_for(state="detached")
