// A and B over each other with a divider between them, and their difference. The divider is a range input as wide as
// the picture, so that it follows the hand, the finger and the keys by itself.
import { words } from "./language.js";
import { look } from "./look.js";
import { follow } from "./page.js";

/** @param {import("./page.js").Component} component */
export function mount({ element, props, watch }) {
  const find = (/** @type {string} */ name) => element.querySelector(`.pv-${name}`);
  const section = find("sides"), slider = /** @type {HTMLInputElement} */ (element.querySelector("input"));
  const apart = find("side-apart");
  let state = null;

  const move = () => {
    section.style.setProperty("--pv-at", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % A, ${100 - Number(slider.value)} % B`);
  };
  slider.addEventListener("input", move);
  move();
  find("closer").addEventListener("click", () => {
    const { a, b, difference } = state;
    look([a, b, ...(difference.source ? [{ name: words().page.apart, source: difference.source }] : [])]);
  });

  follow({ props, watch }, (next) => {
    state = next;
    section.hidden = !state;
    if (!state) return;
    for (const side of ["a", "b"]) {
      find(`side-${side}`).src = state[side].source;
      find(`side-${side}`).alt = find(`name-${side}`).textContent = `${side.toUpperCase()}: ${state[side].name}`;
    }
    apart.hidden = !state.difference.source;
    if (state.difference.source) apart.src = state.difference.source;
    find("status").textContent = state.difference.words;
  });
}
