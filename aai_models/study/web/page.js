// A participation: consent, ratings one picture at a time, preferences, saving. Nothing is sent anywhere.
// Who sees what when stands in rules.js; texts are set as text, never as HTML.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const KEY = `aai-study:${data.study}`;
const SCORES = 5;

// What is kept in the browser: the participation under way, and finished ones of this device.
let store = { current: null, finished: [] };
let canStore = true;
let language = "en";
const RIGHT_TO_LEFT = ["ar", "fa", "he"];
let shownAt = 0, heard = false, audio = null;

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) || "null");
    if (found && Array.isArray(found.finished)) store = found;
    localStorage.setItem(`${KEY}:probe`, "1");
    localStorage.removeItem(`${KEY}:probe`);
  } catch {
    canStore = false;
  }
}

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify(store));
  } catch {
    canStore = false;
  }
}

function text(name, values = {}) {
  const known = data.languages[language][name] ?? data.languages.en[name] ?? name;
  return known.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? String(values[key]) : whole));
}

function element(kind, settings = {}, ...children) {
  const made = Object.assign(document.createElement(kind), settings);
  made.append(...children.filter(child => child !== null));
  return made;
}

function button(name, action, isMain = false) {
  const made = element("button", { type: "button", textContent: text(name), className: isMain ? "main" : "" });
  made.dataset.name = name;
  made.addEventListener("click", action);
  return made;
}

// Screens -----------------------------------------------------------------------------------------------------------

function show(...children) {
  if (audio) audio.pause();
  audio = null;
  main.replaceChildren(...children.filter(child => child !== null));
  document.title = data.title || text("title");
  document.documentElement.lang = language;
  document.documentElement.dir = RIGHT_TO_LEFT.includes(language) ? "rtl" : "ltr";
  document.getElementById("language-label").textContent = text("language");
  const heading = main.querySelector("h1");
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function render() {
  const person = store.current;
  const done = person ? person.answers.length : 0;
  const all = person ? trialsOf(person.number).length : 0;
  document.getElementById("progress").textContent = person ? text("progress", { done, all }) : "";
  if (!person) return start();
  if (done >= all) return end();
  const trial = trialsOf(person.number)[done];
  const part = trial.part.startsWith("preference") ? 2 : 1;
  if (person.part < part) return introduce(part);
  return part === 1 ? rate(trial) : prefer(trial);
}

function start() {
  const asked = Number(new URLSearchParams(location.search).get("number"));
  const most = data.square.length * data.itemSquare.length;
  const drawn = 1 + crypto.getRandomValues(new Uint32Array(1))[0] % most;
  const number = element("input", { type: "number", id: "number", min: 1, max: 999999, step: 1 });
  number.value = Number.isInteger(asked) && asked > 0 ? asked : drawn;
  const agree = element("input", { type: "checkbox", id: "agree" });
  const problem = element("p", { className: "problem", id: "problem" });
  problem.setAttribute("role", "alert");
  const begin = button("begin", () => {
    const value = Number(number.value);
    if (!agree.checked) return void (problem.textContent = text("must_agree"));
    if (!Number.isInteger(value) || value < 1 || value > 999999)
      return void (problem.textContent = text("must_number"));
    const bytes = crypto.getRandomValues(new Uint8Array(12));
    store.current = {
      participant: Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join(""),
      number: value, part: 0, started: new Date().toISOString(), ended: "", answers: [], comment: "", saved: false,
    };
    keep();
    render();
  }, true);
  begin.id = "begin";
  const earlier = store.finished.length
    ? element("p", {}, text("earlier", { n: store.finished.length }), " ", button("save_all", () =>
      save({ format: "aai-study-answers-list", version: 1, answers: store.finished }, "all")))
    : null;
  show(
    element("h1", { textContent: data.title || text("title") }),
    data.pilot ? element("p", { className: "soft", textContent: text("pilot_note") }) : null,
    element("p", { textContent: text("intro", { ratings: data.items.length * data.methods, choices: data.items.length }) }),
    data.consent ? element("p", { className: "told", textContent: data.consent }) : null,
    element("h2", { textContent: text("stored_title") }),
    element("p", { id: "stored", textContent: text("stored") }),
    data.contact ? element("p", { textContent: `${text("contact")} ${data.contact}` }) : null,
    canStore ? null : element("p", { className: "problem", textContent: text("no_storage") }),
    earlier,
    element("div", { className: "row" }, element("label", {}, text("number"), " ", number),
      element("span", { className: "soft", textContent: text("number_help") })),
    element("div", { className: "row" }, element("label", {}, agree, " ", text("agree"))),
    problem, element("div", { className: "row" }, begin));
  const first = data.items[0];
  const fails = () => {
    problem.textContent = text("missing_files");
    begin.disabled = true;
  };
  const picture = new Image(), sound = new Audio();
  picture.onerror = sound.onerror = fails;
  picture.src = first.pictures[0].file;
  sound.preload = "metadata";
  sound.src = first.sound;
}

function introduce(part) {
  show(
    element("h1", { textContent: text(`part${part}_title`) }),
    element("p", { textContent: text(`part${part}_text`) }),
    element("p", { className: "soft", textContent: text(part === 1 ? "keys_rating" : "keys_preference", { n: data.methods }) }),
    element("div", { className: "row" }, button("next", () => {
      store.current.part = part;
      keep();
      render();
    }, true)));
}

// A player of an item's sound; it starts by itself where the browser lets it.
function player(item) {
  heard = false;
  if (item === undefined) return null;
  const made = element("audio", { src: data.items[item].sound, controls: true, preload: "auto" });
  made.addEventListener("play", () => { heard = true; });
  made.addEventListener("error", () => fail());
  queueMicrotask(() => {
    audio = made;
    made.play().catch(() => {});
  });
  const play = button("play", () => {
    made.currentTime = 0;
    made.play().catch(() => {});
  });
  return element("div", { className: "row" }, play, made);
}

function fail() {
  const problem = document.getElementById("problem");
  if (!problem) return;
  problem.textContent = text("missing_files");
  const next = main.querySelector("[data-name=next]");
  next.hidden = true;
}

// The frame of a trial: a group of radio buttons, and a button that goes on once one is chosen.
function ask(heading, question, above, radios, below, answer) {
  const next = button("next", () => {
    const chosen = radios.findIndex(radio => radio.checked);
    if (chosen < 0) return;
    const seconds = Math.round((performance.now() - shownAt) / 100) / 10;
    store.current.answers.push({ ...answer(chosen), trial: store.current.answers.length, seconds, heard });
    if (store.current.answers.length >= trialsOf(store.current.number).length)
      store.current.ended = new Date().toISOString();
    keep();
    render();
  }, true);
  next.disabled = true;
  for (const radio of radios) radio.addEventListener("change", () => { next.disabled = false; });
  const problem = element("p", { className: "problem", id: "problem" });
  problem.setAttribute("role", "alert");
  show(element("h1", { textContent: heading }), ...above,
    element("fieldset", {}, element("legend", { textContent: question }), ...below),
    problem, element("div", { className: "row" }, next));
  shownAt = performance.now();
}

function radio(value) {
  return element("input", { type: "radio", name: "answer", value: String(value) });
}

function scale() {
  const radios = Array.from({ length: SCORES }, (_, index) => radio(index + 1));
  const labels = radios.map((made, index) => element("label", { className: "choice" }, made, ` ${index + 1}`));
  const ends = element("div", { className: "ends" }, element("span", { textContent: text("low") }),
    element("span", { textContent: text("high") }));
  return { radios, below: [element("div", { className: "scale" }, ...labels), ends] };
}

function image(file) {
  const made = element("img", { src: file, alt: "", draggable: false });
  made.addEventListener("error", () => fail());
  return made;
}

function rate(trial) {
  const { radios, below } = scale();
  if (trial.part === "check") {
    heard = false;
    const told = element("p", { className: "test", textContent: text("check_rating", { n: trial.wanted }) });
    return ask(text("part1_title"), text("question_check"), [told], radios, below, chosen =>
      ({ part: "check", wanted: trial.wanted, value: chosen + 1 }));
  }
  const item = data.items[trial.item], picture = item.pictures[trial.method];
  const shown = image(picture.file);
  shown.className = "picture";
  ask(text("part1_title"), text("question_rating"), [player(trial.item), shown], radios, below, chosen =>
    ({ part: "naturalness", item: item.id, picture: picture.id, value: chosen + 1 }));
}

function prefer(trial) {
  const isCheck = trial.part === "preference_check";
  const pictures = isCheck ? [] : trial.order.map(method => data.items[trial.item].pictures[method]);
  const radios = trial.order.map((_, index) => radio(index + 1));
  const labels = radios.map((made, index) => element("label", { className: "choice" },
    isCheck ? element("span", { className: "tile", textContent: index + 1 }) : image(pictures[index].file),
    made, ` ${text("picture", { n: index + 1 })}`));
  const above = isCheck
    ? [element("p", { className: "test", textContent: text("check_preference", { n: trial.wanted }) })]
    : [player(trial.item)];
  if (isCheck) heard = false;
  ask(text("part2_title"), text(isCheck ? "question_check" : "question_preference"), above, radios,
    [element("div", { className: "choices" }, ...labels)], chosen => isCheck
      ? { part: "preference_check", wanted: trial.wanted, value: chosen + 1 }
      : { part: "preference", item: data.items[trial.item].id, order: pictures.map(picture => picture.id),
        picture: pictures[chosen].id });
}

function end() {
  const person = store.current;
  const comment = element("textarea", { id: "comment", value: person.comment, maxLength: 2000 });
  comment.addEventListener("input", () => {
    person.comment = comment.value;
    person.saved = false;
    keep();
  });
  const status = element("p", { id: "status" });
  status.setAttribute("role", "status");
  const shown = element("textarea", { id: "text", readOnly: true, hidden: true });
  const minutes = Math.max(1, Math.round((Date.parse(person.ended) - Date.parse(person.started)) / 60000));
  const next = button("next_person", () => {
    store.finished.push(answersOf(person));
    store.current = null;
    keep();
    render();
  });
  next.hidden = !person.saved;
  show(
    element("h1", { textContent: text("end_title") }),
    element("p", { textContent: text("end_text") }),
    data.pilot ? element("p", { textContent: text("pilot_time", { minutes }) }) : null,
    element("label", {}, text("comment"), comment),
    element("div", { className: "row" },
      button("save", () => {
        save(answersOf(person), `${person.number}-${person.participant.slice(0, 6)}`);
        person.saved = true;
        keep();
        next.hidden = false;
        status.textContent = text("saved");
      }, true),
      button("as_text", () => {
        shown.value = JSON.stringify(answersOf(person));
        shown.hidden = false;
        shown.focus();
        shown.select();
        person.saved = true;
        keep();
        next.hidden = false;
      })),
    status, shown, element("div", { className: "row" }, next));
}

// Answers -----------------------------------------------------------------------------------------------------------

function save(content, name) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
  const link = element("a", { href: url, download: `answers-${data.study}-${name}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

// Beginning ---------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey || /^(TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  if (event.target.type === "number") return;
  const radios = [...main.querySelectorAll("input[type=radio]")];
  const chosen = radios[Number(event.key) - 1];
  if (/^[1-9]$/.test(event.key) && chosen) {
    chosen.checked = true;
    chosen.dispatchEvent(new Event("change"));
    chosen.focus();
  } else if (event.key === "Enter" && event.target.tagName !== "BUTTON") {
    const next = main.querySelector("[data-name=next]");
    if (next && !next.disabled && !next.hidden) next.click();
  } else if (event.key.toLowerCase() === "p") {
    main.querySelector("[data-name=play]")?.click();
  } else return;
  event.preventDefault();
});

addEventListener("beforeunload", event => {
  if (!canStore && store.current && !store.current.saved) event.preventDefault();
});

load();
const select = document.getElementById("language");
for (const [code, strings] of Object.entries(data.languages)) select.append(new Option(strings.name, code));
// "pt" and "pt-PT" may be content with "pt-BR", which is better than English.
const alike = code => [code, code.split("-")[0], Object.keys(data.languages).find(known => known.split("-")[0] === code.split("-")[0])];
const wished = [store.language, ...navigator.languages.flatMap(alike)];
language = wished.find(code => code in data.languages) ?? "en";
select.value = language;
select.addEventListener("change", () => {
  language = store.language = select.value;
  keep();
  render();
});
render();
