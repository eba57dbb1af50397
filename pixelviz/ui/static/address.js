// The state of the view in the address, after the #: written as it changes, read at the start and when it is edited.
// When it is read, "pv:address" goes to the document with what now() gives as its detail.
import { fill, languages, plain, speak, spoken, words } from "./language.js";
import { present } from "./presenter.js";
import { watch } from "./server.js";

const WAIT = 300; // milliseconds of quiet before the address follows the instrument: browsers count the writes
const nodeOf = (id) => document.querySelector(`#${id} .pv-instrument`);
const own = { forward: "instrument", lesson: "lesson-instrument" }; // whose settings the address holds, by tab

// settings: the instrument's, of the tab on screen; linked: those that a link to the lesson came with, until the
// lesson takes them.
// controls: those of the other tabs, by tab and key, as text.
/** @type {Record<string, any>} */
const here = { tab: null, step: null, lang: null, route: null, poll: null, presenter: false, scene: null, settings: {}, linked: null, controls: {} };
let timer = null, written = null, silent;
let note = null, props = null; // the header's
const arrived = {}, parts = {}, opened = new Set(); // what a link says of controls and inner tabs, until it is taken; tabs that asked
let numbers = []; // names of the settings that are numbers, as Python's View declares them

const say = (lines) => {
  clearTimeout(silent);
  note.textContent = lines.join(" ");
  note.hidden = !lines.length;
  silent = setTimeout(() => { note.hidden = true; }, 8000);
};

// --- Reading

const number = (text) => (text.trim() === "" ? NaN : Number(text));
const list = (text, size) =>
  text === "" ? [] : text.split(",").map((part) => part.split(".").map(number)).map((one) => {
    if (one.length !== size || !one.every((n) => Number.isInteger(n) && n >= 0)) throw new Error();
    return one;
  });
const finite = (text) => { const value = number(text); if (!Number.isFinite(value)) throw new Error(); return value; };
const among = (options, text) => { if (!options.includes(text)) throw new Error(); return text; };

// Each key puts its value into what is read, or throws where there is none. Ranges are the instrument's to keep.
const KEYS = {
  tab: (to, text) => { to.tab = among(props.tabs, text); },
  step: (to, text, problems) => {
    to.step = Math.min(props.steps, Math.max(1, Math.round(finite(text))));
    if (to.step !== Number(text)) problems.push(fill(words().page.link_step, { asked: text, step: to.step }));
  },
  route: (to, text) => { to.route = among(props.routes, text); },
  poll: (to, text) => { to.poll = text; }, // a class to join; it does not stay in the address
  lang: (to, text) => { to.lang = among(languages().map(([code]) => code), text); },
  scene: (to, text) => { to.scene = Math.max(1, Math.round(finite(text))); },
  view: (to, text) => { to.settings.basic = among(["basic", "all"], text) === "basic"; },
  presenter: (to, text) => { to.presenter = among(["0", "1"], text) === "1"; },
  image: (to, text) => { to.settings.example = among(props.examples, text); },
  ddpm: (to, text) => { to.settings.ddpm = among(props.ranges, text); },
  schedule: (to, text) => { to.settings.schedule = among(props.schedules, text); },
  formula: (to, text) => { to.settings.formula = text; },
  pixels: (to, text) => { to.settings.pixels = list(text, 3); },
  pair: (to, text) => { [to.settings.pair] = list(text, 2); },
};

function read(hash) {
  /** @type {Record<string, any>} */
  const found = { tab: null, step: null, lang: null, route: null, poll: null, presenter: false, scene: null, settings: {}, controls: {} }, problems = [];
  for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const [tab, control] = key.split(".");
    if (control && props.tabs.includes(tab) && !own[tab]) { (found.controls[tab] ??= {})[control] = text; continue; } // Python's to read
    try { KEYS[key](found, text, problems); } catch { problems.push(fill(words().page.link_unread, { part: `${key}=${text}` })); }
  }
  // Who follows a link to settings is to see them all; that it shows the basic view, it says.
  if (Object.keys(found.settings).length) found.settings.basic ??= false;
  return { found, problems };
}

// --- Writing

const pairs = (numbers) => numbers.map((one) => one.join(".")).join(",");
const short = (value) => String(Number(value.toPrecision(6)));

/**
 * The part of an address after and with the #.
 * @param {Record<string, any>} view
 */
export function hash({ tab, step = null, lang = null, route = null, poll = null, settings = {}, presenter = false, scene = null, controls = {} }) {
  const out = [["tab", tab]];
  if (tab === "lesson") {
    if (step !== null) out.push(["step", step]);
    if (route && route !== props.routes[0]) out.push(["route", route]);
    if (poll) out.push(["poll", poll]);
  }
  if (lang) out.push(["lang", lang]);
  for (const [name, values] of Object.entries(controls)) for (const [key, text] of Object.entries(values)) if (text !== null) out.push([`${name}.${key}`, text]);
  if (settings.example) out.push(["image", settings.example]);
  for (const key of numbers) if (settings[key] !== undefined) out.push([key, short(settings[key])]);
  if (settings.ddpm) out.push(["ddpm", settings.ddpm]);
  if (settings.schedule) out.push(["schedule", settings.schedule]);
  if (settings.schedule === "formula") out.push(["formula", settings.formula]);
  if (settings.pixels) out.push(["pixels", pairs(settings.pixels)]);
  if (settings.pair) out.push(["pair", pairs([settings.pair])]);
  if (settings.basic) out.push(["view", "basic"]);
  if (presenter) out.push(["presenter", "1"]);
  if (presenter && scene) out.push(["scene", scene]);
  return "#" + out.map(([key, value]) => `${key}=${encodeURIComponent(value).replace(/%2C/g, ",")}`).join("&");
}

function write() {
  clearTimeout(timer);
  timer = null;
  if (!props) return; // the header is not there yet
  const next = hash({ ...here, poll: null });
  if (next === written) return;
  written = next;
  history.replaceState(history.state, "", next);
  // On a Space the app is framed; the page round it then shows the same state in its own address.
  if (window.parent !== window && document.referrer) window.parent.postMessage({ hash: next }, new URL(document.referrer).origin);
}
const later = () => { clearTimeout(timer); timer = setTimeout(write, WAIT); };

// --- Following the page

const instrumentOf = (tab) => nodeOf(own[tab] || own.forward)?.pvInstrument;
const remember = (state) => { here.settings = state; };
function followInstrument(event) {
  if (instrumentOf(here.tab) !== event.target.pvInstrument) return;
  remember(event.detail);
  later();
}
// A control's value as text: a list with commas, a picture by its example; null for none, and what a link cannot hold.
const inWords = (value) => (Array.isArray(value) ? value.join(",") : value && typeof value === "object" ? value.example : value === "" ? null : value);
function followControls({ detail: { tab, values } }) {
  if (arrived[tab]) return; // not yet what the link says
  const part = here.controls[tab]?.part ?? null;
  const wanted = parts[tab] && inner(tab).find((one) => one.dataset.tabId === `${tab}-${parts[tab]}`);
  if (wanted) wanted.click(); // now that its controls are those of the link
  else if (parts[tab]) say([`“${tab}.part=${parts[tab]}” was not understood and is ignored.`]);
  delete parts[tab];
  here.controls[tab] = { part, ...Object.fromEntries(Object.entries(values).map(([key, value]) => [key, inWords(value)])) };
  later();
}
// A tab asks what the link says of its controls. Which of its inner tabs is open, the page knows itself.
const inner = (tab) => /** @type {HTMLElement[]} */ ([...document.querySelectorAll('[role="tab"]')]).filter((one) => one.dataset.tabId?.startsWith(`${tab}-`));
function giveControls({ detail }) {
  const { part, ...said } = arrived[detail.tab] ?? {};
  delete arrived[detail.tab];
  opened.add(detail.tab);
  detail.said = said;
  parts[detail.tab] = part;
}
const shownTab = () => document.querySelector('[role="tab"][aria-selected="true"]')?.dataset.tabId;
function followTabs() {
  const tab = shownTab();
  const part = inner(tab).find((one) => one.ariaSelected === "true")?.dataset.tabId?.slice(tab.length + 1);
  if (part && !arrived[tab]) { here.controls[tab] = { ...here.controls[tab], part }; later(); }
  if (!props.tabs.includes(tab) || tab === here.tab) return;
  here.tab = tab;
  const instrument = instrumentOf(tab);
  if (instrument?.ready) remember(instrument.state());
  write();
}

const openTab = (id) => {
  here.tab = id;
  if (shownTab() !== id) document.querySelector(`[role="tab"][data-tab-id="${id}"]`)?.click();
};
const whenReady = (id) => new Promise((resolve) => {
  const ready = () => { const node = nodeOf(id); return node?.pvInstrument?.ready ? node.pvInstrument : null; };
  const already = ready();
  if (already) return resolve(already);
  document.addEventListener("pv:ready", function listen() {
    const found = ready();
    if (found) { document.removeEventListener("pv:ready", listen); resolve(found); }
  });
});

// Set an instrument from an address, and say what it would not take: numbers out of range, pixels outside the picture.
async function fit(instrument, asked) {
  await instrument.set(asked);
  const got = instrument.state();
  const same = (a, b) => (typeof a === "number" ? Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(a)) : JSON.stringify(a) === JSON.stringify(b));
  const text = (value) => (Array.isArray(value) ? pairs(Array.isArray(value[0]) ? value : [value]) || words().page.none : value);
  return Object.keys(asked).filter((key) => !same(asked[key], got[key]))
    .map((key) => fill(words().page.link_unfit, { key, asked: text(asked[key]), got: text(got[key]) }));
}

async function apply(asked) {
  if (asked === written || asked.length < 2) return;
  written = asked;
  // A write that waited may have come between the edit and the word of it.
  if (location.hash !== asked) history.replaceState(history.state, "", asked);
  speak(new URLSearchParams(asked.slice(1)).get("lang") ?? spoken());
  const { found, problems } = read(asked);
  say(problems);
  const given = Object.keys(found.settings).length > 0;
  Object.assign(arrived, found.controls);
  if (found.controls[here.tab] && opened.has(here.tab) && (found.tab ?? here.tab) === here.tab) location.reload(); // it asks when it opens
  Object.assign(here, found, { controls: { ...here.controls, ...found.controls }, tab: found.tab || here.tab, step: found.step ?? here.step, lang: found.lang ?? here.lang, route: found.route || here.route });
  here.linked = here.tab === "lesson" && given ? found.settings : null;
  if (!found.presenter) present(false);
  openTab(here.tab);
  if (found.presenter) present(true, found.scene ?? 1);
  document.dispatchEvent(new CustomEvent("pv:address", { detail: now() }));
  if (here.tab === "lesson" || !given) return; // the lesson sets its own instrument, when a step is open
  const instrument = await whenReady(own.forward);
  say([...problems, ...(await fit(instrument, found.settings))]);
}

/**
 * What is on the screen: { tab, step, presenter, settings, linked }.
 * @returns {Record<string, any>}
 */
export const now = () => ({ ...here, settings: { ...here.settings } });

/** The Forward tab on the screen: its instrument, once it is ready. */
export function home() {
  openTab(props.tabs[0]);
  return whenReady(own.forward);
}

/** Some of this has changed. */
export function update(change) {
  Object.assign(here, change);
  write();
}

/** Sets an instrument, and says what it would not take. */
export async function set(instrument, asked) {
  say(await fit(instrument, asked));
}

/** The address of what is on the screen; of the other tabs' controls only a page's own address tells, for its reload. */
export function link() {
  const instrument = instrumentOf(here.tab);
  if (instrument?.ready && (here.tab !== "lesson" || here.step !== null)) remember(instrument.state()); // its event may still be on its way
  write();
  const { tab, controls } = here;
  return new URL(hash({ ...here, controls: controls[tab] ? { [tab]: controls[tab] } : {} }), location.href).href;
}

async function copy() {
  const text = link();
  const uploaded = here.settings.example === null || here.controls[here.tab]?.picture === null ? [words().page.link_upload] : [];
  try { await navigator.clipboard.writeText(text); say([words().page.link_copied, ...uploaded]); }
  catch { say([fill(words().page.link_by_hand, { link: text }), ...uploaded]); }
}

/**
 * Takes the header's button and line for messages, and follows the page.
 * @param {HTMLElement} header
 * @param {Record<string, any>} given tabs [id], examples [id], steps (of the lesson, with its result), routes
 */
export function start(header, given) {
  note = header.querySelector(".pv-address-note");
  props = given;
  here.tab = props.tabs[0];
  here.lang = plain() ? null : spoken();
  numbers = Object.keys(props.view).filter((key) => typeof props.view[key].default === "number");
  for (const key of numbers) KEYS[key] = (to, text) => { to.settings[key] = finite(text); };
  header.querySelector(".pv-copy").addEventListener("click", copy);
  document.addEventListener("pv:language", () => { here.lang = spoken(); later(); });
  document.addEventListener("pv:state", followInstrument);
  document.addEventListener("pv:controls", followControls);
  document.addEventListener("pv:arrived", giveControls);
  document.addEventListener("click", () => setTimeout(followTabs));
  window.addEventListener("hashchange", ({ newURL }) => apply(new URL(newURL).hash));
  watch(say);
  const instrument = instrumentOf(here.tab); // what it said before this module was here went unheard
  if (instrument?.ready) { remember(instrument.state()); later(); }
  // The tabs are drawn after the header; the address waits for them.
  const first = () => (document.querySelector('[role="tab"]') ? apply(location.hash) : requestAnimationFrame(first));
  first();
}
