// Number fields that take what people write: 0,1 and 12,5 and ,2 as well as 0.1. A browser's own number field drops a
// comma, or what follows it, without a word; so the fields are text to it, and numbers to Gradio's code.
import { fill, words } from "./language.js";
import { node, over } from "./page.js";

const PLAIN = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const EITHER = /^[+-]?[1-9]\d{0,2}[.,]\d{3}$/; // 1.000: a decimal point, or thousands?
const GROUPED = /^[+-]?\d{1,3}(,\d{3}){2,}$|^[+-]?\d{1,3}(\.\d{3}){2,}$/;
const STAYS = 8000; // milliseconds of a message

/**
 * The numbers that a text may mean: none, one, or (1.000, 1,000) two.
 * @param {string} text
 * @returns {number[]}
 */
export function readings(text) {
  const bare = text.replace(/[\s'’]/g, "").replace("−", "-"), last = Math.max(bare.lastIndexOf("."), bare.lastIndexOf(","));
  const whole = bare.replace(/[.,]/g, ""), both = bare.includes(".") && bare.includes(",");
  if (GROUPED.test(bare)) return [Number(whole)];
  const pointed = both ? bare.slice(0, last).replace(/[.,]/g, "") + "." + bare.slice(last + 1) : bare.replace(",", ".");
  if (!PLAIN.test(pointed)) return [];
  return EITHER.test(bare) ? [Number(pointed), Number(whole)] : [Number(pointed)];
}

/** @type {HTMLElement} */
let note;
let hiding = 0, since = 0;

function say(field, text, ...buttons) {
  clearTimeout(hiding);
  note.replaceChildren(text, ...buttons);
  note.hidden = false;
  since = performance.now();
  const box = field.getBoundingClientRect();
  note.style.left = `${Math.max(8, Math.min(box.left, innerWidth - note.offsetWidth - 8))}px`;
  note.style.top = `${Math.min(box.bottom + 6, innerHeight - note.offsetHeight - 8)}px`;
  if (!buttons.length) hiding = setTimeout(() => { note.hidden = true; }, STAYS);
}

// Puts a number into a field, and tells whoever listens to it.
function put(field, value) {
  field.value = String(value);
  for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, { bubbles: true }));
}

const limit = (field, name, otherwise) => (field.hasAttribute(name) && field.getAttribute(name) !== "" ? Number(field.getAttribute(name)) : otherwise);

// Takes what was typed, or says why not.
function take(field) {
  const text = field.value.trim(), before = field.dataset.before ?? "";
  if (text === before) return;
  const low = limit(field, "min", -Infinity), high = limit(field, "max", Infinity), found = readings(text), texts = words().page;
  const fits = found.filter((value) => value >= low && value <= high);
  if (!found.length) {
    field.value = before;
    say(field, fill(text ? texts.not_a_number : texts.number_needed, { text, before }));
  } else if (fits.length > 1) {
    field.value = before;
    const choices = fits.map((value) => {
      const choice = node("button", { type: "button" }, String(value));
      choice.addEventListener("click", () => { note.hidden = true; put(field, value); field.focus(); });
      return choice;
    });
    say(field, fill(texts.number_either, { text }), ...choices);
    setTimeout(() => choices[0].focus());
  } else {
    const asked = fits[0] ?? found[0], inside = Math.max(low, Math.min(high, asked)), value = Number(field.step) === 1 ? Math.round(inside) : inside;
    put(field, value);
    if (asked < low) say(field, fill(texts.number_low, { asked, value }));
    else if (asked > high) say(field, fill(texts.number_high, { asked, value }));
    else if (value !== asked) say(field, fill(texts.number_whole, { value }));
  }
  field.dataset.before = field.value;
}

// The field stays `number` to scripts: Svelte's bindings ask for that.
function convert(field) {
  field.classList.add("pv-typed");
  field.setAttribute("type", "text");
  field.setAttribute("inputmode", Number(field.step) === 1 ? "numeric" : "decimal");
  field.setAttribute("autocomplete", "off");
  Object.defineProperty(field, "type", { get: () => "number", set: () => {}, configurable: true });
}
const convertAll = () => document.querySelectorAll('input[type="number"]').forEach(convert);

const typed = (event) => event.isTrusted && event.target.classList?.contains("pv-typed") && event.target;

/** Makes every number field of the page, those to come too, take what people write. */
export function start() {
  note = node("div", { class: "pv-number-note", role: "alert", hidden: "" });
  over(note);
  convertAll();
  new MutationObserver(convertAll).observe(document.body, { childList: true, subtree: true });
  document.addEventListener("focusin", (event) => {
    const field = typed(event);
    if (field) field.dataset.before = field.value;
    // What is said as a field is left stays for who goes on.
    if (performance.now() - since > 500 && !note.contains(/** @type {Node} */ (event.target))) note.hidden = true;
  });
  // What is half typed is nobody's business yet.
  document.addEventListener("input", (event) => { if (typed(event)) event.stopImmediatePropagation(); }, true);
  document.addEventListener("change", (event) => { const field = typed(event); if (field) { event.stopImmediatePropagation(); take(field); } }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") note.hidden = true;
    const field = typed(event), way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (field && event.key === "Enter") take(field);
    const [now] = field && way ? readings(field.value) : [];
    if (now === undefined) return;
    event.preventDefault();
    const step = Number(field.step) || 1, next = Number((now + way * step).toPrecision(12));
    put(field, Math.max(limit(field, "min", -Infinity), Math.min(limit(field, "max", Infinity), next)));
  }, true);
}
