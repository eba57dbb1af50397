// Three samples as the corners of a triangle; the image of the place between them follows the hand.
import { fill, tell, words } from "./language.js";
import { look } from "./look.js";
import { follow, node } from "./page.js";

const CORNERS = [[0.5, 0.14], [0.12, 0.84], [0.88, 0.84]]; // as the template draws them, of the pad's width and height
const STEP = 0.04; // of an arrow key
const KEYS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const RECENT = 12; // answers that the rate is counted over
const PATIENCE = 250; // milliseconds before a server that was busy is asked again

/**
 * How much of each corner a place is: 0 or more, with the sum 1; outside the triangle, as on its edge.
 * @param {number} x
 * @param {number} y
 */
export function weightsAt(x, y) {
  const [[ax, ay], [bx, by], [cx, cy]] = CORNERS;
  const whole = (by - cy) * (ax - cx) + (cx - bx) * (ay - cy);
  const a = ((by - cy) * (x - cx) + (cx - bx) * (y - cy)) / whole;
  const b = ((cy - ay) * (x - cx) + (ax - cx) * (y - cy)) / whole;
  const inside = [a, b, 1 - a - b].map((weight) => Math.max(0, weight));
  const sum = inside.reduce((p, q) => p + q);
  return inside.map((weight) => weight / sum);
}

/** @param {number[]} weights the place that has them */
export const placeOf = (weights) => [0, 1].map((axis) => weights.reduce((sum, weight, k) => sum + weight * CORNERS[k][axis], 0));

/** @param {import("./page.js").Component} component */
export function mount({ element, props, server, watch }) {
  const section = element.querySelector(".pv-between");
  const pad = element.querySelector(".pv-pad");
  const handle = element.querySelector(".pv-handle");
  const image = element.querySelector("figure img");
  const line = element.querySelector(".pv-status");
  const corners = CORNERS.map(([x, y]) => {
    const picture = node("img", { alt: "", draggable: "false", style: `left:${100 * x}%;top:${100 * y}%` });
    pad.insertBefore(picture, handle);
    return picture;
  });
  let state = null;
  let weights = [1 / 3, 1 / 3, 1 / 3];
  let wanted = null;
  let busy = false;
  let times = [];

  function shares() {
    const [a, b, c] = weights.map((weight) => Math.round(100 * weight)), [i, j, k] = state.corners.map((corner) => corner + 1);
    return { a, b, c, i, j, k };
  }

  async function ask() {
    if (busy || !wanted || !state) return;
    const [asked, about] = [wanted, state];
    [busy, wanted] = [true, null];
    try {
      const answer = await server.between([about.checkpoint, about.seed, about.corners, asked, ...about.told]);
      if (about !== state) return;
      if (answer.error) {
        line.textContent = answer.error;
        if (!answer.busy) return;
        wanted ??= asked;
        await new Promise((resolve) => { setTimeout(resolve, PATIENCE); });
        return;
      }
      image.src = answer.image;
      tell(image, { wordAlt: "page.between_run" }, shares());
      times = [...times.slice(-RECENT + 1), performance.now()];
      const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times[times.length - 1] - times[0]) : 0;
      tell(line, { word: wanted && rate ? "page.between_rate" : "page.between_time" }, { ms: answer.milliseconds.toFixed(0), rate: rate.toFixed(0) });
    } catch {
      tell(line, { word: "page.between_silent" });
    } finally {
      busy = false;
      ask();
    }
  }

  function move(x, y) {
    weights = weightsAt(x, y);
    const [left, top] = placeOf(weights);
    handle.style.left = `${100 * left}%`;
    handle.style.top = `${100 * top}%`;
    if (!state) return;
    tell(handle, { wordLabel: "page.between_weights" }, shares());
    if (!busy && performance.now() - (times[times.length - 1] ?? 0) > 1000) times = [];
    wanted = weights;
    ask();
  }

  const drag = (event) => {
    const box = pad.getBoundingClientRect();
    move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    event.preventDefault();
    drag(event);
  });
  pad.addEventListener("pointermove", (event) => { if (pad.hasPointerCapture(event.pointerId)) drag(event); });
  element.querySelector(".pv-zoom").addEventListener("click", () => {
    const shown = [image, ...corners].filter((picture) => picture.src);
    if (shown.length) look(shown.map((picture) => ({ name: picture.alt, source: picture.src })));
  });
  handle.addEventListener("keydown", (event) => {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    const [x, y] = placeOf(weights);
    move(x + KEYS[event.key][0], y + KEYS[event.key][1]);
  });

  follow({ props, watch }, (next) => {
    state = next;
    section.hidden = !state;
    if (!state) return;
    corners.forEach((picture, k) => { picture.src = state.pictures[k]; picture.alt = fill(words().page.image_k, { k: state.corners[k] + 1 }); });
    move(...placeOf(weights));
  });
}
