// Typing `<` in Prompt with Sounds, or `embedding:` there, offers what can stand in that place: words of connected sounds and
// saved words. Arrow keys choose, Enter or Tab writes, Escape closes; whoever goes on typing is not disturbed.
import { api, app, isOurs, isWired, widgetOf } from "./shared.js";

const KIND = "AAI_AudioTokenConditioning";
const STARTED = /<[A-Za-z0-9*]{0,2}$|(?:^|\s)embedding:\S*$/; // what stands before the caret
const MOST = 12; // entries that are shown

let saved = []; // names of models/embeddings, asked for when a menu opens
let turn = 0; // of typing: an answer that comes late is for a text that is no more
let open; // { area, menu, start, chosen }

// The node whose text is edited: in Nodes 2.0 around the field, in the classic renderer the one whose widget it is.
function nodeOfField(area) {
  const around = area.closest("[data-node-id]")?.dataset.nodeId;
  const nodes = (app.canvas.graph ?? app.graph).nodes;
  const node = nodes.find(node => String(node.id) === around || (widgetOf(node, "text")?.element ?? null) === area);
  return isOurs(node) && node.comfyClass === KIND ? node : undefined;
}

function words(node) {
  const sockets = ["audio_token", "audio_token_2", "audio_token_3", "audio_token_4"];
  const wired = sockets.flatMap((name, place) => (isWired(node, name) ? [place ? `<A${place + 1}>` : "<A*>"] : []));
  return [...(wired.length ? wired : ["<A*>"]), ...saved.map(name => `embedding:${name}`)];
}

function close() {
  turn++;
  open?.menu.remove();
  open?.area.removeAttribute("aria-activedescendant");
  open = undefined;
}

function mark(place) {
  const entries = [...open.menu.children];
  open.chosen = (place + entries.length) % entries.length;
  entries.forEach((entry, index) => {
    entry.setAttribute("aria-selected", index === open.chosen);
    entry.style.background = index === open.chosen ? "var(--comfy-input-bg, #444)" : "none";
  });
  entries[open.chosen].scrollIntoView({ block: "nearest" });
  open.area.setAttribute("aria-activedescendant", entries[open.chosen].id);
}

function take(word) {
  const { area, start } = open;
  // The host reads `embedding:` only behind a space, and a word up to the next one.
  const isFile = word.startsWith("embedding:");
  const before = isFile && start > 0 && !/\s/.test(area.value[start - 1]) ? " " : "";
  const after = isFile && !/^\s/.test(area.value.slice(area.selectionEnd)) ? " " : "";
  close();
  area.setRangeText(before + word + after, start, area.selectionEnd, "end");
  area.dispatchEvent(new Event("input", { bubbles: true }));
  close();
  area.focus();
}

// What the caret stands behind, if that is the beginning of a word.
const startedIn = area => STARTED.exec(area.value.slice(0, area.selectionStart));

async function offer(area) {
  const node = nodeOfField(area), mine = ++turn;
  if (!node || !startedIn(area)) return close();
  if (!open) {
    const answer = await api.fetchApi("/embeddings").catch(() => undefined);
    saved = answer?.ok ? await answer.json() : [];
  }
  const started = startedIn(area);
  if (mine !== turn || !started) return; // more was typed meanwhile
  const typed = started[0].trimStart();
  const fits = words(node).filter(word => word.toLowerCase().startsWith(typed.toLowerCase()) || typed === "<");
  close();
  if (!fits.length) return;
  const menu = document.createElement("ul");
  menu.setAttribute("role", "listbox");
  menu.setAttribute("aria-label", "Words for this place");
  menu.className = "aai-words";
  menu.style.cssText = "position: fixed; z-index: 10000; margin: 0; padding: 4px; list-style: none; max-height: 220px; " +
    "overflow: auto; background: var(--comfy-menu-bg, #222); color: var(--input-text, #ddd); border: 1px solid #666; " +
    "border-radius: 4px; font: 13px sans-serif; cursor: pointer";
  fits.slice(0, MOST).forEach((word, place) => {
    const entry = document.createElement("li");
    Object.assign(entry, { id: `aai-word-${place}`, textContent: word });
    entry.setAttribute("role", "option");
    entry.style.padding = "2px 8px";
    entry.addEventListener("pointerdown", event => { event.preventDefault(); take(word); });
    menu.append(entry);
  });
  const box = area.getBoundingClientRect();
  menu.style.left = `${box.left + 8}px`;
  menu.style.top = `${Math.min(box.bottom, innerHeight - 230)}px`;
  document.body.append(menu);
  open = { area, menu, start: area.selectionStart - typed.length, chosen: 0 };
  mark(0);
}

function onKey(event) {
  if (!open || event.target !== open.area) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) mark(open.chosen + step);
  else if (event.key === "Enter" || event.key === "Tab") take(open.menu.children[open.chosen].textContent);
  else if (event.key === "Escape") close();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

app.registerExtension({
  name: "aai.promptWords",
  setup() {
    const isField = event => event.target instanceof HTMLTextAreaElement;
    document.addEventListener("input", event => isField(event) && offer(event.target), true);
    document.addEventListener("keydown", onKey, true);
    document.addEventListener("focusout", event => open?.area === event.target && close(), true);
  },
});
