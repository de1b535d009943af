// What the pack's scripts share. Paths are relative, so that they also hold where a proxy puts ComfyUI below a folder.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
export { api, app };

const root = () => app.rootGraph ?? app.graph;
const number = id => (/^\d+$/.test(id) ? Number(id) : id);

export const isOurs = node => Boolean(node?.comfyClass?.startsWith("AAI_"));
export const widgetOf = (node, name) => node.widgets?.find(widget => widget.name === name);
export const slotOf = (node, name) => node.inputs?.findIndex(input => input.name === name) ?? -1;
export const isWired = (node, name) => slotOf(node, name) >= 0 && node.isInputConnected(slotOf(node, name));

// The node that an event of a run means: "12", or "7:12" for node 12 inside the subgraph node 7.
export function nodeOfRun(id) {
  let graph = root(), node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(number(part));
    graph = node?.subgraph;
  }
  return isOurs(node) ? node : undefined;
}

// The node that the editor's list of results means: "12", or "<id of the subgraph>:12".
export function nodeOfResult(locator) {
  const parts = String(locator).split(":");
  const graph = parts.length > 1 ? root()?.subgraphs?.get(parts[0]) : root();
  const node = graph?.getNodeById(number(parts.at(-1)));
  return isOurs(node) ? node : undefined;
}

// Add an element below a node's widgets, in both renderers. It is never saved with the workflow nor sent with a prompt.
export function addElement(node, name, element, height) {
  const widget = node.addDOMWidget(name, name, element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height,
  });
  widget.serialize = false;
  fit(node);
  return widget;
}

// Make a node as large as what is on it needs; never smaller.
export function fit(node) {
  const needed = node.computeSize();
  node.setSize([Math.max(node.size[0], needed[0]), Math.max(node.size[1], needed[1])]);
  node.setDirtyCanvas?.(true, true);
}
