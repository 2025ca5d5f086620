// Two chosen runs side by side; part of the script that collect.js begins.
function paired(a, b) {
  // The mean difference over the seeds that both have, with its 95 % interval.
  const seeds = Object.keys(a).filter((seed) => seed in b);
  const gaps = seeds.map((seed) => b[seed] - a[seed]);
  const n = gaps.length;
  if (!n) return null;
  const average = gaps.reduce((s, g) => s + g, 0) / n;
  if (n < 2 || n > DATA.quantiles.length)
    return { mean: average, low: null, high: null, n };
  const spread = gaps.reduce((s, g) => s + (g - average) ** 2, 0) / (n - 1);
  const half = DATA.quantiles[n - 2] * Math.sqrt(spread / n);
  return { mean: average, low: average - half, high: average + half, n };
}

function grid(title, heads, rows) {
  const part = element("div", null);
  part.append(element("h2", title));
  const table = element("table", null);
  const head = element("tr", null);
  for (const name of heads) head.append(element("th", name));
  table.append(element("thead", null));
  table.tHead.append(head);
  const body = element("tbody", null);
  for (const row of rows) {
    const tr = element("tr", null);
    for (const value of row) tr.append(element("td", text(value)));
    body.append(tr);
  }
  table.append(body);
  part.append(table);
  return part;
}

function drawCompare() {
  if (state.chosen.length < 2) {
    $("compare").replaceChildren(
      element("p", "Choose two rows of the table.", { class: "soft" }));
    return;
  }
  const [a, b] = state.chosen;
  const settings = unique([...Object.keys(a.settings),
    ...Object.keys(b.settings)]).filter((name) =>
    text(a.settings[name]) !== text(b.settings[name]));
  const numbers = unique([...Object.keys(a.numbers),
    ...Object.keys(b.numbers)]);
  const seeds = Object.keys(a.seeds).filter((name) => name in b.seeds);
  const gaps = seeds.map((name) => [name, paired(a.seeds[name], b.seeds[name])])
    .filter(([, gap]) => gap);
  $("compare").replaceChildren(
    element("p", `First: ${a.run}. Second: ${b.run}.`),
    grid("Settings that differ", ["", "first", "second"],
      settings.map((n) => [n, a.settings[n], b.settings[n]])),
    grid("Numbers", ["", "first", "second"],
      numbers.map((n) => [n, a.numbers[n], b.numbers[n]])),
    grid("Second minus first, over the seeds of both",
      ["", "difference", "seeds"],
      gaps.map(([name, gap]) => [name, gap, gap.n])));
}

function drawFigures() {
  const made = state.chosen.flatMap((run) =>
    Object.entries(run.figures).map(([name, source]) => {
      const figure = element("figure", null);
      figure.append(element("img", null, { src: source, alt: name }),
        element("figcaption", `${run.run}: ${name}`));
      return figure;
    }));
  $("figures").replaceChildren(...made);
}
