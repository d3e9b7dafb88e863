// Say whom a proposed track shows.

import { mediaUrl } from "./api.js";
import { decide } from "./decisions.js";
import { castOf } from "./editor.js";
import { h, key, toneOf } from "./dom.js";

export const NOBODY = "0";

const role = (item, name) => mediaUrl(name, { ...item, digest: item.id });

// The frame with the box, and the crops that would become exemplars.
export function trackView(item) {
  const crops = item.has.filter((name) => name.startsWith("crop-"));
  return h("div", { class: "track-view" },
    h("img", { class: "track-frame", src: role(item, "frame"), alt: `A frame with the box that may be ${item.guess}` }),
    h("div", { class: "track-crops" }, crops.map((name, index) =>
      h("img", { src: role(item, name), alt: `Crop ${index + 1}` }))));
}

export function trackThumb(item) {
  return role(item, item.has.includes("crop-1") ? "crop-1" : "frame");
}

// The character that a key names: a digit, in the order of the cast; "" for none of the cast.
export function nameOfKey(item, digit) {
  return digit === NOBODY ? "" : castOf(item)[Number(digit) - 1];
}

export function nameTracks(entries, character) {
  return decide(entries, "name", { character });
}

// The names to choose from; `onname(character)` decides.
export function nameBox(entry, onname) {
  const { item, state } = entry;
  const named = state?.name;
  const choice = (name, digit, text) => h("button", { type: "button", "aria-pressed": String(named?.character === name),
    class: name ? `tag tone-${toneOf(name)}` : "", onclick: () => onname(name) }, text, digit <= 9 && key(digit));
  return h("section", { class: "name-box" },
    h("h2", null, "Whom does it show?"),
    h("p", { class: "soft" }, `Nearest to ${item.guess}: ${item.problem}. Group ${item.group}.`),
    h("div", { class: "names" },
      castOf(item).map((name, index) => choice(name, index + 1, name)),
      choice("", 0, "None of the cast")),
    named && h("p", { class: "note by", role: "status" },
      h("strong", null, named.character ? `${named.character}, says ${named.by}` : `none of the cast, says ${named.by}`),
      named.character && h("span", null, "Its crops are exemplars: the next run compares with them.")));
}
