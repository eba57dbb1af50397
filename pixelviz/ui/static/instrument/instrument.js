// The instrument: state, what follows from it, one drawing an animation frame, and the door for scripts (`pvInstrument`).
// Python sends x0 once a picture and the noise once a seed; everything else happens here, by process.js.
import { fill, named, spoken, words } from "../language.js";
import { decade, decimal, follow, node } from "../page.js";
import { uploads } from "../upload.js";
import { controls as makeControls } from "./controls.js";
import { cloud as makeCloud } from "./cloud.js";
import { curves as makeCurves } from "./curves.js";
import { readRate } from "./formula.js";
import { frames as makeFrames } from "./images.js";
import { large } from "./large.js";
import { palette } from "./plot.js";
import * as P from "./process.js";
import { theory, water as makeWater } from "./water.js";
import { telling } from "./words.js";

const WALK_SECONDS = 8; // from t = 0 to 1 at speed 1
const QUIET_STEP = 0.25; // seconds a step of the playing where less motion is wanted
const CURVE_WORK = 18_000; // levels times steps of the moment curves, so that gamma can be dragged over any picture
const OWN_RATE = "formula"; // the schedule whose rate the state's formula says
const quiet = window.matchMedia("(prefers-reduced-motion: reduce)");

/** @param {import("../page.js").Component} component */
export function mount({ element, props, trigger, watch }) {
  const host = element.querySelector(".pv-instrument");
  const MAX_PIXELS = props.colours.length;

  const titles = Object.fromEntries(props.schedules.map(([title, name]) => [name, title])), schedules = Object.keys(titles);
  /** The fields of Python's View by its own names, with its defaults, and what only the screen knows.
   *  @type {Record<string, any>} */
  const state = { picture: null, schedule: schedules[0], formula: props.formula.default, pair: [0, 1], example: null, playing: false, selected: 0, basic: Boolean(props.upload_id) };
  for (const [key, { default: value }] of Object.entries(props.view)) state[key] = value;
  const wished = { gamma: state.gamma }; // what the user asked for; T may not allow it now
  const waiting = new Map(); // request -> what to do when its picture is here
  let coming = null; // the example that was asked for last and is not here yet
  let files = null, returning = null; // uploads, and the one that is on its way back
  let asked = 0, picture = null, model = null, changed = {}, queued = false, last = null, lit = null, probe = null, nextChannel = 1;
  let colors = null;
  const noise = {};

  const clamp = (v, low, high) => Math.max(low, Math.min(high, v));
  const shown = () => host.getClientRects().length > 0; // a scene, which is fixed, has no offsetParent

  // --- Parts

  const act = {
    set: (partial) => api.set(partial), redraw: () => touch("pixels"), toggle: () => (state.playing ? api.pause() : api.play()),
    pause: () => api.pause(), step: (n) => api.step(n), light, select, remove, add,
    channel(c) {
      nextChannel = c;
      const at = state.pixels[state.selected];
      if (at) api.set({ pixels: state.pixels.map((p, k) => (k === state.selected ? [p[0], p[1], c] : p)) });
    },
  };
  const frames = makeFrames(host, props);
  const curves = makeCurves(host, props);
  const water = makeWater(host, () => frames.frames.image.canvas);
  const cloud = makeCloud(host);
  const controls = makeControls(host, props, act);
  const told = telling(host, controls.limits, props.adviser);
  const message = host.querySelector(".pvi-message");
  const captions = Object.fromEntries(["image", "ours", "ddpm", "ahead", "gap"].map((key) => [key, host.querySelector(`[data-view=${key}] figcaption span`)]));

  const views = [...host.querySelectorAll("[data-view]")];
  const away = new Set(); // views that the page is scrolled away from, or that are hidden: they are drawn when they come
  const seen = (key) => !away.has(key);

  // --- From state to numbers

  /** @param {number | null} k */
  function numbers(at, k = null) {
    const [row, col, channel] = at, { index, noise, rows, columns } = picture, place = (channel * rows + row) * columns + col;
    const x0 = model.x0[index[place]], eps = noise[place], { ours, i, ddpm } = model, { T } = state;
    const logs = { ours: ours.log(x0, i), ddpm: ddpm[i] };
    const rates = { ours: ours.rate(x0, i), ddpm: P.ddpmRate(ddpm, i) };
    const of = (m) => ({ log: logs[m], snr: P.snr(x0, logs[m]), rate: P.snrRate(x0, rates[m], logs[m]), x: Math.exp(logs[m] / 2) * x0 + Math.sqrt(-Math.expm1(logs[m])) * eps });
    return { k, row, col, channel, x0, eps, color: k === null ? null : props.colours[k], ours: of("ours"), ddpm: of("ddpm"), T };
  }

  function compute() {
    const { levels, counts, tallies } = picture, fresh = changed.picture || changed.process;
    if (changed.picture) {
      model = { picture, state, tables: { ours: P.table(levels.length), ddpm: P.table(levels.length) },
        ahead: new Uint8Array(levels.length), curves: {}, keys: {}, seen, noisy };
      for (const method of ["ours", "ddpm"]) noise[method] = { x: new Float32Array(picture.index.length), stale: true };
    }
    model.i = Math.round(state.t * state.T);
    model.t = model.i / state.T;
    const once = (name, key, make) => { if (model.keys[name] !== key) { model.keys[name] = key; make(); } };
    if (fresh) {
      once("x0", state.floor, () => { model.x0 = P.raised(levels, state.floor); });
      const by = `${state.gamma}|${state.T}|${state.schedule}|${state.schedule === OWN_RATE ? spoken() + state.formula : ""}`;
      once("process", by, process);
      once("ddpm", `${state.T}|${state.ddpm}`, () => { model.ddpm = P.ddpmTable(state.T, state.ddpm); });
      const { ours, ddpm, x0 } = model, { T } = state;
      const count = Math.min(T, clamp(Math.floor(CURVE_WORK / levels.length), 24, 72));
      const steps = [...new Set(Array.from({ length: count + 1 }, (_, k) => Math.round(T * (k / count) ** 1.6)))];
      once("ours", `${by}|${state.floor}`, () => { model.curves.ours = P.momentCurves(tallies, x0, steps, ours.log); });
      once("theirs", `${T}|${state.ddpm}|${state.floor}`, () => { model.curves.ddpm = P.momentCurves(tallies, x0, steps, (_, i) => ddpm[i]); });
      model.curves.t = steps.map((i) => i / T);
      model.gap = { ours: P.terminalGap(x0, counts, (x) => ours.log(x, T)), ddpm: P.terminalGap(x0, counts, () => ddpm[T]) };
      model.aheadAtEnd = share((x) => ours.log(x, T) < ddpm[T]);
    }
    if (fresh || changed.time) {
      const { x0, tables, ours, i, ddpm } = model, log = ddpm[i];
      P.marginal(x0, (x) => ours.log(x, i), tables.ours);
      P.marginal(x0, () => log, tables.ddpm);
      noise.ours.stale = noise.ddpm.stale = true;
      model.moments = Object.fromEntries(["ours", "ddpm"].map((m) => [m, tallies.map((channel) => P.moments(channel, tables[m]))]));
      for (let k = 0; k < x0.length; k++) model.ahead[k] = i > 0 && ours.log(x0[k], i) < log ? 1 : 0;
      model.aheadShare = share((_, k) => model.ahead[k]);
    }
    model.pixels = state.pixels.map((at, k) => numbers(at, k));
    const [a, b] = state.pair.map((k) => model.pixels[k]);
    model.tDelta = a && b ? P.crossing(a.x0, b.x0, state.gamma, model.ours) : null;
    const x0s = model.pixels.map((p) => p.x0);
    if (fresh || changed.pixels) model.changes = P.changesOfFastest(x0s, model.ours);
    model.fastest = model.i && x0s.length > 1 ? P.fastestAt(x0s, model.ours, model.i) : null;
    model.theory = model.i && model.pixels.length ? theory(model.pixels) : null;
    model.lit = lit !== null && lit < model.pixels.length ? lit : null;
    model.probe = probe;
    model.probed = probe ? numbers(probe) : null;
    model.channel = state.pixels[state.selected]?.[2] ?? nextChannel;
    model.marker = (k) => told.marker(k, model);
  }

  // A formula that is no rate is told beside it, and what was there goes on.
  function process() {
    const own = state.schedule === OWN_RATE;
    try {
      model.ours = P.oursBy(state.schedule, state.T, state.gamma, own ? readRate(state.formula, state.gamma) : null);
      model.fault = "";
    } catch (error) {
      model.fault = /** @type {Error} */ (error).message;
      if (!model.ours || model.ours.T !== state.T) model.ours = P.oursBy(schedules[0], state.T, state.gamma);
    }
  }

  // x_t of every value, by one method; computed when the first view asks for it.
  function noisy(method) {
    const one = noise[method];
    if (one.stale) { P.noised(picture, model.tables[method], one.x); one.stale = false; }
    return one.x;
  }

  // Share of all values whose level satisfies `holds(x0, level)`.
  function share(holds) {
    let found = 0, all = 0;
    picture.counts.forEach((n, k) => { all += n; if (holds(model.x0[k], k)) found += n; });
    return found / all;
  }

  // --- Drawing

  function touch(...reasons) {
    for (const reason of reasons) changed[reason] = true;
    if (!queued && picture) { queued = true; requestAnimationFrame(draw); }
  }

  function draw(now) {
    queued = false;
    if (state.playing) advance(now);
    const whole = changed;
    const moved = whole.picture || whole.process || whole.time;
    compute();
    changed = {};
    if (!colors) { colors = palette(host); colors.other = colors.dark ? "#f6c45c" : "#a85a08"; }
    if (moved || whole.look) frames.draw(model, whole.look ? { ...whole, picture: true } : whole);
    frames.mark(model, dragging);
    curves.draw(model, whole.look ? { ...whole, picture: true } : whole, colors);
    water.draw(model, whole, colors);
    cloud.draw(model, whole, colors);
    told.draw(model, whole);
    host.classList.toggle("pvi-basic", state.basic);
    controls.draw(model, wished);
    const texts = words().instrument;
    caption("ahead", model.i ? fill(texts.ahead_share, { share: (100 * model.aheadShare).toFixed(0) }) : texts.ahead_none);
    caption("gap", fill(texts.nats, { n: decimal(Number(model.gap.ours.mean.toPrecision(3))) }));
    caption("ours", state.schedule === schedules[0] ? "" : named(titles[state.schedule]));
    if (whole.picture) caption("image", `${picture.columns} × ${picture.rows}`);
    const first = !api.ready;
    api.ready = true;
    if (first) host.dispatchEvent(new CustomEvent("pv:ready", { bubbles: true }));
    if (moved || whole.pixels) host.dispatchEvent(new CustomEvent("pv:state", { bubbles: true, detail: api.state() }));
    if (state.playing) touch("time");
  }
  const caption = (key, text) => { if (captions[key].textContent !== text) captions[key].textContent = text; };

  function advance(now) {
    if (!shown()) { state.playing = false; return; }
    const passed = last === null ? 0 : Math.min(0.1, (now - last) / 1000);
    if (quiet.matches && last !== null && now - last < 1000 * QUIET_STEP) return;
    last = now;
    state.t = Math.min(1, state.t + ((quiet.matches ? QUIET_STEP : passed) * controls.speed()) / WALK_SECONDS);
    if (state.t >= 1) state.playing = false;
  }

  // --- The hand

  function light(k) { if (lit !== k) { lit = k; touch("focus"); } }
  function point(at) {
    const found = at ? state.pixels.findIndex(([row, col]) => row === at[0] && col === at[1]) : -1;
    probe = at && found < 0 ? [...at, Math.min(model.channel, picture.channels - 1)] : null;
    lit = found < 0 ? null : found;
    touch("focus");
  }
  function select(k) { state.selected = clamp(k, 0, Math.max(0, state.pixels.length - 1)); touch("focus"); }
  function remove(k) {
    const pixels = state.pixels.filter((_, n) => n !== k);
    lit = null;
    api.set({ pixels });
    select(Math.min(state.selected, pixels.length - 1));
  }
  // The oldest pixel gives way to one too many.
  function pick(at) {
    const pixels = [...state.pixels.filter((p) => String(p) !== String(at)), at].slice(-MAX_PIXELS);
    api.set({ pixels });
    select(pixels.length - 1);
  }
  function add() {
    const { rows, columns, channels } = picture, channel = Math.min(model.channel, channels - 1);
    const grid = [0.5, 0.25, 0.75].flatMap((y) => [0.5, 0.25, 0.75].map((x) => [Math.floor(rows * y), Math.floor(columns * x), channel]));
    const free = [...picture.suggested, ...grid].find((at) => !state.pixels.some((p) => p[0] === at[0] && p[1] === at[1]));
    if (free) pick(free);
  }

  for (const frame of Object.values(frames.frames)) {
    frame.box.addEventListener("pointermove", (event) => { if (picture && event.target === frame.canvas) point(frames.at(frame, event, picture)); });
    frame.box.addEventListener("pointerleave", () => picture && point(null));
    frame.canvas.addEventListener("click", (event) => {
      if (!picture) return;
      pick([...frames.at(frame, event, picture), Math.min(model.channel, picture.channels - 1)]);
      point(null);
    });
  }

  // A marker: drag it, or move it with the arrow keys.
  function dragging(node, k) {
    const to = (row, col) => api.set({ pixels: state.pixels.map((p, n) => (n === k ? [clamp(row, 0, picture.rows - 1), clamp(col, 0, picture.columns - 1), p[2]] : p)) });
    node.addEventListener("pointerenter", () => light(k));
    node.addEventListener("pointerleave", () => light(null));
    node.addEventListener("focus", () => { select(k); light(k); });
    node.addEventListener("blur", () => light(null));
    node.addEventListener("pointerdown", (event) => { node.setPointerCapture(event.pointerId); probe = null; });
    node.addEventListener("pointermove", (event) => {
      if (!node.hasPointerCapture(event.pointerId) || !(event.buttons & 1)) return;
      const [row, col] = frames.at(frames.frames.image, event, picture);
      if (row !== state.pixels[k][0] || col !== state.pixels[k][1]) to(row, col);
    });
    node.addEventListener("keydown", (event) => {
      const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (way) to(state.pixels[k][0] + way[0] * (event.shiftKey ? 10 : 1), state.pixels[k][1] + way[1] * (event.shiftKey ? 10 : 1));
      else if (event.key === "Delete" || event.key === "Backspace") { remove(k); (frames.frames.image.marks[Math.min(k, state.pixels.length - 1)] || host.querySelector(".pvi-add")).focus(); }
      else return;
      event.preventDefault(); event.stopPropagation(); // else a key that steps time somewhere else would do so too
    });
  }

  const scrub = (event) => {
    const found = model && curves.under(event, model);
    if (!found) return;
    if (event.buttons & 1 && found.t !== null) { api.pause(); api.set({ t: found.t }); }
    else light(found.pixel);
  };
  curves.canvas.addEventListener("pointerdown", (event) => { curves.canvas.setPointerCapture(event.pointerId); scrub(event); const found = curves.under(event, model); if (found?.pixel !== null && found) select(found.pixel); });
  curves.canvas.addEventListener("pointermove", scrub);
  curves.canvas.addEventListener("pointerleave", () => light(null));
  water.canvas.addEventListener("pointermove", (event) => model && light(water.under(event, model)));
  water.canvas.addEventListener("pointerleave", () => light(null));
  const stand = host.querySelector(".pvi-stand");
  stand.addEventListener("click", () => {
    const on = stand.getAttribute("aria-pressed") !== "true";
    stand.setAttribute("aria-pressed", String(on));
    water.stand(on);
    touch("look");
  });
  host.querySelector(".pvi-large").addEventListener("click", () => api.scene(["water"]));
  host.querySelector(".pvi-more").addEventListener("click", () => api.set({ basic: !state.basic }));
  host.querySelector(".pvi-numbers tbody").addEventListener("pointerover", (event) => { const row = event.target.closest("tr"); if (row) light([...row.parentElement.children].indexOf(row)); });
  host.querySelector(".pvi-numbers tbody").addEventListener("pointerleave", () => light(null));

  // --- The door for scripts, the lesson and the address

  const number = (v) => typeof v === "number" && Number.isFinite(v);
  function fitGamma() {
    const { min, max, step } = controls.limits.gamma;
    state.gamma = state.T > 1 && wished.gamma >= state.T ? Math.max(Math.min(min, state.T / 2), state.T - step) : clamp(wished.gamma, min, max);
  }

  const api = {
    ready: false,
    /** @type {ReturnType<typeof large>} */
    scene: () => {},
    state() {
      const told = structuredClone(state);
      delete told.selected;
      return told;
    },
    set(partial) {
      const { T, floor, gamma } = controls.limits, of = () => JSON.stringify([state.gamma, state.T, state.floor, state.schedule, state.formula, state.ddpm]), before = of();
      if (number(partial.T)) state.T = Math.round(clamp(partial.T, T.min, T.max));
      if (number(partial.gamma)) wished.gamma = clamp(partial.gamma, gamma.min, gamma.max);
      fitGamma();
      if (number(partial.floor)) state.floor = clamp(partial.floor, floor.min, floor.max);
      if (typeof partial.schedule === "string" && schedules.includes(partial.schedule)) state.schedule = partial.schedule;
      if (typeof partial.formula === "string") state.formula = partial.formula.slice(0, props.formula.longest);
      if (Object.hasOwn(props.ranges, partial.ddpm)) state.ddpm = partial.ddpm;
      if (typeof partial.basic === "boolean") { state.basic = partial.basic; touch("pixels"); }
      if (before !== of()) touch("process");
      if (number(partial.crop)) { state.crop = clamp(partial.crop, 0, 1); touch("pixels"); }
      if (number(partial.t)) { state.t = clamp(partial.t, 0, 1); touch("time"); }
      const other = partial.example !== undefined && partial.example !== (coming ?? state.example) && (props.examples || []).some(([id]) => id === partial.example);
      const noise = number(partial.seed) && Number.isInteger(partial.seed) && partial.seed >= props.view.seed.min && partial.seed <= props.view.seed.max && partial.seed !== state.seed;
      // Pixels for a picture that is still to come wait for it.
      if (Array.isArray(partial.pixels) && !other && picture) setPixels(partial.pixels, partial.pair);
      else if (Array.isArray(partial.pair)) setPair(partial.pair);
      if (typeof partial.playing === "boolean" && partial.playing !== state.playing) { if (partial.playing) api.play(); else api.pause(); }
      if (Number.isInteger(partial.selected)) select(partial.selected);
      touch("focus");
      if (returning && !other && !picture) return returning.then(() => api.set(partial));
      return other || noise || !picture
        ? ask(other ? partial.example : undefined, noise ? partial.seed : state.seed, partial.pixels && { pixels: partial.pixels, pair: partial.pair })
        : Promise.resolve(api.state());
    },
    show(keys) {
      for (const view of views) view.hidden = !!keys && !keys.includes(view.dataset.view);
      for (const row of host.querySelectorAll(".pvi-row")) {
        const count = [...row.children].filter((child) => !child.hidden).length;
        row.hidden = !count;
        row.dataset.n = count;
      }
      host.classList.toggle("pvi-some", !!keys);
      touch("look");
    },
    highlight(key) {
      for (const view of views) view.classList.toggle("pvi-look", view.dataset.view === key);
      host.querySelector(".pvi-look")?.scrollIntoView({ block: "nearest", behavior: quiet.matches ? "auto" : "smooth" });
    },
    play() {
      if (state.t >= 1) state.t = 0;
      state.playing = true; last = null;
      touch("time");
    },
    pause() { if (state.playing) { state.playing = false; touch("time"); } },
    step(n) { return api.set({ t: (Math.round(state.t * state.T) + n) / state.T }); },
  };

  function setPair(pair) {
    const usable = pair.length === 2 && pair.every((k) => Number.isInteger(k) && k >= 0 && k < state.pixels.length) && pair[0] !== pair[1];
    if (usable) { state.pair = [...pair]; touch("pixels"); }
  }
  function setPixels(list, pair) {
    const { rows, columns, channels } = picture, before = state.pixels.length;
    state.pixels = list.filter((p) => Array.isArray(p) && p.length >= 2 && p.every(number)).slice(0, MAX_PIXELS)
      .map(([row, col, channel = 0]) => [Math.round(clamp(row, 0, rows - 1)), Math.round(clamp(col, 0, columns - 1)), Math.round(clamp(channel, 0, channels - 1))]);
    const count = state.pixels.length;
    // t_delta is that of the last two while pixels come and go, unless a pair is asked for.
    if (count !== before || state.pair.some((k) => k >= count)) state.pair = count > 1 ? [count - 2, count - 1] : [0, 1];
    state.selected = clamp(state.selected, 0, Math.max(0, count - 1));
    if (Array.isArray(pair)) setPair(pair);
    touch("pixels");
  }

  // --- Pictures from the server

  function ask(example, seed, then) {
    return new Promise((resolve) => {
      asked += 1;
      coming = example ?? coming;
      waiting.set(asked, { resolve, then });
      trigger("input", { example: coming ?? (picture ? null : props.first), picture: state.picture, seed, request: asked });
    });
  }
  // What the page shows without being asked: the uploaded picture that it had before, or the first example.
  async function first() {
    returning = files?.back();
    await returning;
    returning = null;
    if (!picture) ask(props.first, state.seed);
  }
  function answered(request, useful) {
    if (request >= asked) coming = null;
    for (const [key, { resolve }] of waiting) if (key <= request) { waiting.delete(key); resolve(api.state()); }
    if (!useful) controls.settled(state.seed);
  }

  function receive(next) {
    if (typeof next.request === "number" && next.request < asked) return; // a later question is under way
    message.hidden = !next.error;
    message.textContent = next.error || "";
    if (next.error) files?.refused(); else if ("index" in next) files?.shown(next.example);
    if (next.error) return answered(next.request, false);
    const whole = "index" in next, other = next.picture !== state.picture;
    if (other && !whole) return void ask(null, next.seed); // noise for a picture that has gone meanwhile
    state.seed = next.seed;
    if (whole) {
      picture = { ...P.decode(next), suggested: next.suggested };
      state.example = next.example; state.picture = next.picture;
      frames.fit(picture);
      const notes = host.querySelector(".pv-notes");
      notes.hidden = !next.notes.length;
      notes.replaceChildren(...next.notes.map((note) => node("li", {}, note)));
    } else picture = P.renoised(picture, next.noise);
    const { then } = waiting.get(next.request) || {};
    lit = probe = null;
    touch("picture");
    if (then) setPixels(then.pixels, then.pair);
    else if (other) { state.selected = 0; setPixels(next.suggested, [next.suggested.length - 2, next.suggested.length - 1]); }
    host.querySelector(".pvi-body").hidden = false;
    host.querySelector(".pvi-empty").hidden = true;
    answered(next.request, true);
  }

  // --- The page around

  let drawnWidth = 0; // its height changes with every line of text
  new ResizeObserver(() => {
    const width = host.clientWidth;
    if (!width || width === drawnWidth) return;
    drawnWidth = width;
    const size = width >= 900 ? "wide" : width >= 560 ? "mid" : "narrow";
    if (host.dataset.size !== size) host.dataset.size = size;
    touch("look");
  }).observe(host);
  const resized = new ResizeObserver(() => touch("look"));
  host.querySelectorAll("canvas[data-chart]").forEach((canvas) => resized.observe(canvas));
  const looking = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) away[isIntersecting ? "delete" : "add"](target.getAttribute("data-view"));
    if (entries.some((entry) => entry.isIntersecting)) touch("look");
  }, { rootMargin: "120px" });
  views.forEach((view) => looking.observe(view));
  new MutationObserver(() => { colors = null; touch("look"); }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  if (props.upload_id) {
    const said = new URLSearchParams(location.hash.slice(1));
    files = uploads(element, props.upload_id, shown, said.has("image") && said.get("tab") !== "lesson"); // the lesson has its own
    const box = host.querySelector(".pvi-upload");
    box.hidden = false;
    box.querySelector("button").addEventListener("click", files.open);
  }
  const bar = (colours) => node("i", { class: "pvi-bar", style: `background: linear-gradient(to right, ${colours.join(", ")})` });
  const keys = { signed: host.querySelector("[data-key=signed]"), ahead: host.querySelector("[data-key=ahead]"), heat: host.querySelector("[data-key=heat]") };
  keys.signed.append("− ", bar(frames.legend.signed), " +");
  keys.heat.append(decade(frames.legend.decades[0]), " ", bar(frames.legend.heat), " ", node("span", { "data-word": "instrument.heat_end" }));
  keys.ahead.append(node("i", { class: "pvi-swatch", style: `background: ${frames.colours.ours}` }), " ", node("span", { "data-word": "instrument.key_ours" }), " ",
    node("i", { class: "pvi-swatch", style: `background: repeating-linear-gradient(135deg, ${frames.colours.hatch} 0 2px, ${frames.colours.ddpm} 2px 6px)` }), " ", node("span", { "data-word": "instrument.key_ddpm" }));

  document.addEventListener("pv:language", () => { controls.speak(); touch("process", "look"); });

  api.scene = large(host, api.show);
  host.pvInstrument = api;
  api.show(null);
  follow({ props, watch }, (next) => { if (next && (picture || next.index || next.error)) receive(next); else first(); });
}
