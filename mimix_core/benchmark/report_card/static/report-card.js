"use strict";

const dialog = document.getElementById("player");
const clip = dialog.querySelector("video");

// A click on a training sample plays its clip in place; without this script its link opens the file.
for (const link of document.querySelectorAll(".play-clip")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    clip.src = link.href;
    dialog.querySelector("p").textContent = link.parentElement.querySelector("figcaption").innerText;
    dialog.showModal();
    clip.play().catch(() => {});
  });
}
dialog.addEventListener("close", () => {
  clip.pause();
  clip.removeAttribute("src");
  clip.load();
});

for (const video of document.querySelectorAll(".shown video")) {
  video.addEventListener("play", () => {
    for (const other of document.querySelectorAll(".shown video")) {
      if (other !== video) other.pause();
    }
  });
  video.addEventListener("error", () => {
    const note = document.createElement("div");
    note.className = "unplayable";
    note.textContent = "This video cannot be played here.";
    video.replaceWith(note);
  });
}
