// The ways to look at an item: its video, its crop, its masks, its sources, its twin.

import { get, loadPreview, mediaUrl, previewUrl } from "./api.js";
import { cropEditor } from "./crop.js";
import { h, svg } from "./dom.js";
import { project } from "./state.js";
import { trackView } from "./tracks.js";

const ACCENT = "#ff3d81";

export function viewsOf(item) {
  if (item.kind === "track") return ["Track"];
  const views = [];
  if (item.kind === "cutout" && item.has.includes("masks")) views.push("Outline", "Cut out", "Side by side");
  if (item.has.includes("video") && item.kind !== "scene") views.push("Video");
  if (item.kind === "composite" && item.has.includes("video")) views.push("Wipe", "Sources");
  if (item.twin) views.unshift("Duplicates");
  if (item.kind === "composite" && item.has.includes("frame")) views.push("Sheet");
  if (item.crop?.length === 4 && item.source) views.push("Crop");
  return views.length ? views : ["Nothing"];
}

function fitBox(width, height, ...children) {
  return h("div", { class: "fit", style: { "--w": width, "--h": height } }, ...children);
}

function labelled(text, box) {
  return h("figure", { class: "part" }, box, h("figcaption", null, text));
}

function canvasFor(item) {
  const node = h("canvas", { class: "over" });
  node.width = item.width;
  node.height = item.height;
  return node;
}

// Build the stage of a view. Returns nodes; videos are given to the player.
export async function buildView(view, entry, details, player) {
  const { item } = entry;
  const size = [item.width ?? item.source?.[0] ?? 16, item.height ?? item.source?.[1] ?? 9];
  const frames = item.frames ?? 81;
  const own = item.has.includes("video") ? mediaUrl("video", item) : null;
  if (view === "Crop") return [item.kind === "clip" ? await cropEditor(entry, details) : cropView(item, details, player, own, frames)];
  if (view === "Sheet") {
    return [h("img", { class: "whole", alt: "Source, mask, background and result", src: mediaUrl("frame", item) })];
  }
  if (view === "Track") return [trackView(item)];
  if (view === "Nothing") return [h("p", { class: "empty" }, "There is no video of it.")];
  if (view === "Duplicates") {
    const { item: twin } = await get("item", new URLSearchParams({ kind: "clip", id: item.twin }));
    const [left, right] = player.load([own, mediaUrl("video", twin)], frames);
    return [labelled("This clip", fitBox(...size, left)), labelled("The earlier clip", fitBox(...size, right))];
  }
  if (view === "Sources" || view === "Wipe") return compositeView(view, item, player, own, size, frames);
  if (view === "Outline" || view === "Cut out" || view === "Side by side") {
    return maskView(view, item, details, player, own, size, frames);
  }
  const [video] = player.load([own], frames);
  const box = fitBox(...size, video);
  if (item.kind === "cutout") {
    const canvas = canvasFor(item);
    box.append(canvas);
    player.draw = (frame) => drawBoxes(canvas, details, frame);
  }
  return [box];
}

async function compositeView(view, item, player, own, size, frames) {
  const sources = await Promise.all(["background", "clip"].map(async (name) => {
    const params = new URLSearchParams({ kind: "clip", id: item[name] });
    return (await get("item", params)).item;
  }));
  const [background, source] = sources;
  if (view === "Sources") {
    const urls = [own, ...sources.map((one) => mediaUrl("video", one))];
    const [result, behind, pasted] = player.load(urls, frames);
    return [
      labelled("Composite", fitBox(...size, result)),
      labelled("Background", fitBox(background.width, background.height, behind)),
      labelled(`Source of ${item.character}`, fitBox(source.width, source.height, pasted)),
    ];
  }
  const [result, behind] = player.load([own, mediaUrl("video", background)], frames);
  const box = fitBox(...size, behind, h("div", { class: "wipe" }, result));
  const slider = h("input", { type: "range", min: "0", max: "100", value: "60", class: "wiper",
    "aria-label": "Wipe between background and composite",
    oninput: () => box.style.setProperty("--wipe", `${slider.value}%`) });
  box.style.setProperty("--wipe", "60%");
  box.append(h("div", { class: "wipe-line" }), slider);
  return [box];
}

async function maskView(view, item, details, player, own, size, frames) {
  const sheet = await loadPreview(previewUrl("masks", item));
  const videos = player.load(view === "Side by side" ? [own, own] : [own], frames);
  const canvas = canvasFor(item);
  const scratch = document.createElement("canvas");
  scratch.width = item.width;
  scratch.height = item.height;
  const tile = tileOf(sheet, item, frames);
  if (view === "Outline") {
    player.draw = (frame) => {
      drawOutline(canvas, scratch, tile(frame));
      drawBoxes(canvas, details, frame, true);
    };
    return [fitBox(...size, videos[0], canvas)];
  }
  const cut = (frame) => drawCutOut(canvas, scratch, tile(frame), videos[0]);
  player.draw = cut;
  if (view === "Cut out") {
    videos[0].classList.add("unseen");
    return [fitBox(...size, h("div", { class: "checker" }), videos[0], canvas)];
  }
  return [
    labelled("Clip", fitBox(...size, videos[0])),
    labelled("Cut out", fitBox(...size, h("div", { class: "checker" }), canvas)),
  ];
}

// Where in the sheet of masks the mask of a frame is.
function tileOf(sheet, item, frames) {
  const columns = project.mask_columns;
  const rows = Math.ceil(frames / columns);
  const width = sheet.naturalWidth / columns;
  const height = sheet.naturalHeight / rows;
  // Half a pixel less on each side: none of the neighbouring masks.
  return (frame) => (context) => context.drawImage(
    sheet, (frame % columns) * width + 0.5, Math.floor(frame / columns) * height + 0.5, width - 1, height - 1,
    0, 0, item.width, item.height,
  );
}

function drawOutline(canvas, scratch, drawTile) {
  const pen = scratch.getContext("2d");
  const { width, height } = canvas;
  // Black everywhere but in the mask, then the mask's edge: the mask moved in all directions, less itself.
  pen.globalCompositeOperation = "source-over";
  pen.clearRect(0, 0, width, height);
  drawTile(pen);
  pen.globalCompositeOperation = "source-in";
  pen.fillStyle = ACCENT;
  pen.fillRect(0, 0, width, height);
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, width, height);
  const reach = Math.max(1.5, width / 360);
  for (let angle = 0; angle < 8; angle += 1) {
    context.drawImage(scratch, reach * Math.cos(angle * Math.PI / 4), reach * Math.sin(angle * Math.PI / 4));
  }
  context.globalCompositeOperation = "destination-out";
  context.drawImage(scratch, 0, 0);
  context.globalCompositeOperation = "destination-over";
  // What is outside is dimmed.
  pen.globalCompositeOperation = "source-out";
  pen.fillStyle = "rgb(8 8 14 / 50%)";
  pen.fillRect(0, 0, width, height);
  context.drawImage(scratch, 0, 0);
}

function drawCutOut(canvas, scratch, drawTile, video) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, width, height);
  if (video.readyState < 2) return;
  context.drawImage(video, 0, 0, width, height);
  context.globalCompositeOperation = "destination-in";
  drawTile(context);
}

function drawBoxes(canvas, details, frame, keep = false) {
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "source-over";
  if (!keep) context.clearRect(0, 0, canvas.width, canvas.height);
  const line = Math.max(1, canvas.width / 420);
  context.lineWidth = line;
  context.setLineDash([]);
  const box = details.boxes?.[frame];
  if (!keep && box && box[2] > box[0]) {
    context.strokeStyle = ACCENT;
    context.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
  }
  const located = details.located?.find((one) => one[0] === frame);
  if (located) {
    context.strokeStyle = "#ffd24a";
    context.setLineDash([line * 4, line * 3]);
    const [, x0, y0, x1, y1] = located;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
}

// The source picture: what is cut off around the crop, the text that was found, and the clip inside.
function cropView(item, details, player, own, frames) {
  const [width, height] = item.source;
  const [x, y, w, hgt] = item.crop;
  const percent = (value, whole) => `${(100 * value) / whole}%`;
  const box = fitBox(width, height);
  box.classList.add("source");
  const inside = h("div", { class: "inside", style: {
    left: percent(x, width), top: percent(y, height), width: percent(w, width), height: percent(hgt, height) } });
  if (item.has.includes("frame") && item.kind === "scene") {
    box.append(h("img", { src: mediaUrl("frame", { ...item, digest: item.id }), alt: "A frame of the scene" }));
  } else if (own) inside.append(...player.load([own], frames));
  box.append(inside);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "over", "aria-hidden": "true" });
  const rect = ([x0, y0, x1, y1], name) => svg("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: name });
  for (const one of details.boxes ?? []) drawing.append(rect(one, "text-box"));
  for (const one of details.remaining ?? []) drawing.append(rect(one, "text-box remains"));
  drawing.append(rect([x, y, x + w, y + hgt], "crop"));
  box.append(drawing);
  return labelled(`Source ${width}×${height}, crop ${w}×${hgt} at ${x}, ${y}`, box);
}
