// Samples as a grid of buttons cut from one image; choosing one asks for its reverse trajectory.
import { fill, tell, words } from "./language.js";
import { look } from "./look.js";
import { follow, node } from "./page.js";

/** @param {import("./page.js").Component} component */
export function mount({ element, props, trigger, watch }) {
  const grid = element.querySelector(".pv-samples");
  const bar = element.querySelector(".pv-bar");
  const done = bar.firstElementChild;
  const line = element.querySelector(".pv-status");
  const closer = element.querySelector(".pv-closer");
  const sheet = new Image();
  let state = null;
  let halted = false;

  function draw() {
    if (!state || !state.sheet || !sheet.naturalWidth) return;
    const { size, columns, count } = state;
    while (grid.children.length > count) grid.lastChild.remove();
    while (grid.children.length < count) {
      const index = grid.children.length;
      const button = node("button", { type: "button" });
      tell(button, { wordLabel: "page.image_how" }, { k: index + 1 });
      button.append(node("canvas", { width: size, height: size }));
      button.addEventListener("click", () => { if (state.done) trigger("select", { index }); });
      grid.append(button);
    }
    [...grid.children].forEach((button, k) => {
      const canvas = button.firstElementChild;
      if (canvas.width !== size) canvas.width = canvas.height = size;
      canvas.getContext("2d").drawImage(sheet, (k % columns) * size, Math.floor(k / columns) * size, size, size, 0, 0, size, size);
      button.setAttribute("aria-pressed", String(k === state.chosen));
      button.disabled = !state.done;
    });
  }
  sheet.onload = draw;
  closer.addEventListener("click", () => look([...grid.children].map((button, k) => ({ name: fill(words().page.image_k, { k: k + 1 }), source: button.firstElementChild.toDataURL() })), Math.max(0, state.chosen)));

  follow({ props, watch }, (next) => {
    // A report that was under way when the run was stopped must not undo the answer to the stop button.
    if (next && halted && !next.done && next.progress > 0) return;
    halted = !!next && next.progress === null && next.keep;
    state = next;
    line.textContent = state ? state.status : "";
    bar.hidden = !state || state.progress === null;
    closer.hidden = !state?.sheet || !state.done;
    if (!state) { grid.replaceChildren(); return; }
    if (state.progress !== null) {
      done.style.width = `${100 * state.progress}%`;
      bar.setAttribute("aria-valuenow", Math.round(100 * state.progress));
    }
    if (state.keep) return;
    grid.hidden = !state.sheet;
    grid.style.setProperty("--pv-columns", state.columns);
    if (!state.sheet) return;
    if (sheet.src !== state.sheet) sheet.src = state.sheet; else draw();
  });
}
