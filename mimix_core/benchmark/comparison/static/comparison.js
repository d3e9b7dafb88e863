// Videos side by side on one clock, and which of them are shown. Without this script each video has
// the browser's own controls.
const FRAME = 1 / 16;
const APART = 0.2; // seconds; more is mended by a jump, less by playing a little faster or slower

for (const match of document.querySelectorAll(".match")) {
  wire(match);
}
filters();

function wire(match) {
  const videos = [...match.querySelectorAll("video")];
  if (videos.length === 0) return;
  const bar = match.querySelector(".controls");
  const [play, back, on] = bar.querySelectorAll("button");
  const slider = bar.querySelector("input");
  const clock = bar.querySelector("output");
  bar.hidden = false;
  for (const video of videos) {
    video.controls = false;
    video.addEventListener("error", () => unplayable(video));
  }

  // The longest video leads; a shorter one waits on its last frame.
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
    await Promise.all(videos.map(ready));
    if (!playing) return;
    const from = lead().currentTime;
    seek(from >= end(lead()) - FRAME ? 0 : from);
    await Promise.all(videos.map(seeked));
    if (!playing) return;
    await Promise.allSettled(videos.map((video) => video.play()));
    requestAnimationFrame(tick);
  }
  function tick() {
    if (!playing) return;
    const first = lead();
    if (first.ended || first.currentTime >= end(first)) {
      start(); // from the beginning again, all together
      return;
    }
    for (const video of videos) {
      if (video === first || first.currentTime >= end(video)) continue;
      const ahead = video.currentTime - first.currentTime;
      if (Math.abs(ahead) > APART) video.currentTime = first.currentTime;
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

  // A hundred rows of videos are not fetched before they come into view.
  new IntersectionObserver((entries, watch) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    for (const video of videos) video.preload = "auto";
    watch.disconnect();
  }, { rootMargin: "300px" }).observe(match);
}

// Broken, or of a codec that this browser lacks: said in its place instead of a black picture.
function unplayable(video) {
  if (video.hidden) return;
  const note = document.createElement("div");
  note.className = "absent";
  note.textContent = "cannot be played here";
  video.hidden = true;
  video.after(note);
}

function ready(video) {
  video.preload = "auto";
  return until(video, () => video.readyState >= 3 || video.error, ["canplay", "error"]);
}

function seeked(video) {
  return until(video, () => !video.seeking || video.error, ["seeked", "error"]);
}

function until(video, done, names) {
  return new Promise((resolve) => {
    if (done()) { resolve(); return; }
    for (const name of names) video.addEventListener(name, () => resolve(), { once: true });
  });
}

function filters() {
  const form = document.querySelector(".choose");
  if (form === null) return;
  form.hidden = false;
  const told = form.querySelector("output");
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
    told.textContent = `${shown} prompts`;
  }
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}
