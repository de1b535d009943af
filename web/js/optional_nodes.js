// The examples end in a slider of ComfyUI's own where ComfyUI has one. An older ComfyUI opens them without it, instead of
// reporting a missing node.
import { app } from "./shared.js";

const MARK = "aai_optional"; // the property of nodes that an example can do without

// A wire's number and its two nodes, in either of the editor's file formats.
const ends = (link) => (Array.isArray(link) ? [link[0], link[1], link[3]] : [link.id, link.origin_id, link.target_id]);

app.registerExtension({
  name: "aai.optionalNodes",
  beforeConfigureGraph(graph) {
    const optional = (graph?.nodes ?? []).filter((node) => node.properties?.[MARK]);
    if (optional.every((node) => node.type in LiteGraph.registered_node_types)) return;
    const gone = new Set(optional.map((node) => node.id));
    const cut = new Set(graph.links.map(ends).filter(([, from, to]) => gone.has(from) || gone.has(to)).map(([id]) => id));
    graph.nodes = graph.nodes.filter((node) => !gone.has(node.id));
    graph.links = graph.links.filter((link) => !cut.has(ends(link)[0]));
    for (const output of graph.nodes.flatMap((node) => node.outputs ?? []))
      output.links = output.links?.filter((id) => !cut.has(id)) ?? null;
  },
});
