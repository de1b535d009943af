// What page.js and the Python modules must agree on: which trial comes when (orders.py), and how answers are told and
// checked (answers.py). It stands behind page.js in the same script.

function trialsOf(number) {
  const n = number - 1, { square, itemSquare, checks } = data, count = data.methods;
  const turn = Math.floor(n / square.length);
  const items = round => itemSquare[(turn + round) % itemSquare.length];
  const row = item => square[(n + item) % square.length];
  const rated = [];
  for (let round = 0; round < count; round++)
    for (const item of items(round)) rated.push({ part: "naturalness", item, method: row(item)[round] });
  const preferred = items(count).map(item => ({ part: "preference", item, order: row(item) }));
  for (let k = checks; k > 0; k--)
    rated.splice(Math.floor(rated.length * k / (checks + 1)), 0, { part: "check", wanted: (n + 2 * k) % SCORES + 1 });
  if (checks) {
    const order = Array.from({ length: count }, (_, index) => index);
    preferred.splice(Math.floor(preferred.length / 2), 0, { part: "preference_check", order, wanted: n % count + 1 });
  }
  return rated.concat(preferred);
}

// FNV-1a over what matters, so that a file that was cut or edited is noticed; answers.py computes the same.
function checksum(told) {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(told)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, "0");
}

function answersOf(person) {
  const told = person.answers.map(a =>
    [a.trial, a.part, a.item ?? "", a.picture ?? "", a.wanted ?? "", a.value ?? "", (a.order ?? []).join(" ")].join(","));
  const finished = person.answers.length >= trialsOf(person.number).length;
  return {
    format: "aai-study-answers", version: 1, study: data.study, pilot: data.pilot, participant: person.participant,
    number: person.number, language, started: person.started, ended: person.ended, finished, answers: person.answers,
    comment: person.comment, checksum: checksum([data.study, person.participant, person.number, ...told].join("\n")),
  };
}
