// Two heat maps, error over gamma and T, with a point that the hand, the keyboard or two sliders move.
import { decimal, follow } from "./page.js";

/** @param {import("./page.js").Component} component */
export function mount({ element, props, watch }) {
  const maps = [...element.querySelectorAll(".pv-map")].map((figure) => ({
    form: figure.dataset.form,
    canvas: figure.querySelector("canvas"),
    reading: figure.querySelector(".pv-reading"),
  }));
  const sliders = { gamma: element.querySelector(".pv-at-gamma"), T: element.querySelector(".pv-at-T") };
  const outputs = { gamma: element.querySelector(".pv-at-gamma + output"), T: element.querySelector(".pv-at-T + output") };
  const spoken = element.querySelector(".pv-toy-said");
  const advice = element.querySelector(".pv-toy-advice");
  const legend = element.querySelector(".pv-scale canvas");
  const [LOW, HIGH] = [-4, 5]; // powers of ten of the colours; further values keep the end's colour
  // Viridis, so that lightness rises with the error and tells it without colour.
  const STOPS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
  const M = { left: 46, right: 8, top: 8, bottom: 38 };
  let data = null, at = null;

  const colour = (power) => {
    const u = Math.max(0, Math.min(1, (power - LOW) / (HIGH - LOW))) * (STOPS.length - 1);
    const k = Math.min(STOPS.length - 2, Math.floor(u));
    return `rgb(${STOPS[k].map((c, m) => Math.round(c + (u - k) * (STOPS[k + 1][m] - c))).join(" ")})`;
  };
  const words = (power) => {
    if (Number.isNaN(power)) return "not allowed: γ ≥ T";
    if (power <= -11.9) return "0";
    return decimal(Number((10 ** power).toPrecision(3)));
  };
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const nearest = (list, value) => list.reduce((best, v, k) => (Math.abs(Math.log(v / value)) < Math.abs(Math.log(list[best] / value)) ? k : best), 0);

  function draw({ form, canvas, reading }) {
    const width = canvas.parentElement.clientWidth, height = Math.max(220, Math.min(300, width * 0.68));
    if (!width || !data) return;
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale; canvas.height = height * scale; canvas.style.height = `${height}px`;
    const g = canvas.getContext("2d");
    g.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const ink = style.color;
    const columns = data.gammas.length, rows = data.steps.length;
    const w = (width - M.left - M.right) / columns, h = (height - M.top - M.bottom) / rows;
    const values = data.values[form];
    const x = (k) => M.left + k * w, y = (k) => height - M.bottom - (k + 1) * h;
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        const power = values[r * columns + c];
        if (Number.isNaN(power)) continue;
        g.fillStyle = colour(power);
        g.fillRect(x(c), y(r), w + 0.6, h + 0.6);
      }
    // Where the error is as large as the range of an image, 1.
    g.strokeStyle = "#fff"; g.lineWidth = 2; g.beginPath();
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        const here = values[r * columns + c], right = values[r * columns + c + 1], above = values[(r + 1) * columns + c];
        if (c + 1 < columns && (here < 0) !== (right < 0) && !Number.isNaN(here + right)) { g.moveTo(x(c + 1), y(r)); g.lineTo(x(c + 1), y(r) + h); }
        if (r + 1 < rows && (here < 0) !== (above < 0) && !Number.isNaN(here + above)) { g.moveTo(x(c), y(r)); g.lineTo(x(c) + w, y(r)); }
      }
    g.stroke();
    g.fillStyle = ink; g.font = "11.5px ui-sans-serif, system-ui, sans-serif"; g.textAlign = "center";
    for (const value of [1, 2, 5, 10, 20, 50, 100, 200]) g.fillText(value, x(nearest(data.gammas, value)) + w / 2, height - M.bottom + 15);
    g.fillText("γ", M.left + (columns * w) / 2, height - 6);
    g.textAlign = "end";
    for (const value of [5, 10, 20, 50, 100, 200, 500, 1000]) g.fillText(value, M.left - 6, y(nearest(data.steps, value)) + h / 2 + 4);
    g.save(); g.translate(11, height / 2 - 14); g.rotate(-Math.PI / 2); g.textAlign = "center"; g.fillText("T", 0, 0); g.restore();
    if (data.advised !== null && data.advised <= data.gammas[columns - 1]) {
      const place = x((Math.log(data.advised / data.gammas[0]) / Math.log(data.gammas[1] / data.gammas[0])) + 0.5);
      for (const [line, dash, paint] of [[4, [], "#000"], [2, [6, 4], "#fff"]]) {
        g.strokeStyle = paint; g.lineWidth = line; g.setLineDash(dash);
        g.beginPath(); g.moveTo(place, M.top); g.lineTo(place, height - M.bottom); g.stroke();
      }
      g.setLineDash([]);
    }
    for (const [line, paint] of [[4, "#000"], [2, "#fff"]]) {
      g.strokeStyle = paint; g.lineWidth = line;
      g.strokeRect(x(at.c) - 1, y(at.r) - 1, Math.max(w + 2, 8), Math.max(h + 2, 8));
    }
    const value = values[at.r * columns + at.c];
    reading.textContent = Number.isNaN(value) ? words(value) : `error ${words(value)}`;
  }

  function drawLegend() {
    const width = legend.parentElement.clientWidth;
    if (!width) return;
    legend.width = width; legend.height = 12;
    const g = legend.getContext("2d");
    for (let k = 0; k < width; k++) { g.fillStyle = colour(LOW + (k / width) * (HIGH - LOW)); g.fillRect(k, 0, 1, 12); }
  }

  function all() {
    if (!data) return;
    maps.forEach(draw);
    drawLegend();
    const gamma = data.gammas[at.c], T = data.steps[at.r], cell = at.r * data.gammas.length + at.c;
    outputs.gamma.textContent = decimal(Number(gamma.toPrecision(3)));
    outputs.T.textContent = T;
    sliders.gamma.setAttribute("aria-valuetext", outputs.gamma.textContent);
    sliders.T.setAttribute("aria-valuetext", String(T));
    const grown = Math.exp((gamma * data.brightest) / 2);
    spoken.textContent = `At γ = ${outputs.gamma.textContent}, T = ${T}: printed form ${words(data.values.printed[cell])}, v-form ${words(data.values.v[cell])}. The printed form multiplies an error of the brightest pixel by up to e^(γx₀/2) = ${decimal(Number(grown.toPrecision(3)))}.`;
  }

  function choose(c, r) {
    at = { c: Math.max(0, Math.min(data.gammas.length - 1, c)), r: Math.max(0, Math.min(data.steps.length - 1, r)) };
    sliders.gamma.value = at.c; sliders.T.value = at.r;
    requestAnimationFrame(all);
  }

  for (const { canvas } of maps) {
    const pick = (event) => {
      if (!data || (event.type === "pointermove" && !event.buttons)) return;
      const box = canvas.getBoundingClientRect();
      const c = Math.floor(((event.clientX - box.left - M.left) / (box.width - M.left - M.right)) * data.gammas.length);
      const r = Math.floor(((box.bottom - M.bottom - event.clientY) / (box.height - M.top - M.bottom)) * data.steps.length);
      choose(c, r);
    };
    canvas.addEventListener("pointerdown", pick);
    canvas.addEventListener("pointermove", pick);
  }
  sliders.gamma.addEventListener("input", () => data && choose(Number(sliders.gamma.value), at.r));
  sliders.T.addEventListener("input", () => data && choose(at.c, Number(sliders.T.value)));
  new ResizeObserver(all).observe(element.querySelector(".pv-toy"));
  new MutationObserver(all).observe(document.body, { attributes: true, attributeFilter: ["class"] });

  follow({ props, watch }, (next) => {
    if (!next) return;
    data = next;
    data.values = Object.fromEntries(Object.entries(next.maps).map(([form, text]) => [form, floats(text)]));
    sliders.gamma.max = data.gammas.length - 1; sliders.T.max = data.steps.length - 1;
    advice.textContent = data.advice;
    if (at) choose(at.c, at.r); else choose(nearest(data.gammas, 20), nearest(data.steps, 200));
  });
}
