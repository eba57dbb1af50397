// The opening film, and the projector: scenes over the whole window, one picture each, steered by keys or fingers.
import { fill, words } from "./language.js";
import { node, over, typeset } from "./page.js";

const SHARE = 50; // an arrow key moves the time by this part of the way
const FILM = { seconds: 6, until: 0.3 };
const SEEN = "pixelviz-seen"; // in the browser: the opening has been shown
const BASE = { gamma: 20, T: 200, floor: 0.004, schedule: "pixel-aware", ddpm: "rescaled" };

// What each shows: the instrument's views at a time, or (asks) a step of the lesson whose pictures Python makes.
const SCENES = [
  { key: "opening", views: ["ours", "ddpm"], example: "camera", t: 0 },
  { key: "two", views: ["image", "ours", "ddpm"], example: "camera", t: 0.1 },
  { key: "water", views: ["water"], example: "camera", t: 0.05 },
  { key: "cloud", views: ["cloud"], example: "camera", t: 0.05, selected: 2 },
  { key: "ahead", views: ["image", "ahead"], example: "camera", t: 0.5 },
  { key: "gap", views: ["ours", "gap"], example: "ankle-boot", t: 1 },
  { key: "scale", asks: "scale" },
  { key: "passes", asks: "passes" },
  { key: "diverge", asks: "diverge" },
];

/** @type {HTMLElement} */
let button;
/** @type {Record<string, any>} */
let door; // what start() was given: ask(step), home(), changed(on, scene)
/** @type {HTMLElement} */
let bar;
let at = -1, before = null, since = 0, ticking = 0;
const outcomes = {}; // of the steps that were asked for

const instrument = () => document.querySelector("#instrument .pv-instrument")?.pvInstrument;

// --- The scenes

function pictures(key) {
  const found = outcomes[key];
  if (!found) return [node("p", { role: "status" }, words().show.wait)];
  if (found.error) return [node("p", { role: "alert" }, found.error)];
  return found.outcome.pictures.map(({ key: name, source }) => {
    const figure = node("figure"), caption = node("figcaption"), text = fill(words().steps[key].pictures[name], found.outcome.numbers);
    caption.append(typeset(text));
    figure.append(node("img", { src: source, alt: text }), caption);
    return figure;
  });
}

async function draw() {
  const it = instrument(), scene = SCENES[at], { title, say } = words().scenes[scene.key];
  if (scene.asks && !outcomes[scene.asks]) door.ask(scene.asks);
  it.pause();
  it.scene(scene.views ?? [], { title, say, made: scene.asks ? pictures(scene.asks) : [], leave: () => present(false) });
  bar.querySelector("output").textContent = `${at + 1} / ${SCENES.length}`;
  bar.querySelector("[data-go='-1']").disabled = at === 0;
  bar.querySelector("[data-go='1']").disabled = at === SCENES.length - 1;
  // A picture of the lecturer's own stays; what the scenes need of settings is the same for all.
  if (scene.views) await it.set({ ...BASE, t: scene.t, selected: scene.selected ?? 0, ...(before.example === null ? {} : { example: scene.example }) });
}

/** The answer to what a scene asked for: { scene, outcome } or { scene, error }. */
export function answered(found) {
  outcomes[found.scene] = found;
  if (at >= 0 && SCENES[at].asks === found.scene) draw();
  if (found.error) delete outcomes[found.scene]; // asked again next time
}

function go(to) {
  if (at < 0 || to < 0 || to >= SCENES.length) return;
  at = to;
  draw();
  door.changed(true, at + 1);
}

function makeBar() {
  const texts = words().show, made = node("div", { class: "pv-show", role: "toolbar", "aria-label": texts.scenes });
  for (const [way, sign, name] of [[-1, "◀", texts.back], [1, "▶", texts.next]]) {
    const one = node("button", { type: "button", "data-go": way, "aria-label": name, title: name }, String(sign));
    one.addEventListener("click", () => go(at + Number(way)));
    made.append(one);
  }
  made.firstElementChild?.after(node("output"));
  const clock = node("time", { "aria-label": texts.clock, role: "timer" }), leave = node("button", { type: "button", class: "pv-show-leave" }, `✕ ${texts.leave}`);
  leave.addEventListener("click", () => present(false));
  made.append(clock, leave);
  const tick = () => { const passed = Math.floor((Date.now() - since) / 1000); clock.textContent = `${Math.floor(passed / 60)}:${String(passed % 60).padStart(2, "0")}`; };
  tick();
  ticking = setInterval(tick, 1000);
  return made;
}

/** Turns it on (at a scene, from 1) or off; without `on`, to the other. */
export async function present(on = at < 0, scene = 1) {
  if (on === at >= 0) return on ? go(Math.min(SCENES.length, scene) - 1) : undefined;
  button.setAttribute("aria-pressed", String(on));
  if (!on) {
    at = -1;
    clearInterval(ticking);
    bar.remove();
    instrument().scene(null);
    const { example, ...settings } = before; // an upload has no name, and is still there
    instrument().set(example === null ? settings : before);
    door.changed(false, null);
    button.focus();
    return;
  }
  const it = await door.home();
  if (at >= 0) return;
  before = it.state();
  since = Date.now();
  bar = makeBar();
  over(bar);
  at = Math.min(SCENES.length, Math.max(1, scene)) - 1;
  draw();
  door.changed(true, at + 1);
}

// --- The opening

const TOUCHES = ["pointerdown", "keydown", "wheel"];
let touched = false; // the visitor has begun with something already
for (const name of TOUCHES) document.addEventListener(name, () => { touched = true; }, { capture: true, once: true, passive: true });

/** On a first visit: six seconds of two processes, which any touch stops; then what was seen, and a way on. */
export async function opening() {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || touched) return;
  try {
    if (localStorage.getItem(SEEN)) return;
    localStorage.setItem(SEEN, "0"); // whether a browser keeps anything: else it would come on every visit
    localStorage.removeItem(SEEN);
  } catch { return; }
  const it = await door.home(), texts = words();
  if (touched) return; // who was quicker than the film is not called back
  localStorage.setItem(SEEN, "1");
  const on = node("button", { type: "button", class: "pv-try" }, texts.show.try);
  let running = true, start = 0;
  const leave = () => { stop(); it.scene(null); it.set({ t: 0.1 }); };
  on.addEventListener("click", leave);
  on.dataset.asks = "true"; // the answer has its place from the start, unseen, so that nothing moves when it comes
  it.scene(["ours", "ddpm"], { ...texts.scenes.opening, made: [on], leave });
  function stop() {
    if (!running) return;
    running = false;
    for (const name of TOUCHES) document.removeEventListener(name, stop, true);
    delete on.dataset.asks;
  }
  await it.set({ ...BASE, example: SCENES[0].example, t: 0 });
  for (const name of TOUCHES) document.addEventListener(name, stop, true);
  const play = (now) => {
    if (!running) return;
    start ||= now;
    const share = Math.min(1, (now - start) / (1000 * FILM.seconds));
    it.set({ t: FILM.until * share });
    if (share < 1) requestAnimationFrame(play); else stop();
  };
  requestAnimationFrame(play);
}

// --- Keys

const KEYS = {
  ArrowRight: (fine) => { const i = instrument(); i?.step(fine ? 1 : Math.max(1, Math.round(i.state().T / SHARE))); },
  ArrowLeft: (fine) => { const i = instrument(); i?.step(fine ? -1 : -Math.max(1, Math.round(i.state().T / SHARE))); },
  " ": () => { const i = instrument(); if (i) i.state().playing ? i.pause() : i.play(); },
  n: () => go(at + 1),
  b: () => go(at - 1),
  Escape: () => present(false),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const on = event.target, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const typing = on.isContentEditable || (on.matches?.("input, textarea, select") && !["range", "radio", "checkbox"].includes(on.getAttribute("type")));
  if (typing) return;
  if (key === "p") { event.preventDefault(); present(); return; }
  if (at < 0 || !KEYS[key]) return;
  // A focused control keeps the keys that are its own.
  if (key === " " && on.matches?.("button, summary, input, a") && !on.matches(".pvi-leave, .pv-show *")) return;
  if (key.startsWith("Arrow") && on.matches?.("input")) return;
  event.preventDefault();
  KEYS[key](event.shiftKey);
}

/**
 * Takes the header's button and the page's keys.
 * @param {HTMLElement} header
 * @param {Record<string, any>} given ask(step); home(), the instrument once it is on the screen;
 *   changed(on, scene)
 */
export function start(header, given) {
  button = header.querySelector(".pv-present");
  door = given;
  button.addEventListener("click", () => present());
  document.addEventListener("keydown", pressed);
}
