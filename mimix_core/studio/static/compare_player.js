// Keep any number of videos in step: one clock, to which all of them are held.

export const RATE = 16;
const SLACK = 1.5 / RATE;
const WAIT = 2000;

export class WallPlayer {
  constructor(onframe) {
    this.onframe = onframe;
    this.videos = new Map();
    this.time = 0;
    this.playing = false;
    this.speed = 1;
    this.waited = 0;
    this.base = this.duration = 1 / RATE;
  }

  // The length in seconds before any video says its own.
  set length(seconds) { this.base = this.duration = Math.max(1 / RATE, seconds); }

  get frames() { return Math.max(1, Math.round(this.duration * RATE)); }

  get frame() { return Math.min(this.frames - 1, Math.floor(this.time * RATE + 0.02)); }

  // Take a video in. It starts where all others are.
  add(video) {
    if (this.videos.has(video)) return;
    this.videos.set(video, { sought: 0 });
    const place = () => {
      if (Number.isFinite(video.duration)) this.duration = Math.max(this.duration, video.duration);
      this.seek(video);
      this.onframe();
    };
    if (video.readyState >= 1) place();
    else video.addEventListener("loadedmetadata", place, { once: true });
  }

  remove(video) {
    this.videos.delete(video);
    video.pause();
  }

  clear() {
    for (const video of [...this.videos.keys()]) this.remove(video);
    this.duration = this.base;
  }

  // A shorter video holds its last frame until the longest one is over.
  target(video) {
    const end = Number.isFinite(video.duration) ? video.duration - 0.5 / RATE : this.time;
    return Math.max(0, Math.min(this.time, end));
  }

  seek(video) {
    if (video.readyState >= 1) video.currentTime = this.target(video);
  }

  goTo(frame) {
    this.pause();
    const count = this.frames;
    this.time = (((frame % count) + count) % count + 0.5) / RATE;
    for (const video of this.videos.keys()) this.seek(video);
    this.onframe();
  }

  step(by) { this.goTo(this.frame + by); }

  toggle() {
    if (this.playing) this.goTo(this.frame);
    else this.play();
  }

  play() {
    if (this.playing) return;
    this.playing = true;
    this.last = performance.now();
    requestAnimationFrame((now) => this.tick(now));
    this.onframe();
  }

  pause() {
    this.playing = false;
    for (const video of this.videos.keys()) video.pause();
  }

  tick(now) {
    if (!this.playing) return;
    const passed = Math.min(0.1, (now - this.last) / 1000) * this.speed;
    this.last = now;
    const late = [...this.videos.keys()].some((video) =>
      !video.error && video.readyState < 3 && this.time < (video.duration || 0) - 1 / RATE);
    // Nobody runs ahead of a video that is still loading, unless it does not come at all.
    this.waited = late ? this.waited + passed * 1000 : 0;
    const waiting = late && this.waited < WAIT;
    if (!waiting) this.time += passed;
    if (this.time >= this.duration) {
      this.time = 0;
      for (const video of this.videos.keys()) this.seek(video);
    }
    for (const [video, state] of this.videos) this.hold(video, state, waiting, now);
    this.onframe();
    requestAnimationFrame((then) => this.tick(then));
  }

  hold(video, state, waiting, now) {
    if (video.readyState < 1 || video.error) return;
    const target = this.target(video);
    const over = this.time >= (video.duration || 0) - 1 / RATE;
    if (waiting || over) {
      if (!video.paused) video.pause();
      return;
    }
    if (video.paused) video.play().catch(() => {});
    const drift = video.currentTime - target;
    if (Math.abs(drift) > SLACK && now - state.sought > 500) {
      state.sought = now;
      video.currentTime = target;
    }
    video.playbackRate = this.speed * Math.min(1.15, Math.max(0.85, 1 - drift));
  }
}

export function makeVideo(url) {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.preload = "auto";
  video.tabIndex = -1;
  video.src = url;
  return video;
}

export function dropVideo(video) {
  video.pause();
  video.remove();
  video.removeAttribute("src");
  video.load();
}
