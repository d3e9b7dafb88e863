// The head that all pages of the studio share: its name and the links between pages.

import { $, fill, h } from "./dom.js";

const PAGES = [["/", "Data"], ["/compare", "Compare"], ["/live", "Live"]];

export function pageLinks(current) {
  // The kinds of items are tabs of their own on the page of the data.
  const shown = PAGES.filter(([href]) => href !== "/" || current !== "/");
  return h("nav", { "aria-label": "Pages", class: "pages" }, shown.map(([href, text]) =>
    h("a", { href, "aria-current": href === current ? "page" : null }, text)));
}

export function drawPageBar(current, ...more) {
  fill($("#bar"),
    h("a", { class: "brand", href: "/", "aria-label": "MiMix Studio: all items" },
      h("span", { class: "dots", "aria-hidden": "true" })),
    pageLinks(current), ...more);
}
