// The wall: prompts down, checkpoints or systems across, all in step.

import { get, loadPreview } from "./api.js";
import { $, captionNodes, fill, h, key, toast } from "./dom.js";
import { dropVideo, makeVideo, WallPlayer } from "./compare_player.js";
import { drawRanking, measureLabel, number, standing } from "./compare_ranking.js";
import { drawPageBar } from "./pages.js";

const POLL = 5000;
const SETTLE = 120;

const wallNode = $("#wall");
const scroller = $("#wall-scroller");
const big = $("#big");
const player = new WallPlayer(showFrame);

let listed = [];
let wall = null;
let ranking = null;
let focus = [0, 0];
let opened = false;
const cells = new Map();
const shown = new Set();

const address = () => new URLSearchParams(location.search);

function remember(changes) {
  const params = address();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) params.delete(name);
    else params.set(name, value);
  }
  history.replaceState(null, "", `?${params}`);
}

function url(role, row, column) {
  const video = wall.rows[row].videos[column];
  return `/compare/${role}?${new URLSearchParams({ id: wall.id, row, column, v: video.digest })}`;
}

// Videos exist only for what is on the screen.
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) shown.add(target);
    else {
      shown.delete(target);
      unload(target);
    }
  }
  clearTimeout(observer.timer);
  observer.timer = setTimeout(() => shown.forEach(load), SETTLE);
}, { root: scroller, rootMargin: "60px" });

function load(cell) {
  if (cell.video || !cell.filled) return;
  const picture = cell.querySelector(".frame");
  const [row, column] = cell.place;
  if (!picture.style.backgroundImage) {
    loadPreview(url("sprite", row, column)).then((image) => {
      picture.style.setProperty("background-image", `url("${image.src}")`);
    }, () => {});
  }
  const video = makeVideo(url("video", row, column));
  cell.video = video;
  video.addEventListener("error", () => {
    if (cell.video !== video) return;
    picture.classList.add("broken");
    player.remove(video);
  });
  picture.append(video);
  player.add(video);
}

function unload(cell) {
  if (!cell.video) return;
  player.remove(cell.video);
  dropVideo(cell.video);
  cell.video = null;
}

function scoresOf(video) {
  const names = Object.keys(video.scores).sort((a, b) =>
    Number(b === ranking?.measure) - Number(a === ranking?.measure) || a.localeCompare(b));
  return h("dl", { class: "scores" }, names.map((name) => h("div", { class: name === ranking?.measure ? "chosen" : "" },
    h("dt", null, measureLabel(name)), h("dd", null, number(video.scores[name])))));
}

function drawCell(row, column) {
  const video = wall.rows[row].videos[column];
  const cell = h("div", { class: "wall-cell", role: "gridcell", id: `cell-${row}-${column}` },
  h("span", { class: "sr" }, `Prompt ${row + 1}, ${wall.columns[column].title}`),
  h("span", { class: "only-phone name", "aria-hidden": "true" }, wall.columns[column].title),
  h("div", { class: `frame ${video ? "" : "blank"}` }, video ? null : h("span", null, "no video")),
  video && scoresOf(video));
  if (video?.width) cell.querySelector(".frame").style.setProperty("aspect-ratio", `${video.width} / ${video.height}`);
  cell.place = [row, column];
  cell.filled = Boolean(video);
  cells.set(`${row} ${column}`, cell);
  observer.observe(cell);
  return cell;
}

function drawWall() {
  for (const cell of cells.values()) {
    observer.unobserve(cell);
    unload(cell);
  }
  cells.clear();
  shown.clear();
  player.clear();
  player.length = Math.max(0, ...wall.rows.flatMap((row) => row.videos.map((video) => (video ? video.frames / video.rate : 0))));
  wallNode.style.setProperty("--columns", wall.columns.length);
  ranking = drawRanking($("#ranking"), wall, address().get("measure"), {
    onmeasure: (measure) => { remember({ measure }); drawWall(); },
    oncolumn: (column) => moveTo(focus[0], column),
  });
  fill(wallNode,
    h("div", { class: "wall-row wall-head", role: "row" },
      h("div", { role: "columnheader", class: "soft" }, wall.noise || "Prompt"),
      wall.columns.map((column, index) => {
        const found = ranking ? standing(ranking, index) : "";
        return h("div", { role: "columnheader" }, h("strong", null, column.title),
          found && h("span", { class: `standing ${found.replace(" ", "-")}` }, found),
          column.note && h("span", { class: "soft note-line" }, column.note));
      })),
    wall.rows.map((row, index) => h("div", { class: "wall-row", role: "row" },
      h("div", { role: "rowheader", class: "prompt" }, h("span", { class: "soft" }, row.category || `Prompt ${index + 1}`),
        h("p", null, captionNodes(row.prompt))),
      wall.columns.map((_, column) => drawCell(index, column)))));
  drawTools();
  mark();
}

function drawTools() {
  const select = h("select", { "aria-label": "What to compare", onchange: () => openWall(select.value) },
    listed.map((one) => h("option", { value: one.id, selected: one.id === wall?.id }, `${one.title} (${one.rows} prompts)`)));
  const range = h("input", { type: "range", min: "0", value: "0", class: "frames", "aria-label": "Frame",
    oninput: () => player.goTo(Number(range.value)) });
  const speed = h("select", { "aria-label": "Speed", onchange: () => { player.speed = Number(speed.value); } },
    [0.25, 0.5, 1, 2].map((value) => h("option", { value, selected: value === player.speed }, `${value}×`)));
  fill($("#tools"), select,
    h("button", { type: "button", class: "icon", "aria-label": "Previous frame", onclick: () => player.step(-1) }, "‹", key(",")),
    h("button", { type: "button", class: "play", onclick: () => player.toggle() }, "Play", key("Space")),
    h("button", { type: "button", class: "icon", "aria-label": "Next frame", onclick: () => player.step(1) }, "›", key(".")),
    range, h("output", { class: "frame-text" }), speed);
  showFrame();
}

function showFrame() {
  const { frame, frames } = player;
  for (const node of document.querySelectorAll("input.frames")) {
    node.max = String(frames - 1);
    node.value = String(frame);
  }
  for (const node of document.querySelectorAll("output.frame-text")) node.textContent = `${frame + 1} / ${frames}`;
  for (const node of document.querySelectorAll("button.play")) {
    if (node.firstChild.textContent !== (player.playing ? "Pause" : "Play")) {
      node.firstChild.textContent = player.playing ? "Pause" : "Play";
    }
  }
}

function mark() {
  wallNode.querySelector(".focused")?.classList.remove("focused");
  const cell = cells.get(focus.join(" "));
  if (!cell) return;
  cell.classList.add("focused");
  wallNode.setAttribute("aria-activedescendant", cell.id);
}

function moveTo(row, column) {
  focus = [Math.max(0, Math.min(wall.rows.length - 1, row)), Math.max(0, Math.min(wall.columns.length - 1, column))];
  remember({ row: focus[0], column: focus[1] });
  mark();
  if (opened) showBig();
  else cells.get(focus.join(" "))?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// The opened video, and those beside it in both directions, all in step: a key flips between them at the same frame.
const around = new Map();

function showBig() {
  const [row, column] = focus;
  const wanted = [[row, column], [row, column - 1], [row, column + 1], [row - 1, column], [row + 1, column]]
    .filter(([r, c]) => wall.rows[r]?.videos[c]).map((place) => place.join(" "));
  for (const [place, video] of around) {
    if (wanted.includes(place)) continue;
    player.remove(video);
    dropVideo(video);
    around.delete(place);
  }
  const stage = big.querySelector(".big-stage");
  for (const place of wanted) {
    if (around.has(place)) continue;
    const video = makeVideo(url("video", ...place.split(" ")));
    around.set(place, video);
    stage.append(video);
    player.add(video);
  }
  for (const [place, video] of around) video.classList.toggle("here", place === `${row} ${column}`);
  const video = wall.rows[row].videos[column];
  stage.classList.toggle("blank", !video);
  const found = ranking ? standing(ranking, column) : "";
  fill(big.querySelector(".big-title"), h("strong", null, wall.columns[column].title),
    found && h("span", { class: `standing ${found.replace(" ", "-")}` }, `${found} by ${measureLabel(ranking.measure)}`));
  fill(big.querySelector(".big-text"), h("p", { class: "caption" }, captionNodes(wall.rows[row].prompt)),
    wall.columns[column].note && h("p", { class: "soft" }, wall.columns[column].note), video && scoresOf(video));
}

function openBig() {
  if (opened) return;
  opened = true;
  player.clear();
  for (const cell of cells.values()) unload(cell);
  shown.clear();
  const range = h("input", { type: "range", min: "0", value: "0", class: "frames", "aria-label": "Frame",
    oninput: () => player.goTo(Number(range.value)) });
  const go = (text, label, by) => h("button", { type: "button", class: "icon", "aria-label": label,
    onclick: () => moveTo(focus[0] + by[0], focus[1] + by[1]) }, text);
  fill(big,
    h("header", { class: "viewer-head" }, h("button", { type: "button", class: "icon", "aria-label": "Back to the wall", onclick: closeBig }, "✕"),
      h("h1", { class: "big-title" }),
      h("div", { class: "steps place" }, go("←", "Column to the left", [0, -1]), go("→", "Column to the right", [0, 1]),
        go("↑", "Prompt above", [-1, 0]), go("↓", "Prompt below", [1, 0]))),
    h("div", { class: "big-stage" }),
    h("div", { class: "transport" },
      h("button", { type: "button", class: "play", onclick: () => player.toggle() }, "Play", key("Space")), range,
      h("output", { class: "frame-text" })),
    h("div", { class: "big-text" }));
  big.hidden = false;
  $("#compare").inert = true;
  remember({ open: "1" });
  showBig();
  showFrame();
}

function closeBig() {
  if (!opened) return;
  opened = false;
  for (const video of around.values()) {
    player.remove(video);
    dropVideo(video);
  }
  around.clear();
  big.hidden = true;
  $("#compare").inert = false;
  remember({ open: null });
  for (const cell of cells.values()) {
    observer.unobserve(cell);
    observer.observe(cell);
  }
  moveTo(...focus);
  wallNode.focus({ preventScroll: true });
}

const KEYS = {
  ArrowLeft: () => moveTo(focus[0], focus[1] - 1),
  ArrowRight: () => moveTo(focus[0], focus[1] + 1),
  ArrowUp: () => moveTo(focus[0] - 1, focus[1]),
  ArrowDown: () => moveTo(focus[0] + 1, focus[1]),
  ",": () => player.step(-1),
  ".": () => player.step(1),
  Home: () => player.goTo(0),
  End: () => player.goTo(player.frames - 1),
  " ": () => player.toggle(),
  Enter: openBig,
  Escape: closeBig,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !wall) return;
  const field = event.target.matches?.("select, input");
  const pressing = event.target.matches?.("button, a, summary") && [" ", "Enter"].includes(event.key);
  if (field || pressing || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

wallNode.addEventListener("click", (event) => {
  const cell = event.target.closest(".wall-cell");
  if (!cell) return;
  moveTo(...cell.place);
  openBig();
});
// After a click keys are about the videos again.
document.addEventListener("click", (event) => { if (event.detail > 0) event.target.closest("button")?.blur(); });

async function openWall(id) {
  wall = await get("wall", new URLSearchParams({ id }));
  const params = address();
  if (params.get("wall") !== id) remember({ wall: id, row: null, column: null, measure: null, open: null });
  focus = [Number(address().get("row") ?? 0), Number(address().get("column") ?? 0)];
  drawWall();
  if (address().has("row")) moveTo(...focus);
  if (address().has("open")) openBig();
  performance.mark("wall-drawn");
}

// Columns appear while a training runs.
async function poll() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL));
    if (document.hidden) continue;
    try {
      listed = await get("walls");
      const now = listed.find((one) => one.id === wall?.id);
      document.body.classList.remove("offline");
      if (!wall && listed.length > 0) await openWall(listed[0].id);
      else if (now && now.version !== wall.version && !opened) {
        const top = scroller.scrollTop;
        wall = await get("wall", new URLSearchParams({ id: wall.id }));
        drawWall();
        scroller.scrollTop = top;
      }
    } catch {
      document.body.classList.add("offline");
    }
  }
}

async function start() {
  drawPageBar("/compare");
  listed = await get("walls");
  if (listed.length === 0) {
    $("#ranking").hidden = true;
    fill(wallNode, h("p", { class: "empty" }, "Nothing to compare yet: previews of a training appear here (lora.preview_prompts), ",
      "and videos of systems (mimix studio SETTINGS --system NAME=FOLDER)."));
  } else {
    const asked = address().get("wall");
    await openWall(listed.some((one) => one.id === asked) ? asked : listed[0].id);
  }
  document.body.classList.add("ready");
  poll();
}

start().catch((error) => toast(`The comparison cannot be shown: ${error.message}`, { kind: "bad" }));
