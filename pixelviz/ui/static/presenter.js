// Presenter mode: large type and no controls, steered by keys.

const SHARE = 50; // an arrow key moves the time by this part of the way
const CLASS = "pv-presenter";

/** @type {HTMLElement} */
let button;
/** @type {HTMLElement} */
let hint;
/** @type {(on: boolean) => void} */
let changed;
let hiding = 0;

const instrument = () => [...document.querySelectorAll(".pv-instrument")].find((node) => node.offsetParent)?.pvInstrument;
const press = (name) => document.querySelector(`.pv-lesson [data-press="${name}"]:not([disabled])`)?.click();

/** Turns it on or off; without `on`, to the other. */
export function present(on = !document.body.classList.contains(CLASS)) {
  if (on === document.body.classList.contains(CLASS)) return;
  document.body.classList.toggle(CLASS, on);
  button.setAttribute("aria-pressed", String(on));
  clearTimeout(hiding);
  hint.hidden = !on;
  if (on) {
    document.activeElement?.blur();
    hiding = setTimeout(() => { hint.hidden = true; }, 6000);
  }
  changed(on);
  window.dispatchEvent(new Event("resize"));
}

const KEYS = {
  ArrowRight: (fine) => { const i = instrument(); i?.step(fine ? 1 : Math.max(1, Math.round(i.state().T / SHARE))); },
  ArrowLeft: (fine) => { const i = instrument(); i?.step(fine ? -1 : -Math.max(1, Math.round(i.state().T / SHARE))); },
  " ": () => { const i = instrument(); if (i) i.state().playing ? i.pause() : i.play(); },
  n: () => press("next"),
  b: () => press("back"),
  Escape: () => present(false),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const at = event.target, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const typing = at.isContentEditable || (at.matches?.("input, textarea, select") && !["range", "radio", "checkbox"].includes(at.type));
  if (typing) return;
  if (key === "p") { event.preventDefault(); present(); return; }
  if (!document.body.classList.contains(CLASS) || !KEYS[key]) return;
  // A focused control keeps the keys that are its own.
  if (key === " " && at.matches?.("button, summary, input, a")) return;
  if (key.startsWith("Arrow") && at.matches?.("input")) return;
  event.preventDefault();
  KEYS[key](event.shiftKey);
}

/**
 * Takes the header's button and the page's keys; `onChange` hears of every change.
 * @param {HTMLElement} header
 * @param {(on: boolean) => void} onChange
 */
export function start(header, onChange) {
  button = header.querySelector(".pv-present");
  hint = header.querySelector(".pv-keys");
  changed = onChange;
  button.addEventListener("click", () => present());
  document.addEventListener("keydown", pressed);
}
