// Words for what the tables say.

import { project } from "./state.js";

export const KINDS = { clip: "Clips", cutout: "Masks", composite: "Composites", track: "Tracks", scene: "Scenes", video: "Videos" };

export const DECIDABLE = new Set(["clip", "cutout", "composite"]);

export const FACETS = {
  decision: "Decision", review: "Review", status: "Result", stage: "Stage", reason: "Reason", show: "Show",
  episode: "Episode", character: "Character", split: "Split", style: "Style",
};

export const NUMBERS = {
  motion: "Motion", sharpness: "Sharpness", black: "Black frames", frozen: "Frozen frames",
  repeats: "Repeated frames", similarity: "Similarity", presence: "Presence", area: "Area",
  confidence: "Confidence", rank: "Rank", scale: "Scale", covered: "Covers others",
  ground: "On the ground", frames: "Length",
};

export const REASONS = {
  clip: ["Text or logo in the image", "A cut or dissolve inside", "Blurred or damaged",
    "Wrong or missing character", "Nothing happens", "Not suitable"],
  cutout: ["It flickers", "Parts are missing", "Too much around it", "Wrong character", "Cut off"],
  composite: ["It floats", "Wrong size", "The cut-out shows", "Hides someone", "Makes no sense",
    "Wrong caption"],
};

export function label(facet, value) {
  if (facet === "reason") return project.reasons?.[value] ?? value;
  if (facet === "stage") return project.stages?.[value] ?? value;
  if (facet === "review") return "must be looked at";
  if (facet === "show") return project.shows?.[value]?.title ?? value;
  return value;
}

export function numberLabel(name) {
  return NUMBERS[name] ?? name.replaceAll("_", " ").replace("/", " · ");
}

export function format(value) {
  if (!Number.isFinite(value)) return "";
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

export function time(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60];
  if (whole >= 3600) parts.unshift(Math.floor(whole / 3600));
  return parts.map((one, index) => (index ? String(one).padStart(2, "0") : one)).join(":");
}

export function titleOf(item) {
  if (item.kind === "video") return item.id;
  if (item.kind === "track") return `${item.guess}? · ${item.id.slice(item.id.indexOf("/") + 1)}`;
  if (item.kind === "composite") return `${item.character} in ${item.episode || item.show}`;
  if (item.kind === "cutout") return `${item.characters[0] ?? ""} · ${item.episode}`;
  return `${item.episode} · ${time(item.start ?? 0)}`;
}

export function verdictOf(state) {
  return state?.verdict?.action ?? "";
}

export const VERDICTS = { approve: "approved", reject: "rejected", keep: "used although a duplicate" };
