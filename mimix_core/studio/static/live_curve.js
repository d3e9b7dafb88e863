// Draw the losses of a training: each step, and the held-out loss with its interval.

import { h, svg } from "./dom.js";

const WIDTH = 640;
const HEIGHT = 220;
const LEFT = 52;
const BOTTOM = 24;

function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return found;
}

function smooth(points) {
  let mean = null;
  return points.map(([step, value]) => {
    mean = mean === null ? value : 0.9 * mean + 0.1 * value;
    return [step, mean];
  });
}

export function drawCurve(training) {
  const { train, held_out: held } = training;
  const values = [...train.map(([, value]) => value), ...held.flatMap(([, value, low, high]) => [value, low ?? value, high ?? value])];
  if (values.length === 0) return h("p", { class: "soft" }, "No step is done yet.");
  const last = Math.max(1, ...train.map(([step]) => step), ...held.map(([step]) => step));
  const sorted = [...values].sort((a, b) => a - b);
  const low = sorted[0];
  // One outlier must not flatten the curve.
  const high = Math.max(sorted[Math.floor(0.995 * (sorted.length - 1))], low + 1e-6);
  const x = (step) => LEFT + (WIDTH - LEFT - 8) * step / last;
  const y = (value) => 8 + (HEIGHT - BOTTOM - 8) * (1 - (Math.min(high, value) - low) / (high - low));
  const path = (points) => points.map(([step, value], index) => `${index ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const digits = high - low < 0.1 ? 3 : 2;
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curve", role: "img",
    "aria-label": `Loss of ${last} steps; the last held-out loss is ${held.at(-1)?.[1]?.toFixed(4) ?? "not known"}` },
  ticks(low, high, 4).map((value) => [
    svg("line", { class: "rule", x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value) }),
    svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(digits))]),
  ticks(0, last, 6).map((step) => svg("text", { x: x(step), y: HEIGHT - 6, "text-anchor": "middle" }, String(Math.round(step)))),
  svg("path", { class: "train", d: path(train) }),
  svg("path", { class: "smooth", d: path(smooth(train)) }),
  held.map(([step, , lower, upper]) => lower !== null && svg("line", { class: "bounds", x1: x(step), x2: x(step), y1: y(lower), y2: y(upper) })),
  svg("path", { class: "held", d: path(held) }),
  held.map(([step, value]) => svg("circle", { class: "held", cx: x(step), cy: y(value), r: 3 })));
}
