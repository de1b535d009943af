// Load Sound: the editor's player and upload button, and below them the waveform with the part that is heard.
// Without this script the widgets `start` and `duration` do the same.
import { addElement, api, app, isWired, widgetOf } from "./shared.js";
import { Waveform } from "./waveform.js";

const KIND = "AAI_LoadAudio";
const LOOK = 300; // milliseconds between two looks at the widgets, which wires, undo and loading change too
const FILES = "audio/*,video/*,.mka,.wv,.ape,.tta,.ac3,.eac3,.dts,.caf,.w64,.mts,.m2ts,.vob,.ts,.flv,.wmv,.amr,.opus";
const isMedia = ({ name, type }) => /^(audio|video)\//.test(type) || FILES.split(",").includes(`.${name.split(".").pop().toLowerCase()}`);

async function upload(node, file) {
  const body = new FormData();
  body.append("image", file); // the host's name for any file of the input folder
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) {
    const detail = answer.status === 413 ? "It is larger than this server takes. Put it into ComfyUI's input folder." : `${answer.status} ${answer.statusText}`;
    app.extensionManager.toast.add({ severity: "error", summary: `${file.name} was not uploaded`, detail });
    return;
  }
  const { name, subfolder } = await answer.json();
  const audio = widgetOf(node, "audio"), path = subfolder ? `${subfolder}/${name}` : name;
  if (!audio.options.values.includes?.(path)) audio.options.values.push?.(path);
  audio.value = path;
  audio.callback?.(path);
}

// Videos too, which the editor's own button and drop do not take.
function takeFiles(node) {
  const files = event => [...(event.dataTransfer?.files ?? [])].filter(isMedia);
  const { onDragOver, onDragDrop } = node;
  node.onDragOver = function (event) {
    const items = [...(event.dataTransfer?.items ?? [])];
    return items.some(item => item.kind === "file") || Boolean(onDragOver?.call(this, event));
  };
  node.onDragDrop = async function (event) {
    const [file] = files(event);
    if (!file) return Boolean(await onDragDrop?.call(this, event));
    await upload(node, file);
    return true;
  };
}

function set(node, name, value) {
  const widget = widgetOf(node, name);
  widget.value = value;
  widget.callback?.(value);
  node.setDirtyCanvas?.(true);
}

function addWaveform(node) {
  const waveform = new Waveform({
    change: (start, duration) => { set(node, "start", start); set(node, "duration", duration); },
    choose: file => upload(node, file),
    files: FILES,
  });
  const widget = addElement(node, "aai_waveform", waveform.element, waveform.height);
  const look = setInterval(() => {
    const [audio, start, duration, stream] = ["audio", "start", "duration", "stream"].map(name => widgetOf(node, name)?.value);
    waveform.show({ audio, start, duration, stream: stream ?? 0, fixed: isWired(node, "start") || isWired(node, "duration") });
  }, LOOK);
  const { onRemove } = widget, { onRemoved } = node;
  const end = () => { clearInterval(look); waveform.stop(); };
  widget.onRemove = function () { end(); onRemove?.call(this); };
  node.onRemoved = function () { end(); onRemoved?.call(this); };
}

app.registerExtension({
  name: "aai.loadAudio",
  // The editor adds its player to the core's own loaders alone, and its upload widget then asks for one: so both are
  // declared here, the player first.
  beforeRegisterNodeDef(_nodeType, nodeData) {
    if (nodeData.name !== KIND) return;
    const required = nodeData.input.required;
    const upload = required.upload ?? ["AUDIOUPLOAD", {}];
    delete required.upload;
    required.audioUI = ["AUDIO_UI", {}];
    required.upload = upload;
  },
  nodeCreated(node) {
    if (node.comfyClass !== KIND) return;
    takeFiles(node);
    addWaveform(node);
  },
});
