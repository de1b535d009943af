// Colours of the pack's own wires: what was heard, what became a word, where a word acted.
import { app } from "./shared.js";

const COLOURS = { CAVT_MODEL: "#c08552", AUDIO_FEATURE: "#4fb3bf", AUDIO_TOKEN: "#f2a541", AAI_WORD_MAPS: "#b07cc6" };

// A palette, whenever it is loaded, empties the colour of each type that it does not know; one that knows it wins.
function colour(table) {
  for (const [type, ours] of Object.entries(COLOURS)) {
    let now = table[type] || ours;
    Object.defineProperty(table, type, {
      get: () => now, set: value => { now = value || ours; }, enumerable: true, configurable: true,
    });
  }
}

app.registerExtension({
  name: "aai.colours",
  setup() {
    colour(LGraphCanvas.link_type_colors);
    colour(app.canvas.default_connection_color_byType);
    const style = document.createElement("style"); // Nodes 2.0
    style.textContent = `:root { ${Object.entries(COLOURS).map(([type, ours]) => `--color-datatype-${type}: ${ours};`).join(" ")} }`;
    document.head.append(style);
  },
});
