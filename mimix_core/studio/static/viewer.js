// The opened item: large, with everything known of it, and its neighbours below.

import { get, mediaUrl } from "./api.js";
import { decide, undoOne } from "./decisions.js";
import { $, captionNodes, fill, h, key, toast, toneOf } from "./dom.js";
import { buildEditor } from "./editor.js";
import { thumb } from "./grid.js";
import { Player, preload, RATE } from "./player.js";
import { change } from "./state.js";
import { nameBox } from "./tracks.js";
import { DECIDABLE, format, label, numberLabel, time, titleOf, VERDICTS } from "./words.js";
import { buildView, viewsOf } from "./views.js";

const NEIGHBOURS = 7;
const AHEAD = 2;

export class Viewer {
  constructor(list, actions) {
    this.list = list;
    this.actions = actions;
    this.node = $("#viewer");
    this.index = -1;
    this.entry = null;
    this.chosenView = {};
    this.player = new Player((frame) => this.showFrame(frame));
    this.audio = null;
    this.build();
  }

  get open() { return !this.node.hidden; }

  build() {
    const button = (text, keys, onclick, name = "") =>
      h("button", { type: "button", class: name, onclick }, text, keys && key(keys));
    this.place = h("span", { class: "soft place" });
    this.title = h("h1", { tabindex: "-1" });
    this.tabs = h("div", { class: "views", role: "group", "aria-label": "Views" });
    this.stage = h("div", { class: "stage" });
    this.playButton = h("button", { type: "button", class: "icon", "aria-label": "Play or pause",
      onclick: () => this.player.toggle() }, "▶");
    this.slider = h("input", { type: "range", min: "0", max: "80", value: "0", "aria-label": "Frame",
      oninput: () => this.player.goTo(Number(this.slider.value)) });
    this.frameText = h("span", { class: "soft frame-text" });
    this.speedButton = h("button", { type: "button", class: "icon", "aria-label": "Speed",
      onclick: () => this.cycleSpeed() }, "1×");
    this.soundButton = h("button", { type: "button", class: "icon", "aria-label": "Sound", "aria-pressed": "false",
      onclick: () => this.toggleSound() }, "Sound");
    this.strip = h("div", { class: "strip", "aria-label": "Neighbours", role: "group" });
    this.panel = h("div", { class: "panel" });
    this.buttons = h("div", { class: "actions" },
      button("Approve", "A", () => this.actions.approve(), "approve"),
      button("Reject", "R", () => this.actions.reject(), "reject"),
      button("Edit", "E", () => this.edit(), "edit"),
      button("Undo", "U", () => this.actions.undo(), "undo"));
    fill(this.node,
      h("div", { class: "viewer-head" },
        h("button", { type: "button", class: "back", "aria-label": "Back to the grid",
          onclick: () => change({ item: "" }) }, "←", h("span", { class: "wide" }, " Grid"), key("Esc")),
        this.title, this.place,
        h("div", { class: "steps" },
          h("button", { type: "button", class: "icon", "aria-label": "Previous item", title: "Previous (K)",
            onclick: () => this.step(-1) }, "‹"),
          h("button", { type: "button", class: "icon", "aria-label": "Next item", title: "Next (J)",
            onclick: () => this.step(1) }, "›"))),
      h("div", { class: "viewer-body" },
        h("div", { class: "theatre" }, this.tabs, this.stage,
          h("div", { class: "transport" }, this.playButton, this.slider, this.frameText, this.speedButton, this.soundButton),
          this.strip),
        h("div", { class: "side" }, this.buttons, this.panel)));
  }

  // Show the item at an index of the list.
  async show(index) {
    const wanted = ++this.turn || (this.turn = 1);
    const entry = await this.list.at(index);
    if (!entry || this.turn !== wanted) return;
    this.index = index;
    await this.display(entry, wanted);
    this.drawStrip();
    for (let step = 1; step <= AHEAD; step += 1) this.prefetch(index + step);
    this.prefetch(index - 1);
  }

  // Show an item that is not in the list.
  async showAlone(entry) {
    this.turn = (this.turn ?? 0) + 1;
    this.index = -1;
    await this.display(entry, this.turn);
    fill(this.strip);
  }

  async display(entry, turn) {
    const { item } = entry;
    const wasOpen = this.open;
    this.editing = false;
    this.entry = entry;
    this.details = null;
    this.history = [];
    this.node.hidden = false;
    $("#bar").inert = true;
    $("#body").inert = true;
    document.body.classList.add("viewing");
    this.title.textContent = titleOf(item);
    document.title = `${titleOf(item)} · MiMix Studio`;
    this.place.textContent = this.index < 0 ? "not among the filtered items"
      : `${(this.index + 1).toLocaleString("en")} of ${this.list.total.toLocaleString("en")}`;
    this.buttons.hidden = !DECIDABLE.has(item.kind) && item.kind !== "track";
    for (const name of ["approve", "reject"]) this.buttons.querySelector(`.${name}`).hidden = item.kind === "track";
    this.buttons.querySelector(".edit").hidden = ["cutout", "track"].includes(item.kind);
    this.drawTabs();
    this.drawPanel();
    if (!wasOpen) this.title.focus({ preventScroll: true });
    const quick = this.view() === "Video" && item.kind !== "cutout";
    if (quick) this.drawStage();
    this.loadDetails(entry, turn, quick);
    if (this.editNext) {
      this.editNext = false;
      this.edit();
    }
  }

  async loadDetails(entry, turn, staged) {
    const params = new URLSearchParams({ kind: entry.item.kind, id: entry.item.id });
    const found = await get("item", params).catch((error) => {
      toast(error.message, { kind: "bad" });
      return null;
    });
    if (!found || this.turn !== turn || this.entry !== entry) return;
    this.details = found.details;
    this.history = found.history;
    entry.state = found.state;
    if (!this.editing) this.drawPanel();
    if (!staged) await this.drawStage();
  }

  close() {
    if (!this.open) return;
    this.turn = (this.turn ?? 0) + 1;
    this.player.stop();
    this.stopSound();
    this.node.hidden = true;
    $("#bar").inert = false;
    $("#body").inert = false;
    this.entry = null;
    fill(this.stage);
    document.body.classList.remove("viewing");
    document.title = "MiMix Studio";
  }

  view() {
    const views = viewsOf(this.entry.item);
    const chosen = this.chosenView[this.entry.item.kind];
    return views.includes(chosen) ? chosen : views[0];
  }

  choose(view) {
    this.chosenView[this.entry.item.kind] = view;
    this.drawTabs();
    this.drawStage();
  }

  nextView() {
    const views = viewsOf(this.entry.item);
    this.choose(views[(views.indexOf(this.view()) + 1) % views.length]);
  }

  // Show where a clip is cut from, ready to be moved.
  async moveCrop() {
    if (this.entry?.item.kind !== "clip" || !viewsOf(this.entry.item).includes("Crop")) return;
    this.chosenView.clip = "Crop";
    this.drawTabs();
    await this.drawStage();
    this.stage.querySelector(".mover")?.focus();
  }

  drawTabs() {
    const views = viewsOf(this.entry.item);
    this.tabs.hidden = views.length < 2;
    fill(this.tabs, views.map((view) => h("button", { type: "button",
      "aria-pressed": String(view === this.view()), onclick: () => this.choose(view) }, view)),
    views.length > 1 && key("V"));
  }

  async drawStage() {
    const { entry } = this;
    const { item } = entry;
    this.stopSound();
    const frames = item.frames ?? 81;
    this.slider.max = frames - 1;
    this.player.stop();
    let nodes;
    try {
      nodes = await buildView(this.view(), entry, this.details ?? {}, this.player);
    } catch (error) {
      nodes = [h("p", { class: "empty" }, `This view cannot be shown: ${error.message}`)];
    }
    if (this.entry !== entry) return;
    fill(this.stage, nodes);
    this.stage.dataset.parts = nodes.length;
    this.stage.dataset.item = item.id;
    this.stage.dataset.crop = cropOf(entry);
    const hasVideo = this.player.videos.length > 0;
    this.node.querySelector(".transport").hidden = !hasVideo;
    this.soundButton.hidden = !item.has.includes("audio");
    if (this.soundOn) this.startSound();
    this.showFrame(0);
  }

  showFrame(frame) {
    this.playButton.textContent = this.player.playing ? "❚❚" : "▶";
    this.slider.value = frame;
    this.frameText.textContent = `${frame + 1} / ${this.player.frames} · ${(frame / RATE).toFixed(2)} s`;
    const line = this.spoken?.find((one) => this.now(frame) >= one.start && this.now(frame) < one.end);
    for (const one of this.spoken ?? []) one.node.classList.toggle("now", one === line);
    if (this.audio && Math.abs(this.audio.currentTime - frame / RATE) > 0.2) this.audio.currentTime = frame / RATE;
    if (this.audio && this.audio.paused === this.player.playing) {
      if (this.player.playing) this.audio.play().catch(() => {});
      else this.audio.pause();
    }
  }

  now(frame) { return (1000 * frame) / RATE; }

  cycleSpeed() {
    const speeds = [1, 0.5, 0.25, 2];
    const speed = speeds[(speeds.indexOf(this.player.speed) + 1) % speeds.length];
    this.player.setSpeed(speed);
    this.speedButton.textContent = { 1: "1×", 0.5: "½×", 0.25: "¼×", 2: "2×" }[speed];
  }

  toggleSound() {
    this.soundOn = !this.soundOn;
    this.soundButton.setAttribute("aria-pressed", String(this.soundOn));
    if (this.soundOn) this.startSound();
    else this.stopSound();
  }

  startSound() {
    if (!this.entry?.item.has.includes("audio")) return;
    this.audio = new Audio(mediaUrl("audio", this.entry.item));
    this.audio.loop = true;
  }

  stopSound() {
    this.audio?.pause();
    this.audio = null;
  }

  step(by) {
    if (this.index < 0) return;
    const index = this.index + by;
    const entry = this.list.peek(index);
    if (index < 0 || index >= this.list.total) {
      toast(by > 0 ? "That was the last one." : "That was the first one.");
      return;
    }
    this.pressed = performance.now();
    if (entry) change({ item: entry.item.id }, { replace: true });
    else this.list.at(index).then((found) => found && change({ item: found.item.id }, { replace: true }));
  }

  prefetch(index) {
    const entry = this.list.peek(index);
    if (entry?.item.has.includes("video")) preload(mediaUrl("video", entry.item));
  }

  drawStrip() {
    const around = [];
    for (let index = this.index - NEIGHBOURS; index <= this.index + NEIGHBOURS; index += 1) {
      const entry = this.list.peek(index);
      if (!entry) continue;
      const here = index === this.index;
      const verdict = entry.state?.verdict?.action ?? "";
      const button = h("button", { type: "button", class: `${here ? "here" : ""} ${verdict}`,
        "aria-current": here ? "true" : null, "aria-label": titleOf(entry.item), title: titleOf(entry.item),
        onclick: () => change({ item: entry.item.id }, { replace: true }) }, thumb(entry.item, "small"));
      around.push(button);
    }
    fill(this.strip, around);
    const here = this.strip.querySelector(".here");
    if (here) this.strip.scrollLeft = here.offsetLeft - (this.strip.clientWidth - here.offsetWidth) / 2;
  }

  edit() {
    if (!this.entry || this.editing || this.entry.item.kind === "cutout" || !DECIDABLE.has(this.entry.item.kind)) return;
    const { entry } = this;
    this.editing = true;
    const editor = buildEditor(entry,
      (text) => decide([entry], "edit", { caption: text }),
      () => { this.editing = false; this.drawPanel(); this.title.focus({ preventScroll: true }); });
    this.panel.querySelector(".caption-box").replaceWith(h("div", { class: "caption-box" }, editor.node));
    editor.focus();
  }

  // What was decided has changed.
  async update(states) {
    const own = states.find((one) => this.entry && one.id === this.entry.item.id && one.kind === this.entry.item.kind);
    if (own) {
      const { entry } = this;
      entry.state = own.state;
      const params = new URLSearchParams({ kind: own.kind, id: own.id });
      const found = await get("item", params).catch(() => null);
      if (this.entry !== entry) return;
      if (found) this.history = found.history;
      if (!this.editing) this.drawPanel();
      // Not whenever the server says so again: what is being moved would be lost.
      if (this.view() === "Crop" && this.stage.dataset.crop !== cropOf(entry)) await this.drawStage();
    }
    if (this.open && this.index >= 0) this.drawStrip();
  }

  drawPanel() {
    const { item, state: decided } = this.entry;
    this.spoken = [];
    fill(this.panel,
      decisionBox(item, decided),
      item.kind === "track" && nameBox(this.entry, (name) => this.actions.name(name)),
      h("div", { class: "caption-box" }, captionBox(item, decided)),
      this.dialogueBox(item),
      factsBox(item),
      historyBox(this.history ?? [], item));
    for (const one of this.buttons.children) {
      const action = one.classList[0];
      const on = action === "edit" ? Boolean(decided?.edit)
        : action === (decided?.verdict?.action === "keep" ? "approve" : decided?.verdict?.action);
      if (action !== "undo") one.setAttribute("aria-pressed", String(on));
    }
    const keeps = item.reason === "near_duplicate";
    this.buttons.querySelector(".approve").firstChild.textContent = keeps ? "Use it anyway" : "Approve";
  }

  dialogueBox(item) {
    const lines = this.details?.lines ?? [];
    if (lines.length === 0) return null;
    const rows = lines.map((line) => {
      const node = h("p", null, h("span", { class: "soft" }, `${(line.start_ms / 1000).toFixed(1)} s `), line.text);
      this.spoken.push({ start: line.start_ms, end: line.end_ms, node });
      return node;
    });
    return h("section", { class: "dialogue" }, h("h2", null, `Dialogue · ${item.dialogue_from ?? ""}`), rows);
  }
}

function cropOf(entry) {
  return entry.state?.crop?.id ?? "";
}

function decisionBox(item, decided) {
  const notes = [];
  if (item.status !== "ok") {
    notes.push(h("p", { class: `note ${item.status}` },
      h("strong", null, `${label("stage", item.stage)}: ${label("reason", item.reason)}`),
      item.detail && h("span", null, item.detail)));
  }
  const verdict = decided?.verdict;
  if (verdict) {
    notes.push(h("p", { class: `note by ${verdict.action}` },
      h("strong", null, `${VERDICTS[verdict.action]} by ${verdict.by}`),
      verdict.reason && h("span", null, verdict.reason)));
  }
  if (decided?.crop) {
    notes.push(h("p", { class: "note by" }, h("strong", null, `crop moved by ${decided.crop.by}`),
      h("span", null, "The next run cuts the clip there.")));
  }
  if (decided?.disputed) notes.push(h("p", { class: "note warn" }, "People have decided differently on this one: see below."));
  if (decided?.changed) notes.push(h("p", { class: "note warn" }, "The video is another one than was decided on: look again."));
  return h("div", { class: "notes", role: "status" }, notes);
}

function captionBox(item, decided) {
  if (["scene", "cutout", "track"].includes(item.kind)) return [];
  const edited = decided?.edit;
  const text = edited?.caption || item.caption;
  return [
    h("h2", null, item.kind === "video" ? "Prompt" : "Caption",
      h("span", { class: "soft" }, edited ? ` · edited by ${edited.by}` : item.caption_from ? ` · ${item.caption_from}` : "")),
    h("p", { class: "caption" }, text ? captionNodes(text) : h("span", { class: "soft" }, "none")),
    edited && edited.caption !== item.caption && item.caption
      && h("details", null, h("summary", null, "Before"), h("p", { class: "caption soft" }, captionNodes(item.caption))),
  ];
}

function factsBox(item) {
  const rows = [
    ["Show", label("show", item.show)], ["Episode", item.episode], ["Style", item.style],
    ["Characters", item.characters.map((name) => h("span", { class: `tag tone-${toneOf(name)}` }, name))],
    ["Starts", item.start === undefined ? "" : time(item.start)],
    ["Split", item.split],
    ["Size", item.width ? `${item.width}×${item.height}, ${item.frames} frames` : ""],
    ["Text left", item.text_remains ?? ""],
    ["Locator", item.locator ?? ""], ["Masks by", item.backend ?? ""],
    ["Cut off at", (item.border ?? []).join(", ")],
    ["Cameras", (item.cameras ?? []).join(" on ")],
    ["Category", item.category ?? ""],
    ...Object.entries(item.numbers).map(([name, value]) => [numberLabel(name), format(value)]),
  ].filter(([, value]) => value !== "" && value !== undefined && value !== null && value.length !== 0);
  const link = (kind, id, text) => h("a", { href: `?${new URLSearchParams({ kind, item: id })}` }, text);
  return h("section", { class: "facts" },
    h("dl", null, rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
    h("p", { class: "links" },
      item.kind === "clip" && item.scene && link("scene", item.scene, "Its scene"),
      (item.kind === "cutout" || item.kind === "composite") && item.clip && link("clip", item.clip, "Its clip"),
      item.background && link("clip", item.background, "Its background"),
      item.cutout && link("cutout", item.cutout, "Its mask")),
    h("p", { class: "id" }, h("code", null, item.id)));
}

function historyBox(history, item) {
  if (history.length === 0) return null;
  const ACTIONS = { ...VERDICTS, edit: "edited", crop: "crop moved", name: "named", undo: "taken back" };
  return h("section", { class: "history" }, h("h2", null, "Decisions"),
    h("ol", null, [...history].reverse().map((one) => h("li", { class: one.undone ? "undone" : "" },
      h("span", null, `${one.reviewer}: ${ACTIONS[one.action]}`, one.reason || one.character ? ` (${one.reason || one.character})` : ""),
      h("time", { datetime: one.decided_at, class: "soft" }, new Date(one.decided_at).toLocaleString()),
      one.action !== "undo" && !one.undone
        && h("button", { type: "button", class: "link", onclick: () => undoOne(one.decision_id) }, "Take back")))));
}

