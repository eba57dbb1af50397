// The lesson: predict, see, explain. Runs beside the instrument #lesson-instrument, through its `pvInstrument`.
// props.plan: see lesson.py's `plan`. value: { step, outcome } or { step, error }, or { answers } for the teacher.
// Events: `input` and `submit` with a step's key (the latter where a network runs), `select` for the answers.
import * as address from "./address.js";
import { ddpmTable, logBar, snr } from "./instrument/process.js";
import { decimal, follow, node, typeset } from "./page.js";
import { chart, markup } from "./plot_widget.js";

const STORE = "pixelviz-lesson";
const CALM = matchMedia("(prefers-reduced-motion: reduce)");

/** @param {import("./page.js").Component} component */
export function mount({ element, props, trigger, watch }) {
  const { steps, exercises, languages } = props.plan;
  const END = steps.length; // the closing page comes after the last step

  const remembered = () => { try { return JSON.parse(sessionStorage.getItem(STORE) || "{}"); } catch { return {}; } };
  let choices = remembered(); // step's key to the option committed to
  let outcomes = {}; // step's key to { outcome } or { error }
  let answers = null; // the teacher's
  let at = 0, language = "en", page = null, waiting = null, requests = 0, held = null, sweep = null, shown = null;

  const find = (id) => document.getElementById(id);
  const fill = (text, numbers) => text.replace(/\{(\w+)\}/g, (whole, key) => (key in numbers ? numbers[key] : whole));
  const words = () => languages[language];
  const ui = (key, numbers = {}) => fill(words().ui[key], numbers);
  // An element with typeset text and children.
  const make = (name, attributes, text, ...children) => {
    const made = node(name, attributes);
    if (text) made.append(typeset(text));
    made.append(...children);
    return made;
  };
  const button = (text, act, attributes = {}) => {
    const made = make("button", { type: "button", ...attributes }, text);
    made.addEventListener("click", act);
    return made;
  };
  const answered = (step) => step.key in choices && outcomes[step.key];
  const right = (step) => outcomes[step.key]?.outcome?.answer === choices[step.key];

  const column = () => find("lesson-stage").closest(".pv-lesson-stage");
  const stacked = () => column().getBoundingClientRect().bottom <= element.getBoundingClientRect().top;
  const scroll = (to, block) => to.scrollIntoView({ block, behavior: CALM.matches ? "auto" : "smooth" });

  // --- The instrument

  const instrument = () => document.querySelector("#lesson-instrument .pv-instrument")?.pvInstrument;
  const whenReady = (act) => {
    const found = instrument();
    if (found?.ready) act(found);
    else document.addEventListener("pv:ready", () => whenReady(act), { once: true });
  };

  function run(from, until) {
    sweep = null;
    if (CALM.matches) { from.set({ t: until }); return; }
    sweep = until;
    from.play();
  }

  async function stage(step, view, wake) {
    const mine = (shown = {}); // of several calls in a row, only the last one acts
    column().dataset.shows = view ? "instrument" : "result";
    find("lesson-instrument").inert = !wake;
    find("lesson-asleep").hidden = wake;
    if (!view) return;
    sweep = null;
    whenReady(async (it) => {
      if (mine !== shown) return;
      it.pause();
      it.show(view.views);
      it.highlight(wake ? view.look : null);
      await it.set({ ...step.settings, t: view.t });
      if (mine !== shown || !wake) return;
      if (held) { const asked = held; held = null; await address.set(it, asked); } // a link's own view of this step
      else if (view.until !== null) run(it, view.until);
    });
  }

  document.addEventListener("pv:state", (event) => {
    if (event.target.pvInstrument !== instrument()) return;
    if (sweep !== null && event.detail.t >= sweep) { const t = sweep; sweep = null; event.target.pvInstrument.pause(); event.target.pvInstrument.set({ t }); }
    live(event.detail);
  });

  // The chosen pixels' numbers at the time shown; only while they are the step's own pixels.
  function live(state) {
    const table = element.querySelector(".pv-lesson-live"), step = steps[at];
    if (!table || !state) return;
    const same = JSON.stringify(state.pixels) === JSON.stringify(step.settings.pixels);
    table.hidden = !same;
    if (!same) return;
    const { floor, gamma, T } = state, i = Math.round(state.t * T);
    const ddpm = ddpmTable(T, state.ddpm)[i];
    const head = node("tr");
    head.append(...["pixel", "x0", "snr_ours", "snr_ddpm", "variance"].map((key) => make("th", { scope: "col" }, ui(key))));
    const rows = step.values.map((value, k) => {
      const x0 = floor + (1 - floor) * value, log = logBar(x0, gamma, i / T);
      const row = make("tr", {}, "", make("th", { scope: "row" }, String(k + 1)));
      row.append(...[x0, snr(x0, log), snr(x0, ddpm), -Math.expm1(log)].map((v) => node("td", {}, decimal(Number(v.toPrecision(3))))));
      return row;
    });
    const caption = node("caption", {}, ui("now", { t: decimal(Number((i / T).toPrecision(3))) }));
    table.replaceChildren(make("table", {}, "", caption, head, ...rows));
  }

  // --- The card

  function progress() {
    const items = steps.map((step, k) => {
      const mark = !answered(step) || outcomes[step.key].error ? "open" : right(step) ? "right" : "wrong";
      const label = ui(`step_${mark}`, { k: k + 1, title: words().steps[step.key].title });
      const made = button({ open: String(k + 1), right: "✓", wrong: "✗" }[mark], () => go(k), { "aria-label": label, title: label, "data-mark": mark });
      if (k === at) made.setAttribute("aria-current", "step");
      return make("li", {}, "", made);
    });
    const last = button("★", () => go(END), { "aria-label": ui("closing_open"), title: ui("closing_open") });
    if (at === END) last.setAttribute("aria-current", "step");
    return make("ol", { class: "pv-lesson-progress", "aria-label": ui("progress") }, "", ...items, make("li", {}, "", last));
  }

  function chooser() {
    const select = node("select", { "aria-label": ui("choose_language") });
    for (const [code, texts] of Object.entries(languages)) {
      const option = node("option", { value: code, lang: code }, texts.language);
      option.selected = code === language;
      select.append(option);
    }
    select.addEventListener("change", () => speak(select.value));
    return select;
  }

  function question(step, text) {
    const done = step.key in choices, field = node("fieldset", done ? { disabled: "" } : {});
    field.append(make("legend", {}, fill(text.question, step.given)));
    step.options.forEach((option) => {
      const radio = node("input", { type: "radio", name: "pv-lesson-choice", value: option });
      radio.checked = choices[step.key] === option;
      const outcome = outcomes[step.key]?.outcome;
      const mark = !done || !outcome ? "" : option === outcome.answer ? "true" : radio.checked ? "false" : "";
      const sign = node("i", { "aria-hidden": "true" }, { true: "✓", false: "✗", "": "" }[mark]);
      field.append(make("label", { "data-mark": mark }, "", radio, make("span", {}, fill(text.options[option], step.given)), sign));
    });
    return field;
  }

  function explanation(step, text) {
    const { outcome, error } = outcomes[step.key];
    if (error) return [make("p", { class: "pv-alert pv-info", role: "status", tabindex: "-1" }, ui("error", { message: error }))];
    const hit = right(step), numbers = outcome.numbers, made = [];
    const verdict = make("p", { class: `pv-alert ${hit ? "pv-good" : "pv-info"} pv-lesson-verdict`, role: "status", tabindex: "-1" });
    verdict.append(node("b", {}, `${hit ? "✓" : "✗"} ${ui(hit ? "right" : "wrong")}`), " ");
    if (!hit) verdict.append(typeset(ui("true_is", { answer: fill(text.options[outcome.answer], numbers) })));
    made.push(verdict, make("h3", {}, ui("explain")), ...text.explain.map((line) => make("p", {}, fill(line, numbers))));
    if (step.see) {
      const tries = step.tries.map(({ key, state }) => button(fill(text.tries[key], numbers), () => whenReady((it) => {
        shown = sweep = null; // a hand comes before what was still to be shown
        it.pause();
        it.set(state);
      })));
      if (tries.length) made.push(make("div", { class: "pv-lesson-tries", role: "group", "aria-label": ui("try") }, "", make("span", {}, ui("try")), ...tries));
      made.push(node("div", { class: "pv-lesson-live pv-table" }));
    }
    return made;
  }

  function stepCard(step) {
    const text = words().steps[step.key], done = step.key in choices;
    const body = [
      make("p", { class: "pv-lesson-count" }, ui("step", { k: at + 1, n: END })),
      make("h2", { tabindex: "-1" }, text.title),
      ...text.set_up.map((line) => make("p", {}, fill(line, step.given))),
      question(step, text),
    ];
    if (!done) {
      const hint = node("p", { class: "pv-lesson-hint", role: "status" });
      const commit = button(ui("commit"), () => {
        const chosen = element.querySelector("[name=pv-lesson-choice]:checked");
        if (chosen) decide(step, chosen.value); else hint.textContent = ui("choose_first");
      }, { class: "pv-lesson-commit" });
      body.push(commit, hint);
      if (step.network) body.push(make("p", { class: "pv-lesson-hint" }, ui("network")));
    } else if (!outcomes[step.key]) body.push(make("p", { class: "pv-lesson-hint", role: "status" }, ui("working")));
    else body.push(...explanation(step, text));
    return body;
  }

  function closingCard() {
    const text = words().closing, asked = steps.filter((step) => step.key in choices && !outcomes[step.key]?.error);
    const open = steps.filter((step) => !(step.key in choices)).length;
    const body = [make("h2", { tabindex: "-1" }, text.title)];
    body.push(make("p", { class: "pv-lesson-score" }, asked.length ? fill(text.score, { right: asked.filter(right).length, asked: asked.length }) : text.none));
    if (open) body.push(make("p", {}, fill(text.rest, { n: open })));
    const list = make("ol", { class: "pv-lesson-marks" }, "", ...steps.map((step) => {
      const sign = !answered(step) || outcomes[step.key].error ? "–" : right(step) ? "✓" : "✗";
      return make("li", {}, "", node("b", {}, sign), " ", make("span", {}, words().steps[step.key].title));
    }));
    body.push(list, make("p", {}, text.what_now));
    body.push(button(text.again, () => { choices = {}; outcomes = {}; save(); go(0); }, { class: "pv-lesson-commit" }));
    return body;
  }

  function render() {
    const body = at === END ? closingCard() : stepCard(steps[at]);
    const back = button(ui("back"), () => go(at - 1), { "data-press": "back" });
    const next = button(ui(at === END - 1 ? "finish" : "next"), () => go(at + 1), { "data-press": "next" });
    back.disabled = at === 0;
    next.disabled = at === END;
    const foot = make("div", { class: "pv-lesson-foot" }, "",
      button(ui("exercises"), () => open("exercises")), button(ui("teacher"), () => open("teacher")));
    element.querySelector(".pv-lesson").replaceChildren(
      make("div", { class: "pv-lesson-head" }, "", progress(), chooser()),
      make("div", { class: "pv-lesson-body" }, "", ...body),
      make("div", { class: "pv-lesson-nav" }, "", back, next), foot);
    element.querySelector(".pv-lesson").lang = language;
    element.querySelector(".pv-lesson").dataset.answered = String(at < END && steps[at].key in choices);
    find("lesson-asleep").textContent = ui("hidden");
    find("lesson-asleep").lang = language;
    find("lesson-intro").textContent = words().intro;
    find("lesson-intro").lang = language;
    const it = instrument();
    if (it?.ready) live(it.state());
  }

  // --- What a network or a recursion made, in place of the instrument

  function result(step) {
    const host = find("lesson-stage"), outcome = outcomes[step.key]?.outcome;
    host.replaceChildren();
    host.lang = language;
    if (!outcome) return;
    const text = words().steps[step.key];
    if (outcome.pictures.length) {
      const sheet = node("div", { class: "pv-figures", "data-wide": String(outcome.pictures.length < 3) });
      for (const { key, source } of outcome.pictures) {
        const caption = fill(text.pictures[key], outcome.numbers);
        sheet.append(make("figure", {}, "", node("img", { src: source, alt: caption }), make("figcaption", {}, caption)));
      }
      host.append(sheet);
    }
    if (outcome.figure) {
      const box = node("div");
      host.append(box);
      chart(box).draw(inWords(outcome.figure, text.curves));
    }
  }

  // A figure whose curves are named by key, in the words of the language.
  function inWords(figure, names) {
    const { data, layout } = structuredClone(figure), { meta, xaxis, yaxis } = layout, x = ui("chart_x");
    const [first, ...curves] = meta.head.map((key, k) => (k ? names[key] : x));
    Object.assign(meta, { head: [first, ...curves], label: curves.map((name, k) => `${name}: ${meta.rows[0][k + 1]}`).join("; ") });
    data.forEach((trace, k) => { trace.name = markup(curves[k]); });
    xaxis.title.text = markup(x);
    xaxis.unifiedhovertitle.text = `<b>${markup(x)}: %{x}</b>`;
    yaxis.title.text = markup(ui("chart_y"));
    return { data, layout };
  }

  // --- Pages to print

  function open(name) {
    page = name;
    find("lesson-row").hidden = !!name;
    find("lesson-page").hidden = !name;
    if (!name) { go(at); return; }
    if (name === "teacher") trigger("select", { request: ++requests });
    paper();
    find("lesson-page").querySelector("h2").focus();
  }

  function exerciseList(withAnswers) {
    const texts = words().exercises;
    return make("ol", {}, "", ...exercises.map(({ key, given, view }) => {
      const text = texts[key], item = make("li", {}, "", make("h3", {}, text.title));
      if (withAnswers) {
        const numbers = answers?.exercises[key];
        item.append(make("p", {}, numbers ? fill(text.answer, numbers) : ui("working")));
        return item;
      }
      item.append(make("p", {}, fill(text.do, given)), make("p", {}, fill(text.find, given)));
      item.append(make("a", { href: address.hash({ tab: view ? "forward" : "generate", ...view }) }, ui("open_view")));
      return item;
    }));
  }

  function teacherBody() {
    const text = words().teacher_page, total = steps.reduce((sum, step) => sum + step.minutes, 0);
    const list = make("ol", {}, "", ...steps.map((step) => {
      const own = words().steps[step.key], found = answers?.steps[step.key];
      const numbers = { ...step.given, ...(found?.numbers || {}) };
      const answer = !found ? ui("working") : found.error || fill(own.options[found.answer], numbers);
      const item = make("li", {}, "", make("h3", {}, `${own.title} (${fill(text.minutes, { minutes: step.minutes })})`));
      const facts = node("dl");
      const rows = [["answer", answer], ["point_at", own.point_at], ["misconception", own.misconception]];
      for (const [key, line] of rows) facts.append(make("dt", {}, text[key]), make("dd", {}, fill(line, numbers)));
      item.append(make("p", {}, fill(own.question, step.given)), facts);
      if (found?.numbers) item.append(...own.explain.map((line) => make("p", {}, fill(line, found.numbers))));
      return item;
    }));
    return [make("p", {}, fill(text.intro, { minutes: total })), make("p", {}, text.presenter), list,
      make("h2", {}, text.exercise_answers), exerciseList(true)];
  }

  function paper() {
    const host = find("lesson-page"), teacher = page === "teacher", text = words()[teacher ? "teacher_page" : "exercises_page"];
    host.lang = language;
    const bar = make("div", { class: "pv-lesson-bar" }, "",
      button(ui("close"), () => open(null)), button(ui("print"), () => window.print()), chooser());
    host.replaceChildren(bar, make("h2", { tabindex: "-1" }, text.title),
      ...(teacher ? teacherBody() : [make("p", {}, text.intro), exerciseList(false)]));
  }

  // --- Moving

  const save = () => sessionStorage.setItem(STORE, JSON.stringify(choices));

  function enter() {
    render();
    if (at === END) { stage(null, null, true); find("lesson-stage").replaceChildren(); fetchAll(); return; }
    const step = steps[at];
    result(step);
    if (answered(step)) { stage(step, outcomes[step.key].error ? step.ask : step.see, true); return; }
    stage(step, step.ask, false);
    if (step.key in choices) ask(step);
  }

  function go(next, focus = true) {
    at = Math.max(0, Math.min(END, next));
    address.update({ step: at + 1, lang: language });
    enter();
    if (!focus) return;
    element.querySelector("h2").focus({ preventScroll: true });
    scroll(stacked() ? element : element.querySelector("h2"), stacked() ? "start" : "nearest");
  }

  // One request at a time; the others follow when its answer is there.
  function ask(step) {
    if (waiting) return;
    waiting = step.key;
    // Each request has a number, so that an answer like the one before still arrives as a change.
    trigger(step.network ? "submit" : "input", { step: step.key, request: ++requests });
  }
  function fetchAll() {
    const missing = steps.find((step) => step.key in choices && !outcomes[step.key]);
    if (missing) ask(missing);
  }

  function decide(step, choice) {
    choices[step.key] = choice;
    save();
    render();
    ask(step);
  }

  function speak(code) {
    language = code;
    address.update({ lang: code });
    render();
    if (at < END) result(steps[at]);
    if (page) paper();
  }

  follow({ props, watch }, (value) => {
    if (!value) return;
    if (value.answers) { answers = value.answers; if (page === "teacher") paper(); return; }
    waiting = null;
    if (!(value.step in choices)) return; // started again in the meantime
    outcomes[value.step] = value;
    if (at === END) { render(); fetchAll(); return; }
    if (steps[at].key !== value.step) { if (steps[at].key in choices && !answered(steps[at])) ask(steps[at]); render(); return; }
    enter();
    element.querySelector(".pv-lesson [role=status][tabindex]")?.focus({ preventScroll: true });
    if (stacked()) scroll(column(), "start"); // on a phone what there is to see is above
  });

  // An address is taken once: the second time it would come without the view that was linked.
  let begun = false;
  const there = () => find("lesson-stage") && find("lesson-page");
  /** @param {Record<string, any>} view */
  function restore({ step, lang, linked }) {
    begun = true;
    if (lang) language = lang;
    held = linked;
    address.update({ linked: null });
    if (page) open(null);
    go((step ?? at + 1) - 1, false);
  }
  document.addEventListener("pv:address", (event) => { if (event.detail.tab === "lesson" && there()) restore(event.detail); });
  const mine = () => { if (begun) return; if (there()) restore(address.now()); else requestAnimationFrame(mine); };
  mine();
}
