// Build elements. Text becomes text nodes only: no string is ever parsed as markup.

function build(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") {
      for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    } else node.setAttribute(name, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

export function svg(tag, props, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

export const $ = (selector) => document.querySelector(selector);

export function key(name) {
  return h("kbd", { "aria-hidden": "true" }, name);
}

let tones = new Map();

export function setCast(names) {
  tones = new Map(names.map((name, index) => [name, index % 8]));
}

export function toneOf(name) {
  if (!tones.has(name)) tones.set(name, tones.size % 8);
  return tones.get(name);
}

const TAG = /\[Character: ([^\[\]]*)\]|\[scene-style:([a-z]+)\]/g;

// A caption with its tags coloured; `whole` leaves them as they are written.
export function captionNodes(text, whole = false) {
  const nodes = [];
  let end = 0;
  for (const found of text.matchAll(TAG)) {
    if (found.index > end) nodes.push(text.slice(end, found.index));
    const shown = whole ? found[0] : (found[1] ?? found[2]);
    const kind = found[1] === undefined ? `style-${found[2]}` : `tone-${toneOf(found[1])}`;
    nodes.push(h("span", { class: `tag ${kind}` }, shown));
    end = found.index + found[0].length;
    if (!whole && text[end] === ",") end += 1;
  }
  if (end < text.length) nodes.push(text.slice(end));
  return nodes;
}

export function toast(text, { action, onaction, kind = "" } = {}) {
  const box = h("div", { class: `toast ${kind}` }, h("span", null, text));
  const close = () => box.remove();
  if (action) {
    box.append(h("button", { type: "button", onclick: () => { close(); onaction(); } }, action));
  }
  $("#toasts").append(box);
  while ($("#toasts").children.length > 3) $("#toasts").firstChild.remove();
  setTimeout(close, kind === "bad" ? 9000 : 4200);
}
