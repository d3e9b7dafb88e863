// Who is best by a measured score, with intervals: so that noise is not taken for a difference.

import { fill, h, svg } from "./dom.js";

export function number(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 4).replace("-", "−");
}

export function measureLabel(name) {
  return name.replaceAll("_", " ").replace("/", " · ");
}

export function standing(ranking, column) {
  const place = ranking.columns.findIndex((one) => one.column === column);
  if (place < 0) return "";
  if (place === 0) return "best";
  const { within_noise: noise } = ranking.columns[place];
  if (noise === null) return "";
  return noise ? "within noise" : "worse";
}

function interval(one) {
  return one.low === null ? "no interval" : `${number(one.low)} to ${number(one.high)}`;
}

// One sentence that a person can act on.
export function verdict(ranking, columns) {
  const [best, ...others] = ranking.columns;
  const close = others.filter((one) => one.within_noise).map((one) => columns[one.column].title);
  const unknown = others.filter((one) => one.within_noise === null).length;
  const name = columns[best.column].title;
  const head = `${name} is best by ${measureLabel(ranking.measure)}: ${number(best.value)} (${interval(best)}).`;
  if (others.length === 0) return head;
  if (close.length > 0) return `${head} Within noise of it: ${close.join(", ")}.`;
  if (unknown > 0) return `${head} Whether the others are within noise is not known.`;
  return `${head} No other is within noise of it.`;
}

function bar(ranking, one) {
  const values = ranking.columns.flatMap((other) => [other.low ?? other.value, other.high ?? other.value]);
  const low = Math.min(...values);
  const span = Math.max(...values) - low || 1;
  const x = (value) => 4 + 192 * (value - low) / span;
  return svg("svg", { viewBox: "0 0 200 16", class: "interval", "aria-hidden": "true", preserveAspectRatio: "none" },
    one.low !== null && svg("line", { x1: x(one.low), x2: x(one.high), y1: 8, y2: 8 }),
    svg("circle", { cx: x(one.value), cy: 8, r: 4 }));
}

export function drawRanking(node, wall, chosen, { onmeasure, oncolumn }) {
  const ranking = wall.rankings.find((one) => one.measure === chosen) ?? wall.rankings[0];
  node.hidden = !ranking;
  if (!ranking) return null;
  const select = h("select", { "aria-label": "Measure", onchange: () => onmeasure(select.value) },
    wall.rankings.map((one) => h("option", { value: one.measure, selected: one === ranking }, measureLabel(one.measure))));
  fill(node,
    h("div", { class: "ranking-head" }, h("h2", null, "Best by"), select,
      h("span", { class: "soft" }, ranking.higher_is_better ? "more is better" : "less is better")),
    h("p", { class: "verdict" }, verdict(ranking, wall.columns)),
    h("table", null,
      h("thead", { class: "sr" }, h("tr", null,
        ["Name", "Value", "Interval", "Picture of the interval", "Against the best"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", null, ranking.columns.map((one) => {
        const found = standing(ranking, one.column);
        return h("tr", { class: found.replace(" ", "-") },
          h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: () => oncolumn(one.column) },
            wall.columns[one.column].title)),
          h("td", null, number(one.value)),
          h("td", { class: "soft wide" }, interval(one)),
          h("td", { class: "graph" }, bar(ranking, one)),
          h("td", null, h("span", { class: "standing" }, found || "not known")));
      }))),
    h("details", null, h("summary", null, "What the intervals mean"), h("p", null, ranking.explanation)));
  return ranking;
}
