// Send decisions, undo them, and tell the person what became of them.

import { post, Refused, sha256 } from "./api.js";
import { h, key, toast } from "./dom.js";
import { REASONS } from "./words.js";

const undoable = [];
const listeners = new Set();

export function onDecided(listener) {
  listeners.add(listener);
}

export function reviewer() {
  return localStorage.getItem("mimix-reviewer") ?? "";
}

// Decide on entries ({item, state}); resolves with true when it is saved.
export async function decide(entries, action, { reason = "", caption = "", crop = null, character = "" } = {}) {
  const batch = entries.length > 1 ? crypto.getRandomValues(new Uint32Array(3)).join("").slice(0, 30) : "";
  const decisions = await Promise.all(entries.map(async ({ item, state }) => ({
    kind: item.kind,
    item: item.id,
    action,
    reason,
    caption,
    crop,
    character,
    seen: item.digest ?? "",
    seen_caption: item.digest === undefined ? "" : await sha256(state?.edit?.caption ?? item.caption),
    expected: (["edit", "crop", "name"].includes(action) ? state?.[action]?.id : state?.verdict?.id) ?? "",
  })));
  let saved;
  try {
    saved = await post("decisions", { reviewer: reviewer(), batch, decisions });
  } catch (error) {
    const why = error instanceof Refused ? error.message : "the server does not answer";
    toast(`Not saved: ${why}`, { kind: "bad" });
    return false;
  }
  undoable.push({ ids: saved.ids, first: decisions[0] });
  for (const listener of listeners) listener(saved.states);
  for (const conflict of saved.conflicts.slice(0, 2)) {
    toast(`${conflict.reviewer} decided otherwise in between (${conflict.action}). Yours counts now.`,
      { kind: "warn", action: "Undo", onaction: undo });
  }
  if (entries.length > 1) {
    toast(`${entries.length} ${{ reject: "rejected", name: "named" }[action] ?? "approved"}`, { action: "Undo", onaction: undo });
  }
  return true;
}

// Take the last decision back; resolves with what it was about.
export async function undo() {
  const last = undoable.pop();
  if (!last) {
    toast("Nothing to undo in this window.");
    return null;
  }
  try {
    const { states } = await post("undo", { reviewer: reviewer(), ids: last.ids });
    for (const listener of listeners) listener(states);
    toast(last.ids.length > 1 ? `${last.ids.length} decisions undone` : "Undone");
    return last.first;
  } catch (error) {
    undoable.push(last);
    toast(`Not undone: ${error.message}`, { kind: "bad" });
    return null;
  }
}

export async function undoOne(id) {
  try {
    const { states } = await post("undo", { reviewer: reviewer(), ids: [id] });
    for (const listener of listeners) listener(states);
  } catch (error) {
    toast(`Not undone: ${error.message}`, { kind: "bad" });
  }
}

// Ask why something is rejected: a digit, or words and Enter. Resolves with the reason or null.
export function askReason(kind, count) {
  return new Promise((resolve) => {
    const reasons = REASONS[kind];
    const input = h("input", { type: "text", maxlength: "500", placeholder: "or in your own words",
      "aria-label": "Reason in your own words" });
    const dialog = h("dialog", { class: "ask", "aria-label": "Why is it rejected?" });
    const finish = (reason) => {
      dialog.close();
      dialog.remove();
      resolve(reason);
    };
    dialog.append(
      h("h2", null, count > 1 ? `Reject ${count} items. Why?` : "Reject. Why?"),
      h("div", { class: "reasons" }, reasons.map((reason, index) =>
        h("button", { type: "button", onclick: () => finish(reason) }, key(index + 1), reason))),
      h("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); finish(input.value.trim()); } },
        input, h("button", { type: "submit", class: "reject" }, "Reject", key("Enter"))));
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); finish(null); });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) finish(null); });
    dialog.addEventListener("keydown", (event) => {
      event.stopPropagation();
      const digit = Number(event.key);
      if (document.activeElement === input && input.value !== "") return;
      if (digit >= 1 && digit <= reasons.length) {
        event.preventDefault();
        finish(reasons[digit - 1]);
      } else if (event.key === "Enter" && document.activeElement.tagName !== "BUTTON" && document.activeElement !== input) {
        event.preventDefault();
        finish("");
      } else if (/^\p{L}$/u.test(event.key) && !event.ctrlKey && !event.metaKey) {
        input.focus();
      }
    });
    document.body.append(dialog);
    dialog.showModal();
    // Focus on the dialog itself: a digit decides at once, typing goes to the field by Tab.
    dialog.tabIndex = -1;
    dialog.focus();
  });
}
