"use strict";
// The table, the parallel axes and the comparison of experiments/collection/page.py.
const $ = (id) => document.getElementById(id);
const RUNS = DATA.runs;
const state = { sort: "run", down: false, chosen: [] };

const mean = (entry) =>
  entry && typeof entry === "object" && !Array.isArray(entry)
    ? entry.mean : entry;

function text(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return JSON.stringify(value);
  if (typeof value === "object") {
    const places = digits(value);
    const ends = value.low === null || value.low === undefined
      ? "" : ` [${value.low.toFixed(places)}, ${value.high.toFixed(places)}]`;
    return value.mean === null ? "" : value.mean.toFixed(places) + ends;
  }
  if (typeof value === "number" && !Number.isInteger(value))
    return String(Number(value.toPrecision(4)));
  return String(value);
}

function digits(entry) {
  const half = (entry.high - entry.low) / 2;
  if (!(half > 0)) return 3;
  return Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(half))));
}

const unique = (values) => [...new Set(values)];
const NUMBERS = unique(RUNS.flatMap((run) => Object.keys(run.numbers)));
const COLUMNS = ["run", "experiment", "verdict", ...DATA.changed, ...NUMBERS,
  "seconds"];

const name_of = { "holds": "yes", "does not hold": "no" };  // a word's colour

function cell(run, name) {
  if (["run", "experiment", "verdict", "seconds"].includes(name)) return run[name];
  return name in run.numbers ? run.numbers[name] : run.settings[name];
}

function matches(run) {
  const wanted = $("experiment").value;
  if (wanted && run.experiment !== wanted) return false;
  const words = $("filter").value.trim().split(/\s+/).filter(Boolean);
  return words.every((word) => {
    const [name, value] = word.split("=", 2);
    if (value !== undefined) {
      const found = cell(run, name);
      return found !== undefined && text(mean(found)) === value;
    }
    return COLUMNS.some((column) =>
      text(cell(run, column)).toLowerCase().includes(word.toLowerCase()));
  });
}

function compare(a, b) {
  const [x, y] = [mean(cell(a, state.sort)), mean(cell(b, state.sort))];
  const none = (v) => v === null || v === undefined;
  if (none(x) || none(y)) return none(x) - none(y);
  const order = typeof x === "number" && typeof y === "number"
    ? x - y : text(x).localeCompare(text(y), undefined, { numeric: true });
  return state.down ? -order : order;
}

function shown() {
  return RUNS.filter(matches).sort(compare);
}

function element(name, content, attributes = {}) {
  const made = document.createElement(name);
  if (content !== null) made.textContent = content;
  for (const [key, value] of Object.entries(attributes))
    made.setAttribute(key, value);
  return made;
}

function drawTable(rows) {
  const table = element("table", null);
  const head = element("tr", null);
  for (const name of COLUMNS) {
    const th = element("th", name, { scope: "col", "data-column": name });
    if (name === state.sort)
      th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    th.onclick = () => {
      state.down = name === state.sort && !state.down;
      state.sort = name;
      draw();
    };
    head.append(th);
  }
  table.append(element("thead", null));
  table.tHead.append(head);
  const body = element("tbody", null);
  for (const run of rows) {
    const tr = element("tr", null);
    if (state.chosen.includes(run)) tr.className = "chosen";
    for (const name of COLUMNS) tr.append(tableCell(run, name));
    tr.onclick = (event) => {
      if (event.target.tagName === "A") return;
      const at = state.chosen.indexOf(run);
      if (at >= 0) state.chosen.splice(at, 1);
      else state.chosen = [...state.chosen, run].slice(-2);
      draw();
    };
    body.append(tr);
  }
  table.append(body);
  const wide = element("div", null, { class: "wide" });
  wide.append(table);
  $("table").replaceChildren(wide);
}

function tableCell(run, name) {
  const value = cell(run, name);
  if (name === "run") {
    const td = element("td", null);
    td.append(element("a", run.run, { href: `${run.run}/report.html` }));
    return td;
  }
  if (name === "verdict")
    return element("td", value, name_of[value] ? { class: name_of[value] } : {});
  return element("td", text(value));
}

const SVG = "http://www.w3.org/2000/svg";
function svg(name, attributes, content = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes))
    made.setAttribute(key, value);
  made.textContent = content;
  return made;
}

function axis(rows, name) {
  const values = rows.map((run) => mean(cell(run, name)));
  const known = values.filter((v) => v !== null && v !== undefined);
  if (known.length && known.every((v) => typeof v === "number")) {
    const low = Math.min(...known), high = Math.max(...known);
    const logs = low > 0 && high / low > 50;
    const scale = logs ? Math.log : (v) => v;
    const span = scale(high) - scale(low) || 1;
    return { name, ends: [text(low), text(high)],
      at: (v) => (scale(v) - scale(low)) / span };
  }
  const kinds = unique(known.map(text)).sort();
  return { name, ends: [kinds[0] ?? "", kinds[kinds.length - 1] ?? ""],
    at: (v) => kinds.length < 2 ? 0.5 : kinds.indexOf(text(v)) /
      (kinds.length - 1) };
}

function drawAxes(rows) {
  const picture = $("axes");
  const metric = $("metric").value;
  const names = [...DATA.changed.filter((n) => unique(rows.map((run) =>
    text(cell(run, n)))).length > 1).slice(0, 9), ...(metric ? [metric] : [])];
  const axes = names.map((name) => axis(rows, name));
  const x = (i) => axes.length < 2 ? 600 : 90 + i * 1020 / (axes.length - 1);
  const y = (share) => 310 - 250 * share;
  const made = [];
  for (const run of rows) {
    const points = axes.map((a, i) => [x(i), mean(cell(run, a.name)), a])
      .filter(([, v]) => v !== null && v !== undefined)
      .map(([place, v, a]) => `${place},${y(a.at(v)).toFixed(1)}`);
    if (points.length > 1) {
      const path = svg("path", { d: "M" + points.join("L") });
      if (state.chosen.includes(run)) path.setAttribute("class", "chosen");
      path.append(svg("title", {}, run.run));
      made.push(path);
    }
  }
  axes.forEach((a, i) => {
    made.push(svg("line", { x1: x(i), x2: x(i), y1: 60, y2: 310 }));
    const put = (place, word) => made.push(svg("text",
      { x: x(i), y: place, "text-anchor": "middle" }, word));
    put(328, a.ends[0]);
    put(50, a.ends[1]);
    put(i % 2 ? 14 : 32, a.name);
  });
  picture.replaceChildren(...made);
}

function draw() {
  const rows = shown();
  $("count").textContent = `${rows.length} of ${RUNS.length} runs`;
  drawTable(rows);
  drawAxes(rows);
  drawCompare();
  drawFigures();
}

function options(select, words, first) {
  if (first) select.append(element("option", first, { value: "" }));
  for (const word of words) select.append(element("option", word));
}
options($("experiment"), unique(RUNS.map((run) => run.experiment)).sort(),
  "all experiments");
options($("metric"), NUMBERS, NUMBERS.length ? "" : "no numbers");
for (const id of ["filter", "experiment", "metric"])
  $(id).addEventListener("input", draw);
draw();
