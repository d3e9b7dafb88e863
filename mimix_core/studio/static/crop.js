// Move the rectangle that a clip is cut from, in a picture of its source.

import { loadPreview, previewUrl } from "./api.js";
import { decide } from "./decisions.js";
import { h, key, svg } from "./dom.js";

const STEP = 16;
const FINE = 2;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Whether the next view that is built continues what the keyboard was doing.
let refocus = false;

// The view of an entry ({item, state}): the source with the rectangle, and what to do with it.
export async function cropEditor(entry, details) {
  const { item, state } = entry;
  const [width, height] = item.source;
  const [, , w, hgt] = item.crop;
  const saved = state?.crop?.crop ?? item.crop;
  let [x, y] = saved;
  const image = await loadPreview(previewUrl("source", item)).catch(() => null);
  const picture = image
    ? h("img", { src: image.src, alt: "The source in the middle of the clip", draggable: "false" })
    : h("p", { class: "empty" }, "There is no picture of its source, so the crop cannot be moved.");
  const text = h("output", { class: "crop-text" });
  const mover = h("button", { type: "button", class: "mover", disabled: !image });
  const save = h("button", { type: "button", class: "approve save-crop", onclick: () => submit() }, "Save crop", key("Enter"));
  const discard = h("button", { type: "button", class: "discard-crop", onclick: () => place(...saved) }, "Discard", key("Esc"));
  const percent = (value, whole) => `${(100 * value) / whole}%`;
  const changed = () => x !== saved[0] || y !== saved[1];

  // Even pixels, as the clips stage cuts.
  function place(left, top) {
    const within = (value, most) => 2 * Math.round(Math.min(Math.max(0, value), most) / 2);
    x = Math.min(within(left, width - w), 2 * Math.floor((width - w) / 2));
    y = Math.min(within(top, height - hgt), 2 * Math.floor((height - hgt) / 2));
    mover.style.setProperty("left", percent(x, width));
    mover.style.setProperty("top", percent(y, height));
    text.textContent = `Source ${width}×${height}, crop ${w}×${hgt} at ${x}, ${y}${changed() ? ", not saved" : ""}`;
    mover.setAttribute("aria-label",
      `Crop at ${x}, ${y}. Arrow keys move it by ${STEP} pixels, with Shift by ${FINE}. Enter saves, Escape discards.`);
    save.disabled = discard.disabled = !changed();
  }

  async function submit() {
    if (!changed()) return;
    refocus = document.activeElement === mover;
    save.disabled = true;
    if (!(await decide([entry], "crop", { crop: [x, y, w, hgt] }))) save.disabled = false;
  }

  mover.style.setProperty("width", percent(w, width));
  mover.style.setProperty("height", percent(hgt, height));
  mover.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (move) {
      const step = event.shiftKey ? FINE : STEP;
      place(x + move[0] * step, y + move[1] * step);
    } else if (event.key === "Enter") submit();
    else if (event.key === "Escape" && changed()) place(...saved);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  // A click must not take the focus away: the arrows go on where the mouse has ended.
  mover.addEventListener("click", (event) => event.stopPropagation());
  mover.addEventListener("pointerdown", (event) => {
    const scale = width / mover.parentElement.clientWidth;
    const begin = { x: x - event.clientX * scale, y: y - event.clientY * scale };
    const drag = (moved) => place(begin.x + moved.clientX * scale, begin.y + moved.clientY * scale);
    mover.setPointerCapture(event.pointerId);
    mover.addEventListener("pointermove", drag);
    mover.addEventListener("lostpointercapture", () => mover.removeEventListener("pointermove", drag), { once: true });
  });

  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "over", "aria-hidden": "true" });
  for (const [x0, y0, x1, y1] of details.remaining ?? []) {
    drawing.append(svg("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: "text-box remains" }));
  }
  place(...saved);
  if (refocus) requestAnimationFrame(() => mover.focus());
  refocus = false;
  return h("figure", { class: "part crop-editor" },
    h("div", { class: "fit source", style: { "--w": width, "--h": height } }, picture, drawing, mover),
    h("figcaption", null, text, h("span", { class: "crop-buttons" }, save, discard)));
}
