// Plays the videos of a prompt in sync, and filters prompts. Without this script each video has the
// browser's own controls.
const FRAME = 1 / 16;
const MAX_DRIFT = 0.2; // seconds; larger drift is corrected by seeking, smaller by the playback rate

for (const match of document.querySelectorAll(".match")) {
  connectControls(match);
}
connectFilters();

function connectControls(match) {
  const videos = [...match.querySelectorAll("video")];
  if (videos.length === 0) return;
  const bar = match.querySelector(".controls");
  const [play, back, on] = bar.querySelectorAll("button");
  const slider = bar.querySelector("input");
  const clock = bar.querySelector("output");
  bar.hidden = false;
  for (const video of videos) {
    video.controls = false;
    video.addEventListener("error", () => markUnplayable(video));
  }

  // The longest video leads; shorter ones pause on their last frame.
  const lead = () => videos.reduce((a, b) => ((b.duration || 0) > (a.duration || 0) ? b : a));
  const end = (video) => Math.max(0, (video.duration || 0) - FRAME / 2);
  let playing = false;

  function show() {
    const first = lead();
    slider.max = String(end(first));
    slider.value = String(first.currentTime);
    clock.textContent = `${first.currentTime.toFixed(2)} s`;
    play.textContent = playing ? "Pause" : "Play";
  }
  function seek(time) {
    const to = Math.min(Math.max(0, time), end(lead()));
    for (const video of videos) video.currentTime = Math.min(to, end(video));
    show();
  }
  function pause() {
    playing = false;
    for (const video of videos) video.pause();
    show();
  }
  async function start() {
    playing = true;
    show();
    await Promise.all(videos.map(untilReady));
    if (!playing) return;
    const from = lead().currentTime;
    seek(from >= end(lead()) - FRAME ? 0 : from);
    await Promise.all(videos.map(untilSeeked));
    if (!playing) return;
    await Promise.allSettled(videos.map((video) => video.play()));
    requestAnimationFrame(tick);
  }
  function tick() {
    if (!playing) return;
    const first = lead();
    if (first.ended || first.currentTime >= end(first)) {
      start(); // restart all videos together
      return;
    }
    for (const video of videos) {
      if (video === first || first.currentTime >= end(video)) continue;
      const ahead = video.currentTime - first.currentTime;
      if (Math.abs(ahead) > MAX_DRIFT) video.currentTime = first.currentTime;
      video.playbackRate = 1 - Math.max(-0.1, Math.min(0.1, ahead));
    }
    show();
    requestAnimationFrame(tick);
  }
  play.addEventListener("click", () => (playing ? pause() : start()));
  back.addEventListener("click", () => { pause(); seek(lead().currentTime - FRAME); });
  on.addEventListener("click", () => { pause(); seek(lead().currentTime + FRAME); });
  slider.addEventListener("input", () => { pause(); seek(Number(slider.value)); });
  for (const video of videos) video.addEventListener("loadedmetadata", show);

  // Videos are loaded only when their row becomes visible.
  new IntersectionObserver((entries, watch) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    for (const video of videos) video.preload = "auto";
    watch.disconnect();
  }, { rootMargin: "300px" }).observe(match);
}

// Shows a note instead of a black frame for a broken video or an unsupported codec.
function markUnplayable(video) {
  if (video.hidden) return;
  const note = document.createElement("div");
  note.className = "absent";
  note.textContent = "cannot be played here";
  video.hidden = true;
  video.after(note);
}

function untilReady(video) {
  video.preload = "auto";
  return until(video, () => video.readyState >= 3 || video.error, ["canplay", "error"]);
}

function untilSeeked(video) {
  return until(video, () => !video.seeking || video.error, ["seeked", "error"]);
}

function until(video, done, names) {
  return new Promise((resolve) => {
    if (done()) { resolve(); return; }
    for (const name of names) video.addEventListener(name, () => resolve(), { once: true });
  });
}

function connectFilters() {
  const form = document.querySelector(".choose");
  if (form === null) return;
  form.hidden = false;
  const count = form.querySelector("output");
  function apply() {
    const want = new FormData(form);
    const words = String(want.get("words")).toLowerCase();
    let shown = 0;
    for (const match of document.querySelectorAll(".match")) {
      const fits =
        ["", match.dataset.category].includes(want.get("category")) &&
        (want.get("character") === "" ||
          JSON.parse(match.dataset.characters).includes(want.get("character"))) &&
        match.dataset.words.toLowerCase().includes(words);
      match.hidden = !fits;
      shown += Number(fits);
    }
    count.textContent = `${shown} prompts`;
  }
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}
