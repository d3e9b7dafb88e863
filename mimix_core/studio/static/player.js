// Play one or more videos in step, frame by frame if wanted, with drawings on top.

import { h } from "./dom.js";

export const RATE = 16;
const CACHED = 8;
const cache = new Map();

function makeVideo(url) {
  const video = h("video", { preload: "auto", playsinline: true, loop: true, tabindex: "-1" });
  video.muted = true;
  video.src = url;
  return video;
}

// Load a video before it is asked for.
export function preload(url) {
  if (cache.has(url)) return;
  cache.set(url, makeVideo(url));
  while (cache.size > CACHED) {
    const [oldest, video] = cache.entries().next().value;
    cache.delete(oldest);
    video.removeAttribute("src");
    video.load();
  }
}

function take(url) {
  const video = cache.get(url);
  if (!video) return makeVideo(url);
  cache.delete(url);
  return video;
}

export class Player {
  constructor(onframe) {
    this.onframe = onframe;
    this.videos = [];
    this.frame = 0;
    this.frames = 81;
    this.target = null; // the frame that was asked for, while paused there
    this.wanted = localStorage.getItem("mimix-autoplay") !== "no";
    this.speed = 1;
    this.draw = null;
  }

  // Show these videos; the first one leads. `urls` may repeat.
  load(urls, frames) {
    this.stop();
    this.frames = frames;
    this.frame = 0;
    this.target = null;
    this.videos = urls.map(take);
    const [master] = this.videos;
    if (!master) return [];
    const token = {};
    this.token = token;
    const step = (now, data) => {
      if (this.token !== token) return;
      this.seen(data.mediaTime);
      master.requestVideoFrameCallback(step);
    };
    master.requestVideoFrameCallback(step);
    master.addEventListener("seeked", () => this.token === token && this.seen(master.currentTime));
    for (const video of this.videos) {
      if (video.currentTime > 0) video.currentTime = 0;
      video.playbackRate = this.speed;
    }
    if (this.wanted) this.play();
    return this.videos;
  }

  seen(seconds) {
    const frame = Math.min(this.frames - 1, Math.max(0, Math.floor(seconds * RATE + 0.02)));
    // A frame that was on its way when another one was asked for: the next step would go on from it.
    if (this.target !== null && frame !== this.target) return;
    this.frame = frame;
    for (const video of this.videos.slice(1)) {
      if (Math.abs(video.currentTime - this.videos[0].currentTime) > 1.5 / RATE) {
        video.currentTime = this.videos[0].currentTime;
      }
    }
    this.draw?.(frame);
    this.onframe(frame);
  }

  get playing() {
    return this.videos.length > 0 && !this.videos[0].paused;
  }

  play() {
    this.target = null;
    for (const video of this.videos) video.play().catch(() => {});
  }

  pause() {
    for (const video of this.videos) video.pause();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
    this.wanted = this.playing;
    localStorage.setItem("mimix-autoplay", this.wanted ? "yes" : "no");
    this.onframe(this.frame);
  }

  goTo(frame) {
    if (this.videos.length === 0) return;
    this.pause();
    const target = (frame + this.frames) % this.frames;
    this.frame = target;
    this.target = target;
    for (const video of this.videos) video.currentTime = (target + 0.5) / RATE;
    this.onframe(target);
  }

  setSpeed(speed) {
    this.speed = speed;
    for (const video of this.videos) video.playbackRate = speed;
  }

  stop() {
    this.token = null;
    this.draw = null;
    for (const video of this.videos) {
      video.pause();
      video.remove();
      video.removeAttribute("src");
      video.load();
    }
    this.videos = [];
  }
}
