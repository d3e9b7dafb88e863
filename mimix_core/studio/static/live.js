// What runs are doing, and where a server is configured: start and cancel.

import { get, loadPreview, post } from "./api.js";
import { $, fill, h, toast } from "./dom.js";
import { drawCurve } from "./live_curve.js";
import { drawPageBar } from "./pages.js";

const POLL = 2000;
const PREVIEWS = 6;
const drawn = new Map();
let serverText = "";

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function drawProgress(runs, page) {
  const running = runs.flatMap((run) => run.stages.filter((stage) => stage.running));
  fill($("#progress"), h("h2", null, "Progress"),
    runs.length === 0 && h("p", { class: "soft" }, "No run is at work in this workspace on this machine."),
    runs.map((run) => h("article", { class: "card" },
      h("header", null, h("strong", null, run.flow), h("span", { class: "soft" }, `for ${duration(run.seconds)}`),
        run.flow_run_id && page && h("a", { href: `${page}/runs/flow-run/${run.flow_run_id}`, target: "_blank", rel: "noopener" }, "Page of the run")),
      run.stages.map((stage) => h("div", { class: `stage-line ${stage.running ? "now" : ""}` },
        h("span", { class: "stage-name" }, stage.stage),
        h("progress", { max: String(stage.units || 1), value: String(stage.running ? stage.done : stage.units || 1), "aria-label": stage.stage }),
        h("span", { class: "soft numbers" }, stage.running
          ? `${stage.done.toFixed(1)} of ${stage.units}${stage.left === null ? "" : `, about ${duration(stage.left)} left`}`
          : `done in ${duration(stage.seconds)}`),
        stage.running && stage.note && h("span", { class: "soft note-line" }, stage.note))))));
  document.title = running.length > 0
    ? `${Math.floor(100 * running[0].done / (running[0].units || 1))}% ${running[0].stage} – MiMix Studio` : "Live – MiMix Studio";
}

async function drawTrainings(trainings) {
  const keys = new Set(trainings.map((one) => one.key));
  const node = $("#trainings");
  if (!node.firstChild) node.append(h("h2", null, "Training"));
  for (const [key, card] of drawn) {
    if (!keys.has(key)) {
      card.remove();
      drawn.delete(key);
    }
  }
  for (const { key, version } of trainings) {
    let card = drawn.get(key);
    if (card?.version === version) continue;
    if (!card) {
      card = h("article", { class: "card training" });
      drawn.set(key, card);
      node.append(card);
    }
    const training = await get("training", new URLSearchParams({ key }));
    card.version = version;
    drawTraining(card, training);
  }
  $("#trainings .none")?.remove();
  if (trainings.length === 0) node.append(h("p", { class: "soft none" }, "Nothing has been trained in this workspace yet."));
}

function drawTraining(card, training) {
  const held = training.held_out.at(-1);
  // Videos that play go on while the curve grows.
  if (training.wall && card.previewed !== training.preview_step) {
    card.previewed = training.preview_step;
    card.previews = h("div", null,
      h("p", null, `Previews after step ${training.preview_step} `, h("a", { href: `/compare?wall=${training.wall}` }, "Compare all checkpoints")),
      h("div", { class: "previews" }, Array.from({ length: Math.min(PREVIEWS, training.previews) }, (_, row) => preview(training, row))));
  }
  const head = h("div", null,
    h("header", null, h("strong", null, training.title),
      h("span", { class: "soft" }, training.finished ? "finished" : "not finished", `, step ${training.step}`,
        training.seconds_per_step !== null && `, ${training.seconds_per_step.toFixed(1)} s a step`),
      held && h("span", { class: "soft" }, `held-out loss ${held[1].toFixed(4)}`, held[2] !== null && ` (${held[2].toFixed(4)} to ${held[3].toFixed(4)})`)),
    drawCurve(training),
    h("p", { class: "legend soft" }, h("span", { class: "key-train" }, "each step"), h("span", { class: "key-smooth" }, "smoothed"),
      h("span", { class: "key-held" }, "held out, with its 95 % interval")));
  if (card.head) card.head.replaceWith(head);
  else card.append(head);
  card.head = head;
  if (card.previews && !card.contains(card.previews)) {
    card.querySelector(":scope > .shown")?.remove();
    card.previews.classList.add("shown");
    card.append(card.previews);
  }
}

function preview(training, row) {
  const place = new URLSearchParams({ id: training.wall, row, column: training.columns - 1, v: training.preview_step });
  const video = h("video", { preload: "metadata", loop: true, playsinline: true, autoplay: !matchMedia("(prefers-reduced-motion: reduce)").matches, src: `/compare/video?${place}`, "aria-label": `Preview ${row + 1}` });
  video.muted = true;
  const box = h("div", { class: "preview" }, video);
  loadPreview(`/compare/sprite?${place}`).then((image) => {
    box.style.setProperty("background-image", `url("${image.src}")`);
    const ratio = image.naturalWidth / 8 / image.naturalHeight;
    box.style.setProperty("aspect-ratio", String(ratio));
  }, () => {});
  return box;
}

function drawServer(server) {
  const text = JSON.stringify(server);
  if (text === serverText) return;
  serverText = text;
  const node = $("#server");
  if (!server) {
    fill(node, h("h2", null, "Runs"), h("p", { class: "soft" },
      "No Prefect server is configured, so this page only shows. Runs are started from the shell; with a server they can be started and cancelled here."));
    return;
  }
  fill(node, h("h2", null, "Runs on the server ", server.page && h("a", { href: server.page, target: "_blank", rel: "noopener" }, "Prefect")),
    server.problem && h("p", { class: "note" }, server.problem),
    h("div", { class: "starts" }, server.flows.map(([id, name]) =>
      h("button", { type: "button", class: "start", "data-flow": name, onclick: () => ask(`Start ${name}?`, "Start", () => act("start", { deployment: id }, `${name} is scheduled.`)) }, `Start ${name}`))),
    server.runs.length > 0 && h("ul", { class: "runs" }, server.runs.map((run) => h("li", { class: "card", "data-run": run.id },
      h("a", { href: run.page, target: "_blank", rel: "noopener" }, run.name), h("span", null, run.flow),
      h("span", { class: `state ${run.state.toLowerCase()}` }, run.state),
      h("time", { class: "soft", datetime: run.started }, run.started ? new Date(run.started).toLocaleString() : ""),
      run.can_cancel && h("button", { type: "button", class: "cancel reject",
        onclick: () => ask(`Cancel ${run.name}?`, "Cancel the run", () => act("cancel", { run: run.id }, `${run.name} is being cancelled.`)) }, "Cancel"),
      run.progress.map(([what, percent]) => h("div", { class: "stage-line now" }, h("span", { class: "stage-name" }, what),
        h("progress", { max: "100", value: String(percent), "aria-label": what }), h("span", { class: "soft numbers" }, `${percent.toFixed(0)} %`)))))));
}

function ask(question, label, then) {
  const dialog = h("dialog", { "aria-label": question }, h("h2", null, question),
    h("form", { method: "dialog", onsubmit: then }, h("button", { type: "submit", class: "approve" }, label),
      h("button", { type: "button", onclick: () => dialog.close() }, "Back")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

async function act(name, body, done) {
  try {
    await post(`runs/${name}`, body);
    toast(done);
    await refresh();
  } catch (error) {
    toast(error.message, { kind: "bad" });
  }
}

async function refresh() {
  const found = await get("live");
  drawProgress(found.runs, found.server?.page);
  drawServer(found.server);
  await drawTrainings(found.trainings);
}

async function start() {
  drawPageBar("/live");
  await refresh();
  document.body.classList.add("ready");
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL));
    if (document.hidden) continue;
    try {
      await refresh();
      document.body.classList.remove("offline");
    } catch {
      document.body.classList.add("offline");
    }
  }
}

start().catch((error) => toast(`The page cannot be shown: ${error.message}`, { kind: "bad" }));
