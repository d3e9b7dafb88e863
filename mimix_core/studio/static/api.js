// Talk to the server.

export class Refused extends Error {}

async function answer(response) {
  if (response.ok) return response.json();
  let text = `${response.status} ${response.statusText}`;
  try {
    const detail = (await response.json()).detail;
    text = typeof detail === "string" ? detail : detail.map((one) => one.msg).join("; ");
  } catch {
    // Not JSON: the status says what there is to say.
  }
  throw new Refused(text);
}

export async function get(path, params, signal) {
  const query = params ? `?${params}` : "";
  return answer(await fetch(`/api/${path}${query}`, { signal }));
}

export async function post(path, body) {
  const response = await fetch(`/api/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return answer(response);
}

export function mediaUrl(role, item, kind = item.kind, id = item.id, digest = item.digest) {
  const query = new URLSearchParams({ kind, id, v: digest.slice(0, 16) });
  return `/media/${role}?${query}`;
}

export function previewUrl(role, item, kind = item.kind, id = item.id) {
  const digest = role === "masks" ? item.masks_digest : item.digest;
  return `/preview/${role}?${new URLSearchParams({ kind, id, v: (digest ?? "").slice(0, 16) })}`;
}

// Previews may have to be made first: few at a time, so that they never hold up anything else, and
// the ones asked for last come first, for those are on the screen.
const waiting = [];
const ready = new Map();
let running = 0;
const AT_ONCE = 3;

export function loadPreview(url) {
  if (ready.has(url)) return ready.get(url);
  const promise = new Promise((resolve, reject) => waiting.push({ url, resolve, reject }));
  promise.catch(() => ready.delete(url));
  ready.set(url, promise);
  if (ready.size > 600) ready.delete(ready.keys().next().value);
  pump();
  return promise;
}

export function isLoaded(url) {
  return ready.get(url)?.loaded ?? null;
}

function pump() {
  while (running < AT_ONCE && waiting.length > 0) {
    const { url, resolve, reject } = waiting.pop();
    const image = new Image();
    running += 1;
    const done = () => { running -= 1; pump(); };
    image.onload = () => {
      const promise = ready.get(url);
      if (promise) promise.loaded = image;
      resolve(image);
      done();
    };
    image.onerror = () => { reject(new Refused("no preview")); done(); };
    image.src = url;
  }
  while (waiting.length > 300) {
    const dropped = waiting.shift();
    ready.delete(dropped.url);
    dropped.reject(new Refused("not on the screen any more"));
  }
}

// SHA-256 of a text, in hex; empty where the browser does not offer it (plain http to another host).
export async function sha256(text) {
  if (!globalThis.crypto?.subtle) return "";
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
