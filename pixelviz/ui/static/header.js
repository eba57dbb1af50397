// The head of the page: light and dark, presenter mode, and the address; and what keyboards need of the whole page.
import * as address from "./address.js";
import { choose, plain, spoken } from "./language.js";
import * as closer from "./look.js";
import * as numbers from "./numbers.js";
import { follow } from "./page.js";
import * as presenter from "./presenter.js";
import * as terms from "./terms.js";

// One stop of the Tab key for all tabs; arrow keys go from one to the next.
function rove() {
  const tabs = () => /** @type {HTMLElement[]} */ ([...document.querySelectorAll('.tab-container [role="tab"]')]);
  const settle = () => { for (const tab of tabs()) tab.tabIndex = tab.getAttribute("aria-selected") === "true" ? 0 : -1; };
  document.addEventListener("click", () => setTimeout(settle));
  document.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key], all = tabs(), at = all.indexOf(/** @type {HTMLElement} */ (event.target));
    if (!way || at < 0) return;
    event.preventDefault();
    const next = all[(at + way + all.length) % all.length];
    next.click();
    next.focus();
  });
  new MutationObserver((_, seen) => { if (tabs().length) { settle(); seen.disconnect(); } }).observe(document.body, { childList: true, subtree: true });
}

// A button that is out of use while its work is done gets the focus back, if nothing else took it.
function keepFocus() {
  /** @type {MutationObserver | undefined} */
  let watching;
  document.addEventListener("click", (event) => {
    const button = /** @type {Element} */ (event.target).closest("button");
    if (!button) return;
    watching?.disconnect();
    watching = new MutationObserver(() => { if (!button.disabled && document.activeElement === document.body) button.focus({ preventScroll: true }); });
    watching.observe(button, { attributeFilter: ["disabled"] });
  });
}

/** @param {import("./page.js").Component} component */
export function mount({ element, props, trigger, watch }) {
  element.querySelector(".pv-dark").addEventListener("click", () => document.body.classList.toggle("dark"));
  element.querySelector(".pv-skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address is of what is on the screen
    const panel = [...document.querySelectorAll('[role="tabpanel"]')].find((one) => /** @type {HTMLElement} */ (one).offsetParent);
    const to = /** @type {HTMLElement | undefined} */ ([...(panel?.querySelectorAll('input, button, select, textarea, [tabindex="0"]') ?? [])].find((one) => /** @type {HTMLElement} */ (one).offsetParent));
    to?.focus();
  });
  numbers.start();
  closer.start();
  rove();
  keepFocus();
  presenter.start(element, {
    ask: (scene) => trigger("input", { scene }), home: address.home,
    changed: (on, scene) => address.update({ presenter: on, scene }),
  });
  follow({ props, watch }, (found) => { if (found) presenter.answered(found); });
  const bare = location.hash.length < 2; // nobody asked for anything on the page
  address.start(element, props);
  if (bare) presenter.opening();
  terms.start();
  const language = element.querySelector(".pv-language");
  language.addEventListener("change", () => choose(language.value));
  const labels = () => { language.value = spoken(); trigger("select"); }; // of Gradio's own components
  document.addEventListener("pv:language", labels);
  if (!plain()) labels();
}
