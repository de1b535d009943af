// The player and the upload button of Load Sound. The editor adds its player to the core's own loaders alone, and its
// upload widget then asks for one: so both are declared here, the player first.
import { app } from "/scripts/app.js";

app.registerExtension({
  name: "aai.loadAudio",
  beforeRegisterNodeDef(_nodeType, nodeData) {
    if (nodeData.name !== "AAI_LoadAudio") return;
    const required = nodeData.input.required;
    const upload = required.upload ?? ["AUDIOUPLOAD", {}];
    delete required.upload;
    required.audioUI = ["AUDIO_UI", {}];
    required.upload = upload;
  },
});
