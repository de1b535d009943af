// A waveform with a range that can be dragged by mouse, finger and keys. Peaks come from the pack's own route, part by part
// for long recordings, so that neither the editor nor the server waits for a whole file.
import { api } from "./shared.js";

const TALL = 64, AGAIN = 800, SETTLE = 250; // pixels; milliseconds between questions, and after a drag
const SHORTEST = 0.01, LONGEST = 600; // seconds, as the widget's
const STEPS = { ArrowLeft: -0.1, ArrowRight: 0.1, ArrowDown: -0.1, ArrowUp: 0.1, PageDown: -10, PageUp: 10 }; // seconds

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
const hundredths = value => Math.round(value * 100) / 100;

function make(tag, style, attributes = {}, parent = undefined) {
  const element = document.createElement(tag);
  element.style.cssText = style;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

// "sub/storm.wav [output]" -> what the editor's own file route takes.
function viewUrl(audio) {
  const [, path, type = "input"] = /^(.*?)(?: \[(\w+)\])?$/.exec(audio);
  const cut = path.lastIndexOf("/");
  const query = { filename: path.slice(cut + 1), subfolder: cut < 0 ? "" : path.slice(0, cut), type };
  return api.apiURL(`/view?${new URLSearchParams(query)}`);
}

export class Waveform {
  height = TALL + 40;

  constructor({ change, choose, files }) {
    this.change = change;
    this.now = {}; // what the widgets say
    this.known = { peaks: [], seconds: 0 };
    this.element = make("div", "display: flex; flex-direction: column; gap: 4px; width: 100%; font: 11px sans-serif");
    const field = make("div", `position: relative; height: ${TALL}px; flex: none; touch-action: none; cursor: grab`, {}, this.element);
    this.canvas = make("canvas", "width: 100%; height: 100%; display: block; background: var(--comfy-input-bg, #222)", {
      role: "img", "aria-label": "Waveform",
    }, field);
    this.ends = ["Start", "End"].map(name => make("div",
      "position: absolute; top: 0; bottom: 0; width: 9px; margin-left: -4px; cursor: ew-resize; background: #f2a54188",
      { role: "slider", tabindex: 0, "aria-label": `${name} of the part that is heard`, "aria-valuemin": 0 }, field));
    const row = make("div", "display: flex; gap: 6px; align-items: center", {}, this.element);
    this.play = this.button(row, "Play part", () => this.toggle());
    const input = make("input", "display: none", { type: "file", accept: files }, row);
    input.addEventListener("change", () => { if (input.files.length) choose(input.files[0]); input.value = ""; });
    this.button(row, "Choose a sound or video", () => input.click());
    this.status = make("span", "flex: 1; overflow: hidden; text-overflow: ellipsis", { role: "status" }, row);
    this.player = new Audio();
    this.player.preload = "none";
    this.player.addEventListener("pause", () => { this.play.textContent = "Play part"; });
    this.player.addEventListener("error", () => this.tell("This browser cannot play this format. The node hears it all the same."));
    this.player.addEventListener("timeupdate", () => { if (this.player.currentTime >= this.until) this.player.pause(); });
    this.listen(field);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  button(parent, text, press) {
    const button = make("button", "padding: 2px 8px; cursor: pointer; white-space: nowrap", { type: "button" }, parent);
    button.textContent = text;
    button.addEventListener("click", press);
    return button;
  }

  // Called often, with what the widgets say; does something only where that changed.
  show(now) {
    const before = this.now;
    if (Object.keys(now).every(key => now[key] === before[key])) return;
    this.now = now;
    if (now.audio !== before.audio || now.stream !== before.stream) {
      this.player.pause();
      this.known = { peaks: [], seconds: 0 };
      this.ask(0);
    } else if (now.start !== before.start || now.duration !== before.duration) this.ask(SETTLE);
    this.draw();
  }

  ask(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.fetch(), wait);
  }

  async fetch() {
    const { audio, start, duration, stream } = this.now;
    if (!audio || !this.element.isConnected) return this.ask(AGAIN);
    const mine = (this.turn = (this.turn ?? 0) + 1);
    const query = new URLSearchParams({ name: audio, stream, start, duration });
    const found = await api.fetchApi(`/aai/outline?${query}`).then(answer => answer.json()).catch(() => undefined);
    if (mine !== this.turn || audio !== this.now.audio) return;
    if (!found || found.error) return this.tell(found?.error ?? "The waveform cannot be drawn now.");
    this.known = found;
    this.draw();
    const level = found.lufs == null ? "silent" : `${found.lufs} LUFS`;
    const part = this.part();
    if (!found.complete) this.ask(AGAIN);
    this.tell(`${(part.end - part.start).toFixed(2)} s of ${found.seconds.toFixed(1)} s${found.complete ? "" : " so far"}, ${level}`);
  }

  tell(text) { this.status.textContent = this.status.title = text; }

  // The heard part in seconds; it ends with the recording.
  part() {
    const start = Number(this.now.start) || 0, until = start + (Number(this.now.duration) || 0);
    return { start, end: this.known.complete ? Math.max(start, Math.min(until, this.known.seconds)) : until };
  }

  // Seconds that the width stands for.
  span() { return Math.max(this.known.seconds, this.known.complete ? 0 : this.part().end, 0.1); }

  draw() {
    const { canvas, known: { peaks, seconds } } = this, { start, end } = this.part(), span = this.span();
    const width = (canvas.width = Math.max(1, canvas.clientWidth)), height = (canvas.height = TALL);
    const pen = canvas.getContext("2d"), loudest = Math.max(...peaks, 0.05);
    peaks.forEach((peak, place) => {
      const time = (place / peaks.length) * seconds, x = (time / span) * width;
      const tall = Math.max(1, (peak / loudest) * height * 0.95);
      pen.fillStyle = time >= start && time < end ? "#f2a541" : "#777";
      pen.fillRect(x, (height - tall) / 2, Math.max(1, (seconds / span) * width / peaks.length - 0.3), tall);
    });
    [start, end].forEach((time, place) => {
      const slider = this.ends[place];
      slider.style.left = `${(clamp(time, 0, span) / span) * 100}%`;
      slider.setAttribute("aria-valuemax", hundredths(span));
      slider.setAttribute("aria-valuenow", hundredths(time));
      slider.setAttribute("aria-valuetext", `${time.toFixed(2)} seconds`);
      slider.setAttribute("aria-disabled", Boolean(this.now.fixed));
    });
  }

  // Take a new range; the widgets round to hundredths.
  set(start, end) {
    if (this.now.fixed) return this.tell("A wire sets the part that is heard.");
    const span = this.span();
    start = hundredths(clamp(start, 0, span - SHORTEST));
    const duration = hundredths(clamp(end - start, SHORTEST, Math.min(LONGEST, span - start)));
    this.change(start, duration);
    this.show({ ...this.now, start, duration });
  }

  listen(field) {
    const place = event => {
      const box = field.getBoundingClientRect(); // in pixels of the screen, whatever the zoom
      return clamp((event.clientX - box.left) / box.width, 0, 1) * this.span();
    };
    let drag;
    field.addEventListener("pointerdown", event => {
      const { start, end } = this.part(), grabbed = this.ends.indexOf(event.target), at = place(event);
      // An end is moved alone; the part between them as a whole; elsewhere a click brings the part there.
      drag = { grabbed, at, start, end };
      if (grabbed < 0 && (at < start || at > end)) {
        const length = end - start;
        drag = { ...drag, start: at, end: at + length };
        this.set(at, at + length);
      }
      field.setPointerCapture(event.pointerId);
      event.stopPropagation();
    });
    field.addEventListener("pointermove", event => {
      if (!drag) return;
      const moved = place(event) - drag.at, length = drag.end - drag.start;
      if (drag.grabbed === 0) this.set(Math.min(drag.start + moved, drag.end - SHORTEST), drag.end);
      else if (drag.grabbed === 1) this.set(drag.start, drag.end + moved);
      else {
        const start = clamp(drag.start + moved, 0, this.span() - Math.min(length, this.span()));
        this.set(start, start + length);
      }
      event.stopPropagation();
    });
    for (const name of ["pointerup", "pointercancel"]) field.addEventListener(name, () => { drag = undefined; });
    this.ends.forEach((slider, which) => slider.addEventListener("keydown", event => {
      const { start, end } = this.part();
      const to = { Home: -Infinity, End: Infinity }[event.key] ?? STEPS[event.key] * (event.shiftKey ? 10 : 1);
      if (Number.isNaN(to)) return;
      if (which) this.set(start, end + to);
      else this.set(Math.min(start + to, end - SHORTEST), end);
      event.preventDefault();
      event.stopPropagation(); // or the editor moves the node
    }));
  }

  toggle() {
    if (!this.player.paused) return this.player.pause();
    if (!this.now.audio) return;
    const { start, end } = this.part(), url = viewUrl(this.now.audio);
    this.until = end;
    if (this.player.getAttribute("src") !== url) this.player.src = url;
    this.player.currentTime = start;
    this.player.play().then(() => { this.play.textContent = "Stop"; }, () => {});
  }

  stop() {
    clearTimeout(this.timer);
    this.turn = Infinity;
    this.player.pause();
  }
}
