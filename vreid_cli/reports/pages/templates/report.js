"use strict";
// What is shown comes from the two JSON scripts; text goes into the page by textContent only, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
let thumbnails = null;
const by = (id) => document.getElementById(id);
const SAYS = { right: ["✓", "same vehicle"], wrong: ["✗", "another vehicle"], unknown: ["?", "no label"],
  junk: ["–", "junk: its vehicle, by the query's own camera"] };
const MARKS = { same: "s", different: "d", unsure: "u" };

function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for" || name === "scope") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

const number = (value) => Math.abs(value) < 10 ? value.toFixed(4) : value.toFixed(2);
const name = (text) => el("bdi", { textContent: text, dir: "auto" });

// -- images -------------------------------------------------------------------------------------------------

function image(item, position) {
  const at = item.shown[position];
  const called = `${item.id}, image ${position + 1}`;
  if (at === undefined) return el("span", { className: "gone", role: "img", "aria-label": `${called}: not in this page`, textContent: `image ${position + 1}` });
  thumbnails ??= JSON.parse(by("thumbnails").textContent);
  const source = thumbnails[at];
  if (source === null) return el("span", { className: "gone", role: "img", "aria-label": `${called}: missing`, textContent: "missing" });
  const address = data.folder ? `${data.folder}/${source}` : `data:image/webp;base64,${source}`;
  return el("img", { loading: "lazy", decoding: "async", alt: called, src: address });
}

function strip(item) {
  const row = el("span", { className: "strip" }, ...item.strip.map((position) => image(item, position)));
  if (!item.strip.length) row.append(el("span", { className: "gone", textContent: "no images" }));
  if (item.count > item.strip.length && item.strip.length) row.append(el("span", { className: "more", textContent: `${item.strip.length} of ${item.count} images` }));
  return row;
}

function labels(item) {
  const words = [];
  if (item.vehicle !== null) words.push("vehicle ", name(item.vehicle));
  if (item.camera !== null) words.push(words.length ? " · camera " : "camera ", name(item.camera));
  return el("span", { className: "labels" }, ...words);
}

// -- marks --------------------------------------------------------------------------------------------------

const KEY = `vreid-marks-${data.key}`;
let marks = {};
let kept = true;
try { marks = JSON.parse(localStorage.getItem(KEY) ?? "{}"); } catch { kept = false; }
const pairKey = (query, match) => JSON.stringify([query.id, data.items[match.item].id]);

function mark(query, match, value) {
  const key = pairKey(query, match);
  if (value === null) delete marks[key]; else marks[key] = value;
  try { localStorage.setItem(KEY, JSON.stringify(marks)); } catch { kept = false; }
  showMarks();
}

function showMarks() {
  const count = Object.keys(marks).length;
  by("marks").textContent = count === 0 ? "no marks yet" : `${count} ${count === 1 ? "mark" : "marks"}${kept ? ", kept in this browser" : ", lost when this page is closed: export them"}`;
  by("export").disabled = by("clear").disabled = count === 0;
  for (const group of document.querySelectorAll(".marks")) {
    const value = marks[group.dataset.key];
    for (const button of group.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.mark === value));
  }
}

function markButtons(query, match, tabbable) {
  const buttons = Object.keys(MARKS).map((value) => {
    const button = el("button", { type: "button", textContent: value, tabIndex: tabbable ? 0 : -1, "data-mark": value, "aria-pressed": "false" });
    button.addEventListener("click", () => mark(query, match, marks[pairKey(query, match)] === value ? null : value));
    return button;
  });
  return el("div", { className: "marks", role: "group", "aria-label": `Your mark of ${data.items[match.item].id}`, "data-key": pairKey(query, match) }, ...buttons);
}

function quoted(cell) {
  // A spreadsheet would compute what begins so; vreid takes the apostrophe away again.
  const text = /^'*[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function exportMarks() {
  const rows = [["query_id", "gallery_id", "mark", "metric", "ranking"]];
  for (const [key, value] of Object.entries(marks)) rows.push([...JSON.parse(key), value, data.metric, data.ranking]);
  const text = rows.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  const link = el("a", { href: address, download: "reviewed.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// -- queries ------------------------------------------------------------------------------------------------

function matchCard(query, match, first) {
  const item = data.items[match.item];
  const [sign, words] = SAYS[match.kind];
  const rank = match.rank === null ? "junk" : `#${match.rank}`;
  const line = el("span", { className: "line-one" }, el("span", { className: "verdict" }, el("span", { textContent: sign, "aria-hidden": "true" }), el("span", { className: "sr", textContent: `${words}, ` })),
    el("b", { textContent: rank }), name(item.id), el("span", { className: "distance", textContent: number(match.distance) }));
  if (match.probability !== undefined) line.append(el("span", { className: "distance", textContent: `same with ${match.probability}` }));
  const open = el("button", { type: "button", className: "open", tabIndex: first ? 0 : -1 }, line, labels(item), strip(item));
  open.addEventListener("click", () => openPair(query, match));
  const card = el("li", { className: `match ${match.kind}` }, open, markButtons(query, match, false));
  card.about = [query, match];
  return card;
}

function querySection(query) {
  const head = el("div", { className: "query-head" }, el("h2", { id: `query-${query.index}` }, "Query ", name(query.id)), labels(query));
  const facts = [];
  if (query.ap !== null) facts.push(`AP ${(100 * query.ap).toFixed(1)} %`);
  if (query.first > 0) facts.push(`first right match at rank ${query.first}`);
  facts.push(`${query.index + 1} of ${data.queries.length}`);
  head.append(el("span", { className: "number", textContent: facts.join(" · ") }));
  const section = el("section", { className: "query", "aria-labelledby": `query-${query.index}` }, head, strip(query));
  if (query.no_match) section.append(el("p", {}, el("b", { textContent: "No match" }), ": no gallery item is near or probable enough to be an answer."));
  if (query.matches.length) section.append(el("ol", { className: "matches" }, ...query.matches.map((match, place) => matchCard(query, match, place === 0))));
  else if (!query.no_match) section.append(el("p", { textContent: "No gallery item is listed for this query." }));
  return section;
}

// -- which are shown ----------------------------------------------------------------------------------------

const start = { shown: data.queries, page: 0 };
const field = (id) => by(id)?.value.trim() ?? "";
const nearest = (query) => query.matches.find((match) => match.kind !== "junk");

function wanted(query) {
  const text = field("search").toLocaleLowerCase();
  if (text && !query.id.toLocaleLowerCase().includes(text) && !query.matches.some((match) => data.items[match.item].id.toLocaleLowerCase().includes(text))) return false;
  const camera = field("query-camera"), other = field("gallery-camera"), first = field("first"), reviewed = field("reviewed");
  if (camera && query.camera !== camera) return false;
  if (other && !query.matches.some((match) => data.items[match.item].camera === other)) return false;
  if (first && nearest(query)?.kind !== first) return false;
  const low = field("ap-from"), high = field("ap-to");
  if (low && !(query.ap !== null && 100 * query.ap >= Number(low))) return false;
  if (high && !(query.ap !== null && 100 * query.ap <= Number(high))) return false;
  if (reviewed) {
    const any = query.matches.some((match) => pairKey(query, match) in marks);
    if (any !== (reviewed === "yes")) return false;
  }
  return true;
}

const ORDERS = {
  "ap": (one, other) => (one.ap ?? 2) - (other.ap ?? 2),
  "-ap": (one, other) => (other.ap ?? -1) - (one.ap ?? -1),
  "distance": (one, other) => (nearest(one)?.distance ?? Infinity) - (nearest(other)?.distance ?? Infinity),
  "-distance": (one, other) => (nearest(other)?.distance ?? -Infinity) - (nearest(one)?.distance ?? -Infinity),
  "id": (one, other) => one.id < other.id ? -1 : one.id > other.id ? 1 : 0,
};

function choose() {
  start.shown = data.queries.filter(wanted);
  const order = ORDERS[field("sort")];
  if (order) start.shown.sort(order);
  start.page = 0;
  show();
}

function show() {
  const size = Number(field("size")), pages = Math.max(1, Math.ceil(start.shown.length / size));
  const part = start.shown.slice(start.page * size, (start.page + 1) * size);
  by("queries").replaceChildren(...part.map(querySection));
  const all = data.queries.length;
  by("shown").textContent = `${start.shown.length === all ? all : `${start.shown.length} of ${all}`} ${all === 1 ? "query" : "queries"}`;
  by("page").textContent = `page ${start.page + 1} of ${pages}`;
  by("pages").hidden = pages === 1;
  by("previous").disabled = start.page === 0;
  by("next").disabled = start.page === pages - 1;
  showMarks();
}

function turn(by_) {
  start.page += by_;
  show();
  by("main").focus();
  window.scrollTo(0, by("bar").offsetTop);
}

// -- why a match --------------------------------------------------------------------------------------------

let opened = null;

function floats(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 4 }, (_, place) => view.getFloat32(4 * place, true));
}

function heat(part) {
  const steps = part * (data.ramp.length - 1), below = Math.min(Math.floor(steps), data.ramp.length - 2);
  return data.ramp[below].map((value, channel) => Math.round(value + (steps - below) * (data.ramp[below + 1][channel] - value)));
}

function paint(cell, part) {
  const [red, green, blue] = heat(part);
  cell.style.backgroundColor = `rgb(${red} ${green} ${blue})`;
  cell.style.color = 0.299 * red + 0.587 * green + 0.114 * blue > 125 ? "#101418" : "#ffffff";
}

function heatMap(query, match) {
  const item = data.items[match.item], pair = match.pair, cells = floats(pair.cells);
  const rows = pair.rows, columns = pair.columns, counts = new Map(pair.counts), codes = pair.shows === "code";
  const scaled = codes ? cells.map((cell) => -Math.abs(cell)) : cells;
  const low = Math.min(...scaled), span = Math.max(...scaled) - low;
  const decides = (side, place) => [...counts.keys()].some((at) => (side ? at % columns.length : Math.floor(at / columns.length)) === place);
  const head = (of, position, side, place) => el("th", { scope: side ? "col" : "row", className: decides(side, place) ? "decides" : "" }, image(of, position), String(position + 1));
  const table = el("table", { className: "map" }, el("caption", { textContent: `${codes ? "Weights of the gallery's images" : `${pair.shows} between the images`}; framed is what decides` }),
    el("tr", {}, el("td", {}), ...columns.map((position, place) => head(item, position, 1, place))));
  rows.forEach((position, row) => {
    const line = el("tr", {}, head(query, position, 0, row));
    columns.forEach((_, column) => {
      const at = row * columns.length + column;
      const cell = el("td", { className: counts.has(at) ? "decides" : "", textContent: Math.abs(cells[at]) < 10 ? cells[at].toFixed(3) : cells[at].toFixed(1) });
      if (counts.has(at)) cell.append(el("span", { className: "sr", textContent: ` decides${counts.get(at) > 1 ? `, counted ${counts.get(at)} times` : ""}` }));
      paint(cell, span > 0 ? (scaled[at] - low) / span : 0);
      line.append(cell);
    });
    table.append(line);
  });
  const ramp = el("i", {});
  ramp.style.background = `linear-gradient(90deg, ${data.ramp.map((colour) => `rgb(${colour.join(" ")})`).join(", ")})`;
  const ends = codes ? [-low, -low - span] : [low, low + span];
  const scale = el("p", { className: "ramp" }, `${codes ? "weighs most" : "nearest"} ${number(ends[0])}`, ramp, `${number(ends[1])} ${codes ? "least" : "farthest"}`);
  return [el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Distances between the images" }, table), scale];
}

function openPair(query, match) {
  opened = [query, match];
  const item = data.items[match.item], [sign, words] = SAYS[match.kind];
  const body = [el("p", {}, "Query ", name(query.id), " (rows) and gallery ", name(item.id), " (columns): ",
    el("span", { className: match.kind }, el("span", { className: "verdict", textContent: `${sign} ${words}` })),
    match.rank === null ? "; left out of the ranks" : `; rank ${match.rank}`, `; distance ${number(match.distance)}`, match.probability === undefined ? "" : `; same vehicle with ${match.probability}`)];
  if (match.pair) {
    body.push(el("p", { className: "facts", textContent: data.rules[match.pair.rule] }), el("p", { className: "spelled", textContent: match.pair.spelled }), ...heatMap(query, match));
    const hidden = [[query, match.pair.rows], [item, match.pair.columns]].filter(([of, some]) => some.length < of.count).map(([of, some]) => `${some.length} of the ${of.count} images of ${of.id}`);
    if (hidden.length) body.push(el("p", { className: "facts", textContent: `Shown: ${hidden.join("; ")}: those that decide, and others evenly.` }));
  } else body.push(el("p", { textContent: data.without_pairs }), strip(query), strip(item));
  body.push(el("p", {}, "Your mark:"), markButtons(query, match, true));
  by("pair-body").replaceChildren(...body);
  const place = query.matches.indexOf(match);
  by("pair-previous").disabled = place === 0;
  by("pair-next").disabled = place === query.matches.length - 1;
  if (!by("pair").open) by("pair").showModal();
  showMarks();
}

function step(by_) {
  if (opened === null) return;
  const [query, match] = opened, next = query.matches[query.matches.indexOf(match) + by_];
  if (next) openPair(query, next);
}

// -- keys ---------------------------------------------------------------------------------------------------

function focusOn(card) {
  const open = card?.querySelector(".open");
  if (!open) return;
  for (const other of card.parentElement.querySelectorAll(".open")) other.tabIndex = -1;
  open.tabIndex = 0;
  open.focus();
}

function moved(card, key) {
  if (key === "ArrowRight") return card.nextElementSibling;
  if (key === "ArrowLeft") return card.previousElementSibling;
  const sections = [...document.querySelectorAll(".query")].filter((section) => section.querySelector(".match"));
  const place = sections.indexOf(card.closest(".query")) + (key === "ArrowDown" ? 1 : -1);
  return sections[place]?.querySelectorAll(".match")[[...card.parentElement.children].indexOf(card)] ?? sections[place]?.querySelector(".match:last-child");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
  const inDialog = by("pair").open, card = inDialog ? null : event.target.closest?.(".match");
  const about = inDialog ? opened : card?.about;
  const value = Object.keys(MARKS).find((word) => MARKS[word] === event.key);
  if (about && (value || event.key === "x")) mark(...about, value ?? null);
  else if (inDialog && (event.key === "ArrowLeft" || event.key === "ArrowRight") && !event.target.closest(".scroll")) step(event.key === "ArrowRight" ? 1 : -1);
  else if (card && event.key.startsWith("Arrow")) focusOn(moved(card, event.key));
  else if (!inDialog && event.key === "/") by("search").focus();
  else return;
  event.preventDefault();
});

by("pair").addEventListener("close", () => {
  if (opened === null) return;
  const [query, match] = opened;
  opened = null;
  focusOn([...document.querySelectorAll(".match")].find((card) => card.about[0] === query && card.about[1] === match));
});
by("pair-previous").addEventListener("click", () => step(-1));
by("pair-next").addEventListener("click", () => step(1));
by("pair-close").addEventListener("click", () => by("pair").close());
by("previous").addEventListener("click", () => turn(-1));
by("next").addEventListener("click", () => turn(1));
by("export").addEventListener("click", exportMarks);
by("clear").addEventListener("click", () => {
  if (!confirm(`Clear ${Object.keys(marks).length} ${Object.keys(marks).length === 1 ? "mark" : "marks"} of this ranking?`)) return;
  for (const key of Object.keys(marks)) delete marks[key];
  try { localStorage.removeItem(KEY); } catch { kept = false; }
  showMarks();
});
by("filter").addEventListener("submit", (event) => event.preventDefault());
by("filter").addEventListener("reset", () => setTimeout(choose));
let waiting = 0;
by("filter").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(choose, 120); });

for (const [id, cameras] of [["query-camera", data.queries.map((query) => query.camera)], ["gallery-camera", data.items.map((item) => item.camera)]]) {
  const known = [...new Set(cameras.filter((camera) => camera !== null))].sort();
  for (const camera of known) by(id).append(el("option", { textContent: camera, value: camera }));
  if (!known.length) by(id).closest("label").remove();
}
data.queries.forEach((query, index) => { query.index = index; });
by("filter").hidden = by("bar").hidden = false;
show();
