// The items that fit the filters, loaded page by page.

import { get } from "./api.js";
import { queryParams } from "./state.js";

const PAGE = 60;
const PAGES_IN_MEMORY = 60;

export class ItemList {
  constructor() {
    this.total = 0;
    this.loaded = false;
    this.pages = new Map();
    this.aborter = new AbortController();
    this.onload = () => {};
  }

  // Start over with the filters of now; resolves when the first page is there.
  async reset(around = 0) {
    if (this.early === String(queryParams())) {
      // Its first page was asked for while the page was being put together.
      this.early = null;
      await this.load(Math.floor(around / PAGE));
      return;
    }
    this.early = null;
    this.aborter.abort();
    this.aborter = new AbortController();
    this.pages = new Map();
    this.loaded = false;
    await this.load(Math.floor(around / PAGE));
  }

  // Ask for the first page before anything can be drawn.
  begin() {
    this.early = String(queryParams());
    this.load(0).catch(() => {});
  }

  async load(page) {
    if (this.pages.has(page)) return this.pages.get(page);
    const pages = this.pages;
    const params = queryParams();
    params.set("offset", page * PAGE);
    params.set("limit", PAGE);
    const promise = get("items", params, this.aborter.signal).then((found) => {
      if (pages !== this.pages) return;
      this.total = found.total;
      this.loaded = true;
      promise.items = found.items;
      this.onload(page);
    });
    promise.catch(() => pages.delete(page));
    pages.set(page, promise);
    if (pages.size > PAGES_IN_MEMORY) pages.delete(pages.keys().next().value);
    await promise;
    return promise;
  }

  // What is known of the item at an index; asks for it when it is not there yet.
  peek(index) {
    if (index < 0 || (this.loaded && index >= this.total)) return null;
    const page = Math.floor(index / PAGE);
    const promise = this.pages.get(page);
    if (!promise) this.load(page).catch(() => {});
    return promise?.items?.[index % PAGE] ?? null;
  }

  async at(index) {
    if (index < 0 || (this.loaded && index >= this.total)) return null;
    const promise = this.pages.get(Math.floor(index / PAGE));
    if (promise?.items) return promise.items[index % PAGE] ?? null;
    try {
      await this.load(Math.floor(index / PAGE));
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      return null;
    }
    return this.peek(index);
  }

  // Note what was decided on items that are loaded.
  update(states) {
    const byId = new Map(states.map((one) => [`${one.kind}\n${one.id}`, one.state]));
    for (const promise of this.pages.values()) {
      for (const entry of promise.items ?? []) {
        const name = `${entry.item.kind}\n${entry.item.id}`;
        if (byId.has(name)) entry.state = byId.get(name);
      }
    }
  }
}
