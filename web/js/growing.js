// Inputs of which there may be several appear one after the other: a free one waits behind the last that is connected.
// Names, prompts and saved workflows stay as they are without this script.
import { app, fit, isWired, slotOf } from "./shared.js";

const numbered = (name, last) => Array.from({ length: last - 1 }, (_, place) => `${name}_${place + 2}`);
const SERIES = {
  AAI_AudioTokenConditioning: numbered("audio_token", 4),
  AAI_P2PAttentionInject: numbered("target", 8),
  AAI_TrainAudioToken: numbered("references", 5),
};
const hidden = new WeakMap(); // node -> name -> its input, while that is not shown
const waiting = new Set(); // nodes that are looked at when the editor has done what it is at

// Change a node's inputs, and tell the wires of the others where these are now. Newer front ends (1.58) know a wire by the
// number of its input: so they are asked for their wires before, and two wires never have the same number in between.
function splice(node, at, count, ...inputs) {
  const links = new Map(node.inputs.map((input, slot) => [input, node.getInputLink(slot)]));
  const gone = node.inputs.splice(at, count, ...inputs);
  const slots = [...node.inputs.keys()];
  if (inputs.length > count) slots.reverse();
  for (const slot of slots) {
    const link = links.get(node.inputs[slot]);
    if (link && link.target_slot !== slot) link.target_slot = slot;
  }
  return gone;
}

function made(node, name, like) {
  node.addInput(name, like.type, { shape: like.shape }); // at the end, from where it is taken
  return splice(node, node.inputs.length - 1, 1)[0];
}

function arrange(node) {
  const names = SERIES[node.comfyClass], kept = hidden.get(node) ?? new Map();
  if (!node.graph || !node.inputs) return;
  hidden.set(node, kept);
  const shown = 2 + names.findLastIndex(name => isWired(node, name));
  let changed = 0;
  names.forEach((name, place) => {
    const slot = slotOf(node, name);
    if (place < shown && slot < 0 && place > 0) {
      const before = slotOf(node, names[place - 1]);
      splice(node, before + 1, 0, kept.get(name) ?? made(node, name, node.inputs[before]));
      kept.delete(name);
      changed += 1;
    } else if (place >= shown && slot >= 0) {
      kept.set(name, splice(node, slot, 1)[0]);
      changed -= 1;
    }
  });
  if (changed > 0) fit(node);
  else if (changed && !node.aaiConfigured) node.setSize([node.size[0], node.computeSize()[1]]);
  if (changed) node.setDirtyCanvas?.(true, true);
}

// Later: while a workflow is opened or a node pasted, its wires still count the inputs as they were.
function look(node) {
  if (!waiting.size)
    queueMicrotask(() => {
      const nodes = [...waiting];
      waiting.clear();
      nodes.forEach(arrange);
    });
  waiting.add(node);
}

function after(prototype, name, then) {
  const before = prototype[name];
  prototype[name] = function (...given) {
    const result = before?.apply(this, given);
    then(this);
    return result;
  };
}

app.registerExtension({
  name: "aai.growing",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!(nodeData.name in SERIES)) return;
    after(nodeType.prototype, "onAdded", look);
    after(nodeType.prototype, "onConnectionsChange", look);
    after(nodeType.prototype, "onConfigure", node => {
      node.aaiConfigured = true; // it has the size that it was saved with
      look(node);
    });
  },
});
