// Pauses motion: shows the still images to everyone, not only to people who configured their system
// for reduced motion.
const button = document.getElementById("motion");
const sources = document.querySelectorAll("source.calm");
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
if (!calm.matches) {
  button.hidden = false;
}
button.addEventListener("click", () => {
  const paused = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(paused));
  button.textContent = paused ? "Play motion" : "Pause motion";
  for (const source of sources) {
    source.media = paused ? "all" : "(prefers-reduced-motion: reduce)";
  }
});
