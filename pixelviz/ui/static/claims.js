// The claims: which verdict is shown and what is unfolded outlives an update; a filter unfolds all sections.

import { tell } from "./language.js";
import { chart } from "./plot_widget.js";

// A card's figure is drawn once it is unfolded.
function draw(card) {
  const host = card.querySelector("[data-figure]");
  if (!host) return;
  chart(host).draw(JSON.parse(host.dataset.figure));
  host.removeAttribute("data-figure");
}

/** @param {import("./page.js").Component} component */
export function mount({ element, watch }) {
  const open = new Set(["claims-1"]); // ids of cards and sections
  let shown = "";

  const folds = () => /** @type {HTMLDetailsElement[]} */ ([...element.querySelectorAll(":is(.pv-claim, .pv-claim-section):not([hidden])")]);
  function apply() {
    for (const button of element.querySelectorAll("[data-show]")) {
      button.setAttribute("aria-pressed", String(button.dataset.show === shown));
    }
    const cards = [...element.querySelectorAll(".pv-claim")];
    for (const card of cards) {
      card.hidden = Boolean(shown) && card.dataset.verdict !== shown;
      card.open = open.has(card.id);
      if (card.open && !card.hidden) draw(card);
    }
    for (const section of element.querySelectorAll(".pv-claim-section")) {
      section.hidden = !section.querySelector(".pv-claim:not([hidden])");
      section.open = open.has(section.id);
    }
    const all = element.querySelector(".pv-claim-all");
    if (all) {
      const every = folds().every((one) => one.open);
      all.setAttribute("aria-expanded", String(every));
      tell(all, { word: every ? "page.close_all" : "page.open_all" });
    }
  }

  element.addEventListener("click", (/** @type {any} */ event) => {
    const filter = event.target.closest("[data-show]");
    const all = event.target.closest(".pv-claim-all");
    if (filter) {
      shown = filter.dataset.show;
      for (const section of element.querySelectorAll(".pv-claim-section")) open.add(section.id);
    }
    if (all) {
      const close = all.getAttribute("aria-expanded") === "true";
      for (const one of folds()) {
        if (close) open.delete(one.id);
        else open.add(one.id);
      }
    }
    if (filter || all) apply();
  });
  // `toggle` does not bubble, but it can be caught on its way down.
  element.addEventListener("toggle", (/** @type {any} */ event) => {
    const card = event.target;
    if (!card.matches(".pv-claim, .pv-claim-section") || card.open === open.has(card.id)) return;
    if (card.open) open.add(card.id);
    else open.delete(card.id);
    apply();
  }, true);

  function follow() {
    // A verdict that is gone after new settings has no button any more.
    if (shown && !element.querySelector(`[data-show="${shown}"]`)) shown = "";
    apply();
  }
  watch("value", () => requestAnimationFrame(follow));
  follow();
}
