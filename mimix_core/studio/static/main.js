// Put the page together: head, keyboard, and what follows from the address.

import { get } from "./api.js";
import { askReason, decide, onDecided, reviewer, undo } from "./decisions.js";
import { $, fill, h, key, setCast, toast } from "./dom.js";
import { characterKeys, refreshFilters, showRail } from "./filters.js";
import { Grid, openFocused, Selection } from "./grid.js";
import { ItemList } from "./list.js";
import { pageLinks } from "./pages.js";
import { change, firstValues, onChange, project, queryParams, readAddress, setProject, state, toggleValue } from "./state.js";
import { nameOfKey, nameTracks, NOBODY } from "./tracks.js";
import { Viewer } from "./viewer.js";
import { DECIDABLE, KINDS, NUMBERS, numberLabel } from "./words.js";

const POLL = 4000;

const list = new ItemList();
const selection = new Selection(() => { drawHead(); grid.mark(); });
const grid = new Grid(list, selection);
let viewer;
let version = 0;
let following = Promise.resolve();

function drawLoaded() {
  grid.draw();
  drawHead();
  // Read by perf/studio.py.
  if (performance.getEntriesByName("first-items").length === 0) performance.mark("first-items");
}

async function start() {
  const described = get("project");
  if (location.search) {
    readAddress();
    list.begin();
  }
  setProject(await described);
  list.onload = drawLoaded;
  setCast(Object.values(project.casts).flatMap((cast) => cast.roster));
  version = project.version;
  viewer = new Viewer(list, { approve, reject, undo: takeBack, name: nameThem });
  readAddress();
  onChange((queryChanged) => { following = follow(queryChanged); });
  onDecided((states) => { list.update(states); grid.draw(); viewer.update(states); drawHead(); facetsSoon(); });
  drawBar();
  await follow(true);
  document.addEventListener("keydown", press);
  // After a click keys are about the item again, not about the button.
  document.addEventListener("click", (event) => {
    if (event.detail > 0 && !event.target.closest("dialog, .editor")) event.target.closest("button")?.blur();
  });
  poll();
  document.body.classList.add("ready");
}

// Show what the address says.
async function follow(queryChanged) {
  if (queryChanged) {
    drawBar();
    selection.clear();
    refreshFilters().catch(() => {});
    try {
      const index = state.item ? await place() : 0;
      await list.reset(Math.max(0, index));
    } catch (error) {
      if (error.name === "AbortError") return;
      toast(`The items cannot be loaded: ${error.message}`, { kind: "bad" });
      return;
    }
    grid.reset();
    drawLoaded();
  }
  drawHead();
  if (!state.item) {
    const last = viewer.index;
    const wasOpen = viewer.open;
    viewer.close();
    if (wasOpen) {
      if (last >= 0) grid.moveTo(last);
      grid.redraw();
      grid.node.focus({ preventScroll: true });
    }
  } else if (viewer.entry?.item.id !== state.item || viewer.entry?.item.kind !== state.kind) {
    await openItem();
  }
}

async function place() {
  const params = queryParams();
  params.set("id", state.item);
  return get("place", params);
}

async function openItem() {
  let index = [-1, 0, 1].map((by) => viewer.index + by).concat(grid.focus)
    .find((one) => one >= 0 && list.peek(one)?.item.id === state.item);
  if (index === undefined) index = await place();
  if (index >= 0) {
    grid.focus = index;
    await viewer.show(index);
    return;
  }
  const params = new URLSearchParams({ kind: state.kind, id: state.item });
  const found = await get("item", params).catch(() => null);
  if (found) await viewer.showAlone(found);
  else {
    toast("This item does not exist (any more).", { kind: "bad" });
    change({ item: "" }, { replace: true });
  }
}

function current() {
  if (viewer.open) return viewer.entry;
  return list.peek(grid.focus);
}

function isDecidable(kind) {
  return DECIDABLE.has(kind) || kind === "track";
}

// What a decision is about: the opened item, else the selection, else the focused one.
async function targets() {
  if (viewer.open || selection.size === 0) {
    const entry = current();
    return entry && isDecidable(entry.item.kind) ? [entry] : [];
  }
  const loaded = new Map();
  for (const promise of list.pages.values()) {
    for (const entry of promise.items ?? []) loaded.set(entry.item.id, entry);
  }
  const unknown = (id) => ({ item: { kind: state.kind, id, caption: "" }, state: null });
  return isDecidable(state.kind) ? [...selection.ids].map((id) => loaded.get(id) ?? unknown(id)) : [];
}

async function settle(entries, action, more) {
  if (entries.length === 0) {
    toast("There is nothing to decide on here.");
    return;
  }
  const bulk = !viewer.open && selection.size > 0;
  const saved = action === "name" ? await nameTracks(entries, more.character) : await decide(entries, action, more);
  if (!saved) return;
  if (bulk) selection.clear();
  else if (viewer.open && localStorage.getItem("mimix-stay") !== "yes") {
    if (viewer.index >= 0 && viewer.index + 1 < list.total) viewer.step(1);
  } else if (!viewer.open) grid.moveTo(grid.focus + 1);
}

// One after the other: a key that is pressed while the last decision is being saved, or while
// another item is being opened, is about the item that opens then.
let last = Promise.resolve();
let waiting = 0;
function inTurn(work) {
  waiting += 1;
  last = last.then(() => following).then(work).then(() => following)
    .catch((error) => toast(error.message, { kind: "bad" })).finally(() => { waiting -= 1; });
  return last;
}

function approve() {
  return inTurn(async () => judge("approve"));
}

// Tracks are named, not approved or rejected.
async function judge(action, more) {
  if (state.kind === "track") toast("Say whom it shows: a digit, 0 for none of the cast.");
  else await settle(await targets(), action, more);
}

function nameThem(character) {
  return inTurn(async () => settle(await targets(), "name", { character }));
}

// Whether a digit names the opened track, or the selected ones.
function nameByKey(digit) {
  if (state.kind !== "track" || (!viewer.open && selection.size === 0)) return false;
  const about = viewer.open ? viewer.entry : current();
  const name = about && nameOfKey(about.item, digit);
  if (name === undefined || name === null) return false;
  nameThem(name);
  return true;
}

function reject() {
  return inTurn(async () => {
    const entries = await targets();
    if (entries.length === 0 || state.kind === "track") return judge("reject");
    const reason = await askReason(entries[0].item.kind, entries.length);
    return reason === null ? undefined : settle(entries, "reject", { reason });
  });
}

function takeBack() {
  return inTurn(async () => {
    const about = await undo();
    if (about && viewer.open && about.kind === state.kind) change({ item: about.item }, { replace: true });
  });
}

let facetTimer = 0;
function facetsSoon() {
  clearTimeout(facetTimer);
  facetTimer = setTimeout(() => { if (!viewer.open) refreshFilters().catch(() => {}); }, 400);
}

function drawBar() {
  const kinds = Object.keys(KINDS).filter((kind) => project.counts[kind]);
  const search = h("input", { type: "search", placeholder: "Search captions and dialogue", "aria-label": "Search captions and dialogue",
    id: "search", oninput: () => searchSoon(search.value) });
  const old = $("#search");
  if (old && old === document.activeElement) {
    for (const tab of document.querySelectorAll("#bar nav a")) {
      if (tab.dataset.kind === state.kind) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    return;
  }
  search.value = state.q;
  fill($("#bar"),
    h("a", { class: "brand", href: "/", "aria-label": `${project.title}: all clips`, onclick: (event) => { event.preventDefault(); goKind("clip"); } },
      h("span", { class: "dots", "aria-hidden": "true" }), h("span", { class: "wide" }, project.title)),
    h("nav", { "aria-label": "Kinds of items" }, kinds.map((kind) => h("a", {
      href: `?kind=${kind}`, "data-kind": kind, "aria-current": kind === state.kind ? "page" : null,
      onclick: (event) => { event.preventDefault(); goKind(kind); } },
    KINDS[kind], h("span", { class: "count" }, project.counts[kind].toLocaleString("en"))))),
    pageLinks("/"),
    h("div", { class: "search" }, search, key("/")),
    h("button", { type: "button", class: "who", title: "Who decides", onclick: askName }, reviewer() || project.reviewer),
    h("button", { type: "button", class: "icon", "aria-label": "Keys and help", onclick: help }, "?"));
}

function goKind(kind) {
  change({ kind, values: firstValues(kind), ranges: {}, sort: "library", desc: false, item: "" });
}

let searchTimer = 0;
function searchSoon(text) {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(() => change({ q: text.trim(), item: "" }, { replace: true }), 120);
}

function drawHead() {
  const orders = { library: "Library order", random: "Random order", decided: "Last decided" };
  for (const name of Object.keys(project.numbers?.[state.kind] ?? {})) orders[name] = numberLabel(name);
  const sort = h("select", { "aria-label": "Order", id: "sort",
    onchange: () => change({ sort: sort.value, desc: sort.value === "decided" || sort.value in NUMBERS }, { replace: true }) },
  Object.entries(orders).map(([value, text]) => h("option", { value, selected: value === state.sort }, text)));
  const total = `${list.total.toLocaleString("en")} ${list.total === 1 ? "item" : "items"}`;
  fill($("#head"),
    h("button", { type: "button", class: "only-phone", onclick: () => showRail(true) }, "Filters"),
    selection.size > 0
      ? h("div", { class: "selected" },
        h("strong", null, `${selection.size.toLocaleString("en")} selected`),
        DECIDABLE.has(state.kind) && [
          h("button", { type: "button", class: "approve", onclick: approve }, "Approve", key("A")),
          h("button", { type: "button", class: "reject", onclick: reject }, "Reject", key("R"))],
        selection.size < list.total
          && h("button", { type: "button", class: "link", onclick: selectAll }, `Select all ${list.total.toLocaleString("en")}`),
        h("button", { type: "button", class: "link", onclick: () => selection.clear() }, "Clear", key("Esc")))
      : h("p", { class: "total", role: "status" }, list.loaded ? total : "Loading"),
    h("div", { class: "order" }, sort,
      h("button", { type: "button", class: "icon", "aria-label": "Reverse the order", "aria-pressed": String(state.desc),
        onclick: () => change({ desc: !state.desc }, { replace: true }) }, state.desc ? "↓" : "↑")));
}

async function selectAll() {
  selection.add(...await get("ids", queryParams()));
}

function askName() {
  const input = h("input", { type: "text", maxlength: "80", "aria-label": "Your name" });
  input.value = reviewer() || project.reviewer;
  const stay = h("input", { type: "checkbox" });
  stay.checked = localStorage.getItem("mimix-stay") !== "yes";
  const dialog = popup("You", h("form", { method: "dialog", onsubmit: () => {
    localStorage.setItem("mimix-reviewer", input.value.trim());
    localStorage.setItem("mimix-stay", stay.checked ? "no" : "yes");
    drawBar();
  } },
  h("label", null, "Your name is saved with each of your decisions.", input),
  h("label", { class: "check" }, stay, "Go on to the next item after a decision"),
  h("p", null, h("a", { href: "/api/decisions.jsonl", download: "decisions.jsonl" }, "Download all decisions")),
  h("button", { type: "submit", class: "approve" }, "Save")));
  input.select();
  return dialog;
}

function popup(title, ...content) {
  const dialog = h("dialog", { "aria-label": title }, h("h2", null, title), ...content);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const KEYS = [
  ["Enter", "open the focused item"], ["Esc", "back to the grid, clear the selection"],
  ["J K", "next, previous"], ["← → ↑ ↓", "move in the grid; frame by frame in an opened item"],
  ["Space", "play and pause"], ["V", "next view: outline, cut out, wipe, crop"], ["M", "move the crop of a clip: arrows, Shift for small steps"],
  ["A", "approve; use a duplicate anyway"], ["R", "reject, then a digit for the reason"],
  ["E", "edit the caption"], ["U", "undo your last decision"],
  ["0 – 9", "name an opened track, or the selected ones: 0 for none of the cast"],
  ["X", "select; Shift+click selects a range"], ["1 – 9", "only items with this character"],
  ["/", "search"], ["S", "sound"], ["?", "this help"],
];

function help() {
  popup("Keys", h("dl", { class: "keys" }, KEYS.map(([keys, text]) =>
    h("div", null, h("dt", null, keys.split(" ").map((one) => h("kbd", null, one))), h("dd", null, text)))),
  h("form", { method: "dialog" }, h("button", { type: "submit" }, "Close")));
}

function press(event) {
  const typing = event.target.matches?.("input:not([type=checkbox], [type=range]), textarea, select");
  if (typing && ["Escape", "Enter"].includes(event.key)) {
    event.target.blur();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = ACTIONS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  // Space and Enter press a focused button; arrows move a focused slider.
  const pressing = event.target.matches?.("button, a, summary, input") && [" ", "Enter"].includes(event.key);
  const sliding = event.target.matches?.("input[type=range]") && event.key.startsWith("Arrow");
  if (!act || pressing || sliding) return;
  if (act(event) !== false) event.preventDefault();
}

function moveBy(columns, rows) {
  if (viewer.open) {
    if (rows !== 0) return false;
    viewer.player.goTo(viewer.player.frame + columns);
  } else grid.moveTo(grid.focus + columns + rows * grid.columns);
  return true;
}

function step(by) {
  // An undo that is being saved goes to its item first; otherwise holding a key must not queue steps.
  if (viewer.open && waiting > 0) inTurn(async () => viewer.step(by));
  else if (viewer.open) viewer.step(by);
  else grid.moveTo(grid.focus + by);
}

const ACTIONS = {
  j: () => step(1),
  k: () => step(-1),
  ArrowRight: () => moveBy(1, 0),
  ArrowLeft: () => moveBy(-1, 0),
  ArrowDown: () => moveBy(0, 1),
  ArrowUp: () => moveBy(0, -1),
  PageDown: () => (viewer.open ? false : moveBy(0, 3)),
  PageUp: () => (viewer.open ? false : moveBy(0, -3)),
  Home: () => (viewer.open ? viewer.player.goTo(0) : grid.moveTo(0)),
  End: () => (viewer.open ? viewer.player.goTo(viewer.player.frames - 1) : grid.moveTo(list.total - 1)),
  " ": () => (viewer.open ? viewer.player.toggle() : openFocused(grid)),
  Enter: () => (viewer.open ? false : openFocused(grid)),
  Escape: () => { if (viewer.open) change({ item: "" }); else selection.clear(); },
  a: () => { approve(); },
  r: () => { reject(); },
  e: () => {
    if (viewer.open) inTurn(async () => viewer.edit());
    else {
      viewer.editNext = true;
      openFocused(grid);
    }
  },
  u: () => { takeBack(); },
  m: () => { if (viewer.open) viewer.moveCrop(); },
  v: () => (viewer.open ? viewer.nextView() : false),
  s: () => (viewer.open ? viewer.toggleSound() : false),
  x: () => { const entry = current(); if (entry && !viewer.open) selection.toggle(entry.item.id); },
  "/": () => {
    if (viewer.open) return false;
    $("#search").focus();
    $("#search").select();
    return true;
  },
  "?": () => help(),
};
for (let digit = 1; digit <= 9; digit += 1) {
  ACTIONS[digit] = () => {
    if (nameByKey(String(digit))) return true;
    const name = characterKeys()[digit - 1];
    if (!name || viewer.open) return false;
    toggleValue("character", name);
    return true;
  };
}

ACTIONS[NOBODY] = () => nameByKey(NOBODY);

// Take over what others decide, and say when a run has made new results.
async function poll() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL));
    if (document.hidden) continue;
    try {
      const found = await get("changes", new URLSearchParams({ since: version }));
      if (found.version < version) version = 0;
      else version = found.version;
      if (found.states.length > 0) {
        list.update(found.states);
        if (viewer.open) viewer.update(found.states);
        else grid.draw();
      }
      document.body.classList.remove("offline");
      if (found.index !== project.index) await newResults();
    } catch (error) {
      document.body.classList.toggle("offline", !(error instanceof SyntaxError));
    }
  }
}

async function newResults() {
  setProject(await get("project"));
  toast("A run has made new results.", { action: "Show", onaction: () => {
    drawBar();
    follow(true);
  } });
}

start().catch((error) => {
  fill($("#main"), h("p", { class: "empty" }, `The studio does not start: ${error.message}`));
});
