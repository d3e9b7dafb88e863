// The rail of filters: counts of every value among what the other filters let pass.

import { get } from "./api.js";
import { $, fill, h, toneOf } from "./dom.js";
import { change, isFiltered, project, queryParams, state, toggleValue } from "./state.js";
import { DECIDABLE, FACETS, format, label, numberLabel } from "./words.js";

const SHOWN = 8;
const expanded = new Set();
let counts = {};
let aborter = new AbortController();

export async function refreshFilters() {
  aborter.abort();
  aborter = new AbortController();
  try {
    counts = await get("facets", queryParams(), aborter.signal);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return;
  }
  drawFilters();
}

// The characters with the numbers of their keys, in the order of the rail.
export function characterKeys() {
  const names = Object.values(project.casts ?? {}).flatMap((cast) => cast.roster);
  return names.slice(0, 9);
}

function drawFilters() {
  const focused = document.activeElement?.dataset?.filter;
  fill($("#filters"),
    h("div", { class: "rail-head" },
      h("h2", null, "Filters"),
      h("button", { type: "button", class: "link", disabled: !isFiltered(),
        onclick: () => change({ values: {}, ranges: {}, q: "" }) }, "Clear"),
      h("button", { type: "button", class: "link only-phone", onclick: () => showRail(false) }, "Done")),
    Object.keys(FACETS).map(group),
    numbers());
  if (focused) {
    const again = [...document.querySelectorAll("[data-filter]")].find((one) => one.dataset.filter === focused);
    again?.focus({ preventScroll: true });
  }
}

export function showRail(open) {
  document.body.classList.toggle("rail-open", open);
  if (open) $("#filters input, #filters button")?.focus();
}

function group(facet) {
  if (facet === "decision" && !DECIDABLE.has(state.kind)) return null;
  const chosen = state.values[facet] ?? [];
  const found = { ...counts[facet] };
  for (const value of chosen) found[value] ??= 0;
  const keys = characterKeys();
  const names = Object.keys(found);
  if (facet === "character") names.sort((a, b) => order(keys, a) - order(keys, b));
  else if (facet !== "decision") names.sort((a, b) => found[b] - found[a]);
  if (names.length === 0 || (names.length === 1 && chosen.length === 0 && !["decision", "review"].includes(facet))) return null;
  const all = expanded.has(facet) || names.length <= SHOWN + 1;
  const shown = all ? names : names.filter((name, index) => index < SHOWN || chosen.includes(name));
  return h("fieldset", null,
    h("legend", null, FACETS[facet]),
    shown.map((name) => choice(facet, name, found[name], chosen.includes(name), keys)),
    !all && h("button", { type: "button", class: "link", onclick: () => { expanded.add(facet); drawFilters(); } },
      `${names.length - shown.length} more`));
}

function order(keys, name) {
  const index = keys.indexOf(name);
  return index < 0 ? 99 : index;
}

function choice(facet, name, count, checked, keys) {
  const digit = facet === "character" ? keys.indexOf(name) + 1 : 0;
  const input = h("input", { type: "checkbox", "data-filter": `${facet}\n${name}`,
    onchange: () => toggleValue(facet, name) });
  input.checked = checked;
  return h("label", { class: checked ? "chosen" : "" },
    input,
    h("span", { class: facet === "character" ? `name tone-${toneOf(name)}` : "name" }, label(facet, name)),
    digit > 0 && h("kbd", { "aria-hidden": "true" }, digit),
    h("span", { class: "count" }, count.toLocaleString("en")));
}

function numbers() {
  const ranges = Object.entries(project.numbers?.[state.kind] ?? {}).filter(([, [low, high]]) => low < high);
  if (ranges.length === 0) return null;
  return h("fieldset", { class: "numbers" },
    h("legend", null, "Measures"),
    ranges.map(([name, [low, high]]) => h("div", { class: "range" },
      h("span", null, numberLabel(name)),
      bound(`min_${name}`, `Least ${numberLabel(name)}`, low),
      h("span", { "aria-hidden": "true" }, "–"),
      bound(`max_${name}`, `Most ${numberLabel(name)}`, high))));
}

function bound(name, title, hint) {
  const input = h("input", { type: "text", inputmode: "decimal", "aria-label": title, placeholder: format(hint),
    "data-filter": name,
    onchange: () => {
      const ranges = { ...state.ranges };
      const text = input.value.trim().replace(",", ".");
      if (text === "" || !Number.isFinite(Number(text))) delete ranges[name];
      else ranges[name] = text;
      change({ ranges }, { replace: true });
    } });
  input.value = state.ranges[name] ?? "";
  return input;
}
