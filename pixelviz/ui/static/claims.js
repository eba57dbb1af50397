// The claims: which verdict is shown and what is unfolded outlives an update. Filters are plain buttons.

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
  const open = new Set();
  let shown = "";

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
    }
    const all = element.querySelector(".pv-claim-all");
    if (all) {
      const every = cards.filter((card) => !card.hidden).every((card) => card.open);
      all.setAttribute("aria-expanded", String(every));
      all.textContent = every ? "Close all" : "Open all";
    }
  }

  element.addEventListener("click", (/** @type {any} */ event) => {
    const filter = event.target.closest("[data-show]");
    const all = event.target.closest(".pv-claim-all");
    if (filter) shown = filter.dataset.show;
    if (all) {
      const close = all.getAttribute("aria-expanded") === "true";
      for (const card of element.querySelectorAll(".pv-claim:not([hidden])")) {
        if (close) open.delete(card.id);
        else open.add(card.id);
      }
    }
    if (filter || all) apply();
  });
  // `toggle` does not bubble, but it can be caught on its way down.
  element.addEventListener("toggle", (/** @type {any} */ event) => {
    const card = event.target;
    if (!card.matches(".pv-claim") || card.open === open.has(card.id)) return;
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
