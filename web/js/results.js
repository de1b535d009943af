// What nodes tell the person: their texts in a read-only box on the node, a note also as a toast, and a sound in a player.
// The box comes with the first text. It is not saved with the workflow.
import { addElement, api, app, nodeOfResult, nodeOfRun, widgetOf } from "./shared.js";

const BOX = "aai_text", HEIGHT = 110; // pixels; longer texts scroll
const TOAST = 15000; // milliseconds
const told = new WeakMap(); // node -> { run, notes, progress, result }, all of one run

function toldBy(node, run) {
  let state = told.get(node);
  if (!state || state.run !== run) told.set(node, (state = { run, notes: [], progress: "", result: "" }));
  return state;
}

function write(node) {
  const { notes, progress, result } = told.get(node);
  let widget = widgetOf(node, BOX);
  if (!widget) {
    const box = document.createElement("textarea");
    box.readOnly = true;
    box.className = "comfy-multiline-input";
    box.style.cssText = "width: 100%; height: 100%; resize: none; font-family: monospace; font-size: 11px";
    box.setAttribute("aria-label", `What ${node.title} tells`);
    widget = addElement(node, BOX, box, HEIGHT);
  }
  widget.element.value = [...notes, result || progress].filter(Boolean).join("\n");
}

function result(node, output, run) {
  if (output?.text) {
    toldBy(node, run).result = [output.text].flat().join("\n");
    write(node);
  }
  if (output?.audio?.length) play(node, output.audio[0]);
}

function play(node, { filename, subfolder, type }) {
  const widget = widgetOf(node, "audioUI");
  if (!widget) return;
  const url = api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
  if (widget.element.getAttribute("src") === url) return;
  widget.element.src = widget.value = url;
  widget.element.classList.remove("empty-audio-widget");
}

app.registerExtension({
  name: "aai.results",
  setup() {
    api.addEventListener("aai.message", ({ detail }) => {
      const node = nodeOfRun(detail.node), isNote = detail.kind === "note";
      if (isNote)
        app.extensionManager.toast.add({
          severity: "info", summary: node?.title ?? "Sound-guided images", detail: detail.text, life: TOAST,
        });
      if (!node) return;
      const state = toldBy(node, detail.prompt_id);
      if (isNote) state.notes.push(detail.text);
      else state.progress = detail.text;
      write(node);
    });
    api.addEventListener("executed", ({ detail }) => {
      const node = nodeOfRun(detail.display_node ?? detail.node);
      if (node) result(node, detail.output, detail.prompt_id);
    });
  },
  beforeRegisterNodeDef(_nodeType, nodeData) {
    // The editor's own player, which it adds to the core's nodes alone; and it asks each node with a sound for one.
    if (nodeData.name === "AAI_PocketSound") nodeData.input.required.audioUI = ["AUDIO_UI", {}];
  },
  // Results that the editor shows again, of a workflow that was open before.
  onNodeOutputsUpdated(outputs) {
    for (const [locator, output] of Object.entries(outputs ?? {})) {
      const node = nodeOfResult(locator);
      if (node) result(node, output, told.get(node)?.run);
    }
  },
});
