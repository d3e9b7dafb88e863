// What is shown: kind, filters, order and the opened item. All of it is in the address.

const LISTS = ["decision", "review", "status", "stage", "reason", "show", "episode", "character", "split", "style"];

const listeners = new Set();

export const state = { kind: "clip", values: {}, ranges: {}, q: "", sort: "library", desc: false, item: "" };

export let project = {};

export function setProject(found) {
  project = found;
}

export function onChange(listener) {
  listeners.add(listener);
}

// What a tab shows first: what passed. What did not is one click away, and counted.
export function firstValues(kind) {
  return ["clip", "cutout", "composite"].includes(kind) ? { status: ["ok"] } : {};
}

export function readAddress() {
  if (location.search === "") {
    const kind = Object.keys(project.counts ?? {})[0] ?? "clip";
    const params = new URLSearchParams({ kind, ...firstValues(kind) });
    history.replaceState(null, "", `?${params}`);
  }
  const params = new URLSearchParams(location.search);
  state.kind = params.get("kind") ?? Object.keys(project.counts ?? {})[0] ?? "clip";
  state.values = {};
  for (const name of LISTS) {
    if (params.has(name)) state.values[name] = params.getAll(name);
  }
  state.ranges = {};
  for (const [name, value] of params) {
    if (name.startsWith("min_") || name.startsWith("max_")) state.ranges[name] = value;
  }
  state.q = params.get("q") ?? "";
  state.sort = params.get("sort") ?? "library";
  state.desc = params.has("desc");
  state.item = params.get("item") ?? "";
}

export function queryParams() {
  const params = new URLSearchParams({ kind: state.kind });
  for (const name of LISTS) {
    for (const value of state.values[name] ?? []) params.append(name, value);
  }
  for (const [name, value] of Object.entries(state.ranges)) params.set(name, value);
  if (state.q) params.set("q", state.q);
  if (state.sort !== "library") params.set("sort", state.sort);
  if (state.desc) params.set("desc", "1");
  return params;
}

function address() {
  const params = queryParams();
  if (state.item) params.set("item", state.item);
  return `?${params}`;
}

// Change what is shown. `replace`: without a new entry in the history of the browser.
export function change(patch, { replace = false } = {}) {
  const before = String(queryParams());
  Object.assign(state, patch);
  const where = address();
  if (where !== location.search) history[replace ? "replaceState" : "pushState"](null, "", where);
  notify(before !== String(queryParams()));
}

export function notify(queryChanged) {
  for (const listener of listeners) listener(queryChanged);
}

export function toggleValue(facet, value) {
  const chosen = new Set(state.values[facet] ?? []);
  if (!chosen.delete(value)) chosen.add(value);
  const values = { ...state.values, [facet]: [...chosen] };
  if (chosen.size === 0) delete values[facet];
  change({ values }, { replace: true });
}

export function isFiltered() {
  return Object.keys(state.values).length + Object.keys(state.ranges).length > 0 || state.q !== "";
}

window.addEventListener("popstate", () => {
  readAddress();
  notify(true);
});
