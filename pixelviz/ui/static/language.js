// The page's words in the visitor's language, from the files of lesson/words/. Templates name theirs (`data-word`,
// `data-word-label` and so on: a key with dots; `data-named`: what Python calls it), scripts ask `words()`, and both
// change at once when another is chosen; Gradio's own labels follow by ui/header.py. Gradio's gr.I18n would not do: it
// goes by the browser's locale alone, so that no link could carry the language, and nobody could change it.
import { typeset } from "./page.js";

const STORE = "pixelviz-language"; // in the browser: the one that was chosen last
const NAMED = "[data-word], [data-named], [data-word-label], [data-word-title], [data-word-alt]";
const ATTRIBUTES = { wordLabel: "aria-label", wordTitle: "title", wordAlt: "alt" }; // by the names in a dataset

/** @type {Record<string, any>} */
let all = {};
let code = "";
/** @type {Promise<void> | undefined} */
let loading;

/** The texts of the language, as in its file. */
export const words = () => all[code];
/** The code of the language, as in `lang`. */
export const spoken = () => code;
/** The codes of all languages with the languages' own names. */
export const languages = () => Object.entries(all).map(([key, { language }]) => [key, language]);
/** Whether nobody has asked for another language than the first. */
export const plain = () => code === Object.keys(all)[0];
/** What Python names in English, or a paragraph of its, by key; as it is where no file has it. */
export const named = (/** @type {string} */ text) => words().names[text] ?? words().about[text] ?? text;

/**
 * A text with its {places} filled.
 * @param {string} text
 * @param {Record<string, any>} numbers
 */
export const fill = (text, numbers) => text.replace(/\{(\w+)\}/g, (whole, key) => numbers[key] ?? whole);

const word = (/** @type {string} */ key) => key.split(".").reduce((at, part) => at[part], words());

/** Fills what the templates have named, in this node and below. */
function say(/** @type {HTMLElement} */ root) {
  for (const one of [...(root.matches(NAMED) ? [root] : []), ...root.querySelectorAll(NAMED)]) {
    const data = /** @type {HTMLElement} */ (one).dataset;
    if (data.said === code) continue;
    const numbers = JSON.parse(data.numbers ?? "{}"), text = data.word ? fill(word(data.word), numbers) : data.named ? named(data.named) : null;
    if (text !== null) { one.replaceChildren(...typeset(text).childNodes); delete data.terms; }
    for (const [name, attribute] of Object.entries(ATTRIBUTES)) if (data[name]) one.setAttribute(attribute, fill(word(data[name]), numbers));
    data.said = code;
  }
}

/**
 * Names a node's text (word) and attributes (wordLabel and so on) by their keys, with their numbers; says them, and again
 * in another language.
 * @param {HTMLElement} one
 * @param {{ word?: string, wordLabel?: string, wordAlt?: string }} keys
 * @param {Record<string, any>} [numbers]
 */
export function tell(one, keys, numbers = {}) {
  Object.assign(one.dataset, keys, { numbers: JSON.stringify(numbers), said: "" });
  say(one);
}

/** Shows the page in a language; nothing happens for one that there is not. */
export function speak(/** @type {string} */ asked) {
  if (asked === code || !Object.hasOwn(all, asked)) return;
  code = asked;
  document.documentElement.lang = code;
  say(document.body);
  document.dispatchEvent(new CustomEvent("pv:language"));
}

/** The same, when the visitor asks: the browser remembers it. */
export function choose(/** @type {string} */ asked) {
  try { localStorage.setItem(STORE, asked); } catch { /* a browser that keeps nothing asks again */ }
  speak(asked);
}

/** What a component of Gradio's shows, as ui/header.py has it, in the language. */
const labels = (/** @type {Record<string, any>} */ shown) => Object.fromEntries(Object.entries(shown).map(([key, one]) => (
  [key, Array.isArray(one) ? one.map(([name, value]) => [named(name), value]) : named(one)])));

/** Takes the texts by code, the first language first. */
export function take(/** @type {Record<string, any>} */ found) {
  all = found;
  [code] = Object.keys(all);
}

async function begin() {
  take(await (await fetch(new URL("languages.json", import.meta.url))).json());
  say(document.body);
  new MutationObserver((records) => {
    for (const { addedNodes } of records) for (const added of addedNodes) if (added instanceof HTMLElement) say(added);
  }).observe(document.body, { childList: true, subtree: true });
  document.addEventListener("pv:labels", ({ detail }) => { detail.said = detail.named.map((one) => ({ __type__: "update", ...labels(one) })); });
  let kept = null;
  try { kept = localStorage.getItem(STORE); } catch { /* nothing was kept */ }
  const asked = new URLSearchParams(location.hash.slice(1)).get("lang");
  speak([asked, kept].find((one) => one && Object.hasOwn(all, one)) ?? code);
}

/**
 * Mounts a module of this folder on a component, as soon as the texts are there.
 * @param {string} name
 * @param {import("./page.js").Component} component
 */
export async function mount(name, component) {
  const [module] = await Promise.all([import(`./${name}`), (loading ??= begin())]);
  module.mount(component);
}
