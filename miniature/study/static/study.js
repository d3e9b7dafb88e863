// Plays the videos that are in view, those of one prompt in step. Without this script each video
// has the browser's own controls.
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    for (const video of target.querySelectorAll("video")) {
      if (isIntersecting && !still) {
        video.currentTime = 0;
        video.play().catch(() => { video.controls = true; });
      } else {
        video.pause();
      }
    }
  }
});
for (const prompt of document.querySelectorAll("figure.prompt")) {
  if (!still) for (const video of prompt.querySelectorAll("video")) video.controls = false;
  seen.observe(prompt);
}
