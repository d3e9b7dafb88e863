"use strict";

// A click on a picture plays its clip in place; without this script its link opens the file.
const dialog = document.getElementById("player");
const clip = dialog.querySelector("video");
const unplayable = dialog.querySelector(".unplayable");

for (const link of document.querySelectorAll(".play-clip")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    unplayable.hidden = true;
    clip.hidden = false;
    clip.src = link.href;
    const caption = link.parentElement.querySelector("figcaption");
    dialog.querySelector(".about").textContent = caption.innerText;
    dialog.showModal();
    clip.play().catch(() => {});
  });
}

clip.addEventListener("error", () => {
  if (!clip.hasAttribute("src")) return;
  clip.hidden = true;
  unplayable.hidden = false;
});

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

dialog.addEventListener("close", () => {
  clip.pause();
  clip.removeAttribute("src");
  clip.load();
});
