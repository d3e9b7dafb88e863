// Rate pairs of videos: which is better, aspect by aspect, without knowing who made them.

import { get, post } from "./api.js";
import { $, captionNodes, fill, h, key, toast } from "./dom.js";

const SIDES = { left: "A", tie: "Same", right: "B" };
const NAME = "mimix-rater";

let aspects = [];
let rater = localStorage.getItem(NAME) ?? "";
let progress = { done: 0, total: 0, tasks: [] };
let task = null;
let answers = {};
let current = 0;
let ready = false;
let saving = false;
let since = 0;
// The pairs of this visit, to go back to.
const history = [];

const videoUrl = (one, side) => `/rate/video/${one.id}/${side}`;

function drawBar() {
  const { done, total } = progress;
  fill($("#bar"),
    h("span", { class: "dots", "aria-hidden": "true" }),
    h("progress", { max: String(total || 1), value: String(done), "aria-label": "Progress" }),
    h("span", { class: "count", role: "status" }, total ? `${done} of ${total}` : ""),
    h("button", { type: "button", class: "back", disabled: history.length === 0, onclick: back }, "Back", key("U")),
    rater && h("button", { type: "button", class: "who", title: "Who rates", onclick: () => askName() }, rater));
}

function askName() {
  task = null;
  const input = h("input", { type: "text", maxlength: "80", id: "rater", autocomplete: "name", required: true });
  input.value = rater;
  fill($("#rate"), h("form", { class: "welcome", onsubmit: (event) => {
    event.preventDefault();
    rater = input.value.trim();
    if (!rater) return;
    localStorage.setItem(NAME, rater);
    history.length = 0;
    next();
  } },
  h("h2", null, "Which video is better?"),
  h("p", null, "You see two videos of one prompt, and say for each aspect which is better, or that you can name no difference. ",
    "Who made them, and which side they are on, means nothing. Every answer is saved at once: stop whenever you like, ",
    "and go on later under the same name."),
  h("label", { for: "rater" }, "Your name"), input,
  h("button", { type: "submit", class: "approve" }, "Start"),
  h("dl", null, aspects.map((aspect) => h("div", null, h("dt", null, aspect.title), h("dd", null, aspect.question))))));
  input.focus();
}

async function next() {
  try {
    progress = await post("rate/next", { rater });
  } catch (error) {
    toast(`The next pair cannot be loaded: ${error.message}`, { kind: "bad", action: "Try again", onaction: next });
    return;
  }
  show(progress.tasks[0] ?? null);
}

function show(found) {
  task = found;
  answers = {};
  current = 0;
  ready = false;
  drawBar();
  if (!task) {
    fill($("#rate"), h("div", { class: "welcome" }, h("h2", null, "All pairs are rated. Thank you!"),
      h("p", null, `${progress.total} pairs are saved under the name ${rater}.`)));
    return;
  }
  const videos = ["left", "right"].map((side) => {
    const video = h("video", { playsinline: true, loop: true, preload: "auto", tabindex: "-1", src: videoUrl(task, side), "data-side": side });
    video.muted = true;
    const part = h("figure", { class: "half" }, h("figcaption", null, SIDES[side]), video);
    video.addEventListener("error", () => part.classList.add("broken"));
    video.addEventListener("loadeddata", begin);
    return part;
  });
  fill($("#rate"),
    h("p", { class: "caption" }, captionNodes(task.prompt)),
    h("div", { class: "pair" }, videos),
    h("div", { class: "aspects" }, aspects.map((aspect, index) => h("div", { class: "aspect", role: "radiogroup", "data-aspect": aspect.name,
      "aria-label": aspect.title, onclick: () => focusOn(index) },
    h("div", { class: "ask-line" }, h("strong", null, aspect.title),
      h("p", { class: "soft", title: task.single ? aspect.single_question : aspect.question }, task.single ? aspect.single_question : aspect.question)),
    h("div", { class: "choices" }, Object.entries(SIDES).map(([value, text]) =>
      h("button", { type: "button", role: "radio", "aria-checked": "false", "data-value": value, disabled: true,
        onclick: (event) => { event.stopPropagation(); current = index; answer(value); } }, text)))))),
    h("p", { class: "keys-line soft wide" }, key("←"), " A ", key("↓"), " same ", key("→"), " B ", key("↑"), " aspect before ",
      key("Space"), " play and pause ", key("U"), " pair before"));
  mark();
  // The pair after this one, for when it is asked for.
  const ahead = progress.tasks.find((one) => one.id !== task.id);
  if (ahead) for (const side of ["left", "right"]) {
    const video = h("video", { preload: "auto", hidden: true, src: videoUrl(ahead, side) });
    video.muted = true;
    $("#rate").append(video);
  }
}

const shownVideos = () => [...document.querySelectorAll(".pair video")];

// Both start together, and nothing can be answered before both are there.
function begin() {
  if (ready || shownVideos().some((video) => video.readyState < 2)) return;
  ready = true;
  since = performance.now();
  for (const button of document.querySelectorAll(".choices button")) button.disabled = false;
  for (const video of shownVideos()) {
    video.currentTime = 0;
    video.play().catch(() => {});
  }
}

function mark() {
  document.querySelectorAll(".aspect").forEach((node, index) => {
    node.classList.toggle("now", index === current);
    for (const button of node.querySelectorAll("button")) {
      button.setAttribute("aria-checked", String(answers[node.dataset.aspect] === button.dataset.value));
    }
  });
}

function focusOn(index) {
  current = Math.max(0, Math.min(aspects.length - 1, index));
  mark();
}

function answer(value) {
  if (!task || !ready || saving) return;
  answers[aspects[current].name] = value;
  const missing = aspects.findIndex((aspect, index) => index > current && !(aspect.name in answers));
  const any = aspects.findIndex((aspect) => !(aspect.name in answers));
  current = missing >= 0 ? missing : any >= 0 ? any : Math.min(current + 1, aspects.length - 1);
  mark();
  if (any < 0) save();
}

async function save() {
  saving = true;
  const about = task;
  const given = { ...answers };
  try {
    const seconds = Math.round((performance.now() - since) / 100) / 10;
    progress = await post("rate/answer", { rater, task: about.id, answers: given, seconds });
  } catch (error) {
    toast(`Not saved: ${error.message}`, { kind: "bad", action: "Try again", onaction: save });
    return;
  } finally {
    saving = false;
  }
  history.push(about);
  show(progress.tasks[0] ?? null);
}

// Rate an earlier pair once more: what is said last counts.
function back() {
  const last = history.pop();
  if (!last || saving) return;
  show(last);
  toast("Rate this pair again: what you say last counts.");
}

function toggle() {
  const videos = shownVideos();
  const playing = videos.some((video) => !video.paused);
  for (const video of videos) {
    if (playing) video.pause();
    else video.play().catch(() => {});
  }
  if (playing && videos[0]) for (const video of videos) video.currentTime = Math.min(videos[0].currentTime, video.duration || 0);
}

const KEYS = {
  ArrowLeft: () => answer("left"),
  a: () => answer("left"),
  ArrowRight: () => answer("right"),
  b: () => answer("right"),
  ArrowDown: () => answer("tie"),
  s: () => answer("tie"),
  ArrowUp: () => focusOn(current - 1),
  " ": toggle,
  u: back,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input") || !task) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

async function start() {
  aspects = await get("rate");
  drawBar();
  if (rater) await next();
  else askName();
  document.body.classList.add("ready");
}

start().catch((error) => toast(`Rating cannot start: ${error.message}`, { kind: "bad" }));
