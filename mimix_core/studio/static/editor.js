// Write a caption: tags coloured as they are typed, the grammar checked, names offered.

import { post } from "./api.js";
import { captionNodes, fill, h, key, toneOf } from "./dom.js";
import { project } from "./state.js";

const CHECK_AFTER = 160;

export function castOf(item) {
  const cast = item.kind === "composite" ? null : project.episode_casts[item.episode];
  const names = [...(cast ?? project.casts[item.show] ?? { roster: [] }).roster];
  if (item.kind === "composite" && !names.includes(item.character)) names.unshift(item.character);
  return names;
}

// An editor for an entry. `onsave(text)` resolves with whether it was saved; `onclose()` ends it.
export function buildEditor(entry, onsave, onclose) {
  const { item, state } = entry;
  const names = castOf(item);
  const mirror = h("div", { class: "mirror", "aria-hidden": "true" });
  const field = h("textarea", { spellcheck: "true", "aria-label": "Caption", rows: "6", maxlength: "8000" });
  const problems = h("ul", { class: "problems", role: "status" });
  const offers = h("div", { class: "offers", role: "listbox", "aria-label": "Characters", hidden: true });
  const save = h("button", { type: "button", class: "approve", onclick: () => submit() }, "Save", key("Ctrl Enter"));
  let timer = 0;
  let latest = 0;
  let valid = false;
  let offered = [];
  let chosen = 0;
  field.value = state?.edit?.caption ?? item.caption;

  async function check() {
    const turn = ++latest;
    const found = await post("check", { kind: item.kind, id: item.id, caption: field.value })
      .catch((error) => [`cannot be checked: ${error.message}`]);
    if (turn !== latest) return;
    valid = found.length === 0;
    save.disabled = !valid;
    fill(problems, found.map((one) => h("li", null, one)));
    field.setAttribute("aria-invalid", String(!valid));
  }

  function changed() {
    fill(mirror, captionNodes(field.value, true), "\u200b");
    // As tall as its text: a scroll bar would break the lines elsewhere than in the mirror.
    field.style.setProperty("height", "auto");
    field.style.setProperty("height", `${field.scrollHeight + 2}px`);
    clearTimeout(timer);
    latest += 1;
    timer = setTimeout(check, CHECK_AFTER);
    offer();
  }

  // After a bracket, offer the characters whose names go on like what is typed.
  function offer() {
    const before = field.value.slice(0, field.selectionStart);
    const open = /\[(?:Character: ?)?([^\[\]]*)$/.exec(before);
    offered = open ? names.filter((name) => name.toLowerCase().startsWith(open[1].toLowerCase())) : [];
    chosen = Math.min(chosen, Math.max(0, offered.length - 1));
    offers.hidden = offered.length === 0;
    fill(offers, offered.map((name, index) => h("button", {
      type: "button", role: "option", "aria-selected": String(index === chosen), tabindex: "-1",
      class: `tag tone-${toneOf(name)}`, onclick: () => complete(name) }, name)));
  }

  function complete(name) {
    const start = field.value.slice(0, field.selectionStart).lastIndexOf("[");
    field.focus();
    field.setRangeText(`[Character: ${name}], `, start, field.selectionStart, "end");
    changed();
  }

  function insert(name) {
    field.focus();
    const before = field.value.slice(0, field.selectionStart);
    const gap = before === "" || before.endsWith(" ") ? "" : " ";
    field.setRangeText(`${gap}[Character: ${name}], `, field.selectionStart, field.selectionEnd, "end");
    changed();
  }

  async function submit() {
    clearTimeout(timer);
    await check();
    if (!valid) return;
    save.disabled = true;
    if (await onsave(field.value)) onclose();
    else save.disabled = false;
  }

  field.addEventListener("input", changed);
  field.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") {
      event.preventDefault();
      if (!offers.hidden) offers.hidden = true;
      else onclose();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    } else if (!offers.hidden && (event.key === "Enter" || event.key === "Tab")) {
      event.preventDefault();
      complete(offered[chosen]);
    } else if (!offers.hidden && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : offered.length - 1)) % offered.length;
      offer();
    } else if (event.key === "Enter") {
      event.preventDefault();
    } else if (event.altKey && event.code.startsWith("Digit")) {
      const name = names[Number(event.code.slice(5)) - 1];
      if (name) {
        event.preventDefault();
        insert(name);
      }
    }
  });

  const node = h("div", { class: "editor" },
    h("div", { class: "field" }, mirror, field),
    offers,
    problems,
    h("div", { class: "cast" }, names.slice(0, 12).map((name, index) => h("button", {
      type: "button", class: `tag tone-${toneOf(name)}`, title: `Insert the tag (Alt+${index + 1})`,
      onclick: () => insert(name) }, name, index < 9 && key(`Alt ${index + 1}`)))),
    h("div", { class: "row" }, save, h("button", { type: "button", onclick: onclose }, "Cancel", key("Esc"))));
  changed();
  check();
  return { node, focus: () => { changed(); field.focus(); field.setSelectionRange(field.value.length, field.value.length); } };
}
