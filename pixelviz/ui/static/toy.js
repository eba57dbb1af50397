// Three heat maps, error over gamma and T, with a point that a click or two sliders move.
import { fill, words } from "./language.js";
import { decimal, follow } from "./page.js";
import { chart } from "./plot_widget.js";

const START = { gamma: 20, T: 200 }; // where the paper's process is

/** @param {import("./page.js").Component} component */
export function mount({ element, props, watch }) {
  const find = (/** @type {string} */ name) => element.querySelector(name);
  const sliders = { gamma: find(".pv-at-gamma"), T: find(".pv-at-T") };
  const outputs = { gamma: find(".pv-at-gamma + output"), T: find(".pv-at-T + output") };
  const maps = ["printed", "letter", "v"].map((form) => {
    const figure = find(`.pv-map[data-form=${form}]`);
    return { form, reading: figure.querySelector(".pv-reading"), drawn: chart(figure.querySelector("div"), pick) };
  });
  /** @type {any} */
  let data = null;
  let at = { c: 0, r: 0 }; // the point's column and row

  /**
   * @param {number[]} list positive numbers
   * @param {number} value
   */
  const nearest = (list, value) => list.reduce((best, v, k) => (Math.abs(Math.log(v / value)) < Math.abs(Math.log(list[best] / value)) ? k : best), 0);
  const error = (form) => data.figures[form].data[0].customdata[at.r][at.c] ?? words().page.toy_excluded;

  function show() {
    const gamma = data.gammas[at.c], T = data.steps[at.r];
    for (const { form, reading, drawn } of maps) {
      const { data: [map, line, point], layout } = data.figures[form];
      drawn.draw({ data: [map, line, { ...point, x: [gamma], y: [T] }], layout });
      reading.textContent = fill(words().page.toy_error, { error: error(form) });
    }
    sliders.gamma.value = at.c; sliders.T.value = at.r;
    outputs.gamma.textContent = decimal(Number(gamma.toPrecision(3)));
    outputs.T.textContent = T;
    sliders.gamma.setAttribute("aria-valuetext", outputs.gamma.textContent);
    sliders.T.setAttribute("aria-valuetext", String(T));
    const grown = Math.exp((gamma * data.brightest) / 2);
    find(".pv-toy-said").textContent = fill(words().page.toy_said, { gamma: outputs.gamma.textContent, T,
      printed: error("printed"), letter: error("letter"), v: error("v"), grown: decimal(Number(grown.toPrecision(3))) });
  }

  function pick(/** @type {{ x: number, y: number }} */ { x, y }) {
    at = { c: nearest(data.gammas, x), r: nearest(data.steps, y) };
    show();
  }
  for (const slider of Object.values(sliders)) {
    slider.addEventListener("input", () => {
      if (!data) return;
      at = { c: Number(sliders.gamma.value), r: Number(sliders.T.value) };
      show();
    });
  }

  document.addEventListener("pv:language", () => { if (data) show(); });
  follow({ props, watch }, (next) => {
    if (!next) return;
    if (!data) at = { c: nearest(next.gammas, START.gamma), r: nearest(next.steps, START.T) };
    data = next;
    sliders.gamma.max = data.gammas.length - 1; sliders.T.max = data.steps.length - 1;
    find(".pv-toy-advice").textContent = data.advice;
    show();
  });
}
