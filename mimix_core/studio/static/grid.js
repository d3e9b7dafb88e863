// The wall of thumbnails: only what is on the screen exists.

import { loadPreview, isLoaded, mediaUrl, previewUrl } from "./api.js";
import { $, captionNodes, fill, h } from "./dom.js";
import { change, isFiltered, project } from "./state.js";
import { trackThumb } from "./tracks.js";
import { DECIDABLE, label, titleOf, VERDICTS, verdictOf } from "./words.js";

const GAP = 10;
const TEXT_HEIGHT = 56;

export class Grid {
  constructor(list, selection) {
    this.list = list;
    this.selection = selection;
    this.focus = 0;
    this.cells = new Map();
    this.node = $("#grid");
    this.scroller = $("#scroller");
    this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    this.node.addEventListener("click", (event) => this.click(event));
    this.node.addEventListener("pointermove", (event) => this.scrub(event));
    this.node.addEventListener("pointerleave", () => this.scrub(null));
  }

  layout() {
    const style = getComputedStyle(this.scroller);
    const width = this.scroller.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const least = width < 560 ? 150 : 208;
    this.columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    this.width = (width - GAP * (this.columns - 1)) / this.columns;
    this.height = Math.round(this.width * 9 / 16) + TEXT_HEIGHT;
    this.rows = Math.ceil(this.list.total / this.columns);
  }

  reset() {
    this.focus = 0;
    this.scroller.scrollTop = 0;
    this.redraw();
  }

  redraw() {
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
    this.draw();
  }

  draw() {
    if (!project.counts) return;
    this.layout();
    const empty = this.list.loaded && this.list.total === 0;
    $("#empty")?.remove();
    if (empty) this.scroller.append(this.nothing());
    this.node.hidden = empty;
    this.node.style.height = `${Math.max(0, this.rows * (this.height + GAP) - GAP)}px`;
    const pitch = this.height + GAP;
    const top = this.scroller.scrollTop;
    const first = Math.max(0, Math.floor(top / pitch) - 1) * this.columns;
    const last = Math.min(
      this.list.total,
      (Math.ceil((top + this.scroller.clientHeight) / pitch) + 1) * this.columns,
    );
    for (const [index, cell] of this.cells) {
      if (index < first || index >= last) {
        cell.remove();
        this.cells.delete(index);
      }
    }
    for (let index = first; index < last; index += 1) this.place(index);
    this.mark();
  }

  nothing() {
    const text = isFiltered() ? "Nothing fits these filters." : "Nothing here yet: run the stages that make it.";
    return h("div", { id: "empty", class: "empty" }, h("p", null, text),
      isFiltered() && h("button", { type: "button",
        onclick: () => change({ values: {}, ranges: {}, q: "" }) }, "Clear all filters"));
  }

  place(index) {
    let cell = this.cells.get(index);
    const entry = this.list.peek(index);
    if (!cell) {
      cell = h("div", { class: "cell", role: "option", id: `cell-${index}`, "data-index": index });
      this.cells.set(index, cell);
      this.node.append(cell);
    }
    const row = Math.floor(index / this.columns);
    const column = index % this.columns;
    cell.style.setProperty("width", `${this.width}px`);
    cell.style.setProperty("height", `${this.height}px`);
    cell.style.setProperty("transform",
      `translate(${column * (this.width + GAP)}px, ${row * (this.height + GAP)}px)`);
    cell.setAttribute("aria-setsize", this.list.total);
    cell.setAttribute("aria-posinset", index + 1);
    const known = entry ? `${entry.item.kind}\n${entry.item.id}\n${JSON.stringify(entry.state)}` : "";
    if (cell.known !== known) {
      cell.known = known;
      fill(cell, ...(entry ? cellContent(entry) : [h("div", { class: "thumb" })]));
      cell.setAttribute("aria-label", entry ? describe(entry) : "loading");
    }
  }

  // Selection and focus, without touching anything else.
  mark() {
    for (const [index, cell] of this.cells) {
      const entry = this.list.peek(index);
      const selected = entry !== null && this.selection.has(entry.item.id);
      cell.setAttribute("aria-selected", String(selected));
      cell.classList.toggle("focused", index === this.focus);
    }
    const active = this.cells.get(this.focus);
    if (active) this.node.setAttribute("aria-activedescendant", active.id);
    else this.node.removeAttribute("aria-activedescendant");
  }

  moveTo(index) {
    this.focus = Math.max(0, Math.min(this.list.total - 1, index));
    this.layout();
    const pitch = this.height + GAP;
    const top = Math.floor(this.focus / this.columns) * pitch;
    const view = this.scroller;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + pitch > view.scrollTop + view.clientHeight) {
      view.scrollTop = top + pitch - view.clientHeight + GAP;
    }
    this.draw();
  }

  click(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const index = Number(cell.dataset.index);
    const entry = this.list.peek(index);
    if (!entry) return;
    const before = this.focus;
    this.focus = index;
    if (event.shiftKey) this.selectRange(before, index);
    else if (event.ctrlKey || event.metaKey || event.target.closest(".pick")) {
      this.selection.toggle(entry.item.id);
    } else change({ item: entry.item.id });
    this.mark();
  }

  async selectRange(from, to) {
    const [low, high] = from < to ? [from, to] : [to, from];
    for (let index = low; index <= high; index += 1) {
      const entry = await this.list.at(index);
      if (entry) this.selection.add(entry.item.id);
    }
  }

  scrub(event) {
    const thumb = event?.target.closest?.(".thumb");
    if (this.scrubbed && this.scrubbed !== thumb) showTile(this.scrubbed, MIDDLE());
    this.scrubbed = thumb;
    if (!thumb) return;
    const box = thumb.getBoundingClientRect();
    const share = Math.min(0.999, Math.max(0, (event.clientX - box.left) / box.width));
    showTile(thumb, Math.floor(share * project.sprite_frames));
  }
}

const MIDDLE = () => Math.floor(project.sprite_frames / 2);

export function showTile(node, tile) {
  node.style.setProperty("background-position-x", `${(tile / (project.sprite_frames - 1)) * 100}%`);
}

// An element with one tile of the sprite of an item's video.
export function thumb(item, extra = "") {
  const node = h("div", { class: `thumb ${extra}` });
  if (item.kind === "scene" && item.has.includes("frame")) {
    node.style.setProperty("background-image", `url("${mediaUrl("frame", { ...item, digest: item.id })}")`);
    node.style.setProperty("background-size", "cover");
    return node;
  }
  if (item.kind === "track") {
    node.style.setProperty("background-image", `url("${trackThumb(item)}")`);
    node.classList.add("whole");
    return node;
  }
  if (!item.has.includes("video")) {
    node.classList.add("blank");
    node.append(h("span", null, "no video"));
    return node;
  }
  const url = previewUrl("sprite", item);
  const show = (image) => {
    node.style.setProperty("background-image", `url("${image.src}")`);
    node.style.setProperty("background-size", `${project.sprite_frames * 100}% 100%`);
    showTile(node, MIDDLE());
    node.classList.add("there");
  };
  const image = isLoaded(url);
  if (image) show(image);
  else loadPreview(url).then(show, () => node.classList.add("broken"));
  return node;
}

function cellContent(entry) {
  const { item, state: decided } = entry;
  const verdict = verdictOf(decided);
  const picture = thumb(item);
  if (DECIDABLE.has(item.kind) || item.kind === "track") picture.append(h("span", { class: "pick", title: "Select (X)" }));
  const marks = h("span", { class: "marks" });
  if (verdict) marks.append(h("span", { class: `mark ${verdict}` }, verdict === "reject" ? "✕" : "✓"));
  if (decided?.edit) marks.append(h("span", { class: "mark edit" }, "✎"));
  if (decided?.disputed || decided?.changed) marks.append(h("span", { class: "mark warn" }, "!"));
  picture.append(marks);
  if (item.status !== "ok") {
    picture.append(h("span", { class: `why ${item.status}` }, label("reason", item.reason)));
  }
  if (decided?.name) picture.append(h("span", { class: "why named" }, decided.name.character || "none of the cast"));
  const text = decided?.edit?.caption || item.caption;
  return [
    picture,
    h("div", { class: "text" }, text ? captionNodes(text) : h("span", { class: "soft" }, titleOf(item))),
  ];
}

function describe(entry) {
  const { item, state: decided } = entry;
  const parts = [titleOf(item), item.caption];
  if (item.status !== "ok") parts.push(`${item.status}: ${label("reason", item.reason)}`);
  if (verdictOf(decided)) parts.push(VERDICTS[verdictOf(decided)]);
  return parts.filter(Boolean).join(", ");
}

export class Selection {
  constructor(onchange) {
    this.ids = new Set();
    this.onchange = onchange;
  }

  get size() { return this.ids.size; }

  has(id) { return this.ids.has(id); }

  add(...ids) {
    for (const id of ids) this.ids.add(id);
    this.onchange();
  }

  toggle(id) {
    if (!this.ids.delete(id)) this.ids.add(id);
    this.onchange();
  }

  clear() {
    this.ids.clear();
    this.onchange();
  }
}

export function openFocused(grid) {
  const entry = grid.list.peek(grid.focus);
  if (entry) change({ item: entry.item.id });
}
