// The lesson: predict, see, explain. Runs beside the instrument #lesson-instrument, through its `pvInstrument`.
// props.plan: see lesson.py's `plan`. value: { step, outcome } or { step, error }, or { answers } for the teacher.
// Events: `input` and `submit` with a step's key (the latter where a network runs), `select` for the answers.
// The card asks and judges, the stage shows, the rest says why: on a phone in this order, else the stage is beside them.
import * as address from "./address.js";
import { bits, ddpmTable, logBar, snr } from "./instrument/process.js";
import { fill, spoken, words } from "./language.js";
import { decimal, follow, node, typeset } from "./page.js";
import { chart, markup } from "./plot_widget.js";
import { classroom } from "./poll.js";

const STORE = "pixelviz-lesson", LOST_AFTER = 20_000; // milliseconds
const CALM = matchMedia("(prefers-reduced-motion: reduce)");
const percent = (log) => `${decimal(Number((100 * Math.exp(log / 2)).toPrecision(3)))} %`;
const short = (value) => decimal(Number(value.toPrecision(3)));
// A pixel's number in the live table, of x0 and of log abar by both processes.
const COLUMNS = {
  x0: ({ x0 }) => short(x0),
  left_ours: ({ log }) => percent(log),
  left_ddpm: ({ ddpm }) => percent(ddpm),
  mean: ({ x0, log }) => short(Math.exp(log / 2) * x0),
  spread: ({ log }) => short(Math.sqrt(-Math.expm1(log))),
  snr: ({ x0, log }) => short(snr(x0, log)),
  bits: ({ x0, log }) => short(bits(snr(x0, log))),
};

/** @param {import("./page.js").Component} component */
export function mount({ element, props, trigger, watch, server }) {
  const { steps, exercises, routes } = props.plan;
  const END = steps.length; // the closing page comes after the last step

  const remembered = () => { try { return JSON.parse(sessionStorage.getItem(STORE) || "{}"); } catch { return {}; } };
  let choices = remembered(); // step's key to the option committed to
  let outcomes = {}; // step's key to { outcome } or { error }
  let answers = null; // the teacher's
  let at = 0, route = Object.keys(routes)[0], page = null, waiting = null, overdue = 0, requests = 0, held = null, sweep = null, shown = null;

  const find = (id) => document.getElementById(id);
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
  const answered = (step) => step.key in choices && outcomes[step.key] && !poll.holds(step);
  // The steps of the route, by their places among all; links name a step by its place.
  const places = () => steps.map((step, k) => (routes[route].includes(step.key) ? k : -1)).filter((k) => k >= 0);
  const minutes = (of) => steps.filter((step) => routes[of].includes(step.key)).reduce((sum, step) => sum + step.minutes, 0);
  const beside = (way) => (way > 0 ? places().find((k) => k > at) ?? END : places().findLast((k) => k < at) ?? at);
  const poll = classroom({
    server, step: () => steps[Math.min(at, END - 1)],
    text: (step) => ({ question: fill(words().steps[step.key].question, step.given), option: (key) => fill(words().steps[step.key].options[key], step.given) }),
    answer: (step) => outcomes[step.key]?.outcome?.answer ?? null,
    ask: (step) => { if (!outcomes[step.key]) ask(step); },
    go: (way) => { const to = beside(way); if (to < END) go(to, false); },
    link: (code) => `${location.href.split("#")[0]}${address.hash({ tab: "lesson", step: 1, lang: spoken(), route, poll: code })}`,
    changed: () => { if (at === END) return render(); enter(); if (stacked() && answered(steps[at])) show(); },
  });
  const right = (step) => outcomes[step.key]?.outcome?.answer === choices[step.key];

  const column = () => find("lesson-stage").closest(".pv-lesson-stage");
  const rest = () => find("lesson-rest");
  const stacked = () => column().getBoundingClientRect().top >= element.getBoundingClientRect().bottom;
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
      find("lesson-instrument").dataset.views = view.views.join(" ");
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
    const table = rest().querySelector(".pv-lesson-live"), step = steps[at];
    if (!table || !state) return;
    const same = at < END && JSON.stringify(state.pixels) === JSON.stringify(step.settings.pixels);
    table.hidden = !same;
    if (!same) return;
    const { floor, gamma, T } = state, i = Math.round(state.t * T);
    const ddpm = ddpmTable(T, state.ddpm)[i];
    const head = node("tr");
    head.append(...["pixel", ...step.columns].map((key) => make("th", { scope: "col" }, ui(key))));
    const rows = step.values.map((value, k) => {
      const x0 = floor + (1 - floor) * value, log = logBar(x0, gamma, i / T);
      const row = make("tr", {}, "", make("th", { scope: "row" }, String(k + 1)));
      row.append(...step.columns.map((key) => node("td", {}, COLUMNS[key]({ x0, log, ddpm }))));
      return row;
    });
    const caption = node("caption", {}, ui("now", { t: decimal(Number((i / T).toPrecision(3))) }));
    table.replaceChildren(make("table", {}, "", caption, head, ...rows));
  }

  // --- The card

  function progress() {
    const items = places().map((place, k) => {
      const step = steps[place], mark = !answered(step) || outcomes[step.key].error ? "open" : right(step) ? "right" : "wrong";
      const label = ui(`step_${mark}`, { k: k + 1, title: words().steps[step.key].title });
      const made = button({ open: String(k + 1), right: "✓", wrong: "✗" }[mark], () => go(place), { "aria-label": label, title: label, "data-mark": mark });
      if (place === at) made.setAttribute("aria-current", "step");
      return make("li", {}, "", made);
    });
    const last = button("★", () => go(END), { "aria-label": ui("closing_open"), title: ui("closing_open") });
    if (at === END) last.setAttribute("aria-current", "step");
    return make("ol", { class: "pv-lesson-progress", "aria-label": ui("progress") }, "", ...items, make("li", {}, "", last));
  }

  function routeChooser() {
    const select = node("select", { "aria-label": ui("route") });
    for (const key of Object.keys(routes)) {
      const option = node("option", { value: key }, ui(`route_${key}`, { n: routes[key].length, minutes: minutes(key) }));
      option.selected = key === route;
      select.append(option);
    }
    select.addEventListener("change", () => take(select.value));
    return select;
  }

  function question(step, text) {
    const field = node("fieldset");
    field.append(make("legend", {}, fill(text.question, step.given)));
    for (const option of step.options) {
      const radio = node("input", { type: "radio", name: "pv-lesson-choice", value: option });
      field.append(make("label", {}, "", radio, make("span", {}, fill(text.options[option], step.given))));
    }
    return field;
  }

  // What is true, beside what was predicted.
  function verdict(step, text) {
    const { outcome, error } = outcomes[step.key];
    if (error) return [make("p", { class: "pv-alert pv-info", role: "status", tabindex: "-1" }, ui("error", { message: error }))];
    const hit = right(step), option = (key) => fill(text.options[key], step.given);
    const said = make("div", { class: `pv-alert ${hit ? "pv-good" : "pv-info"} pv-lesson-verdict`, role: "status", tabindex: "-1" }, "",
      make("p", {}, "", node("b", {}, `${hit ? "✓" : "✗"} ${ui(hit ? "right" : "wrong")}`), " ", typeset(hit ? option(outcome.answer) : ui("true_is", { answer: option(outcome.answer) }))));
    if (!hit) said.append(make("p", {}, ui("your_choice", { choice: option(choices[step.key]) })));
    const made = [said];
    if (step.tries.length) made.push(make("div", { class: "pv-lesson-tries", role: "group", "aria-label": ui("try") }, "", make("span", {}, ui("try")),
      ...step.tries.map(({ key, state }) => button(fill(text.tries[key], step.given), () => whenReady((it) => {
        shown = sweep = null; // a hand comes before what was still to be shown
        it.pause();
        it.set(state);
      })))));
    return made;
  }

  // A line that quotes a number which is not known here, as of a checkpoint that is not installed, is left out.
  const told = (lines, numbers) => lines.filter((line) => [...line.matchAll(/\{(\w+)\}/g)].every(([, key]) => key in numbers)).map((line) => make("p", {}, fill(line, numbers)));

  function explanation(step, text) {
    const { outcome } = outcomes[step.key];
    if (!outcome) return [];
    return [...(step.see ? [node("div", { class: "pv-lesson-live pv-table" })] : []),
      make("h3", {}, ui("explain")), ...told(text.explain, outcome.numbers)];
  }

  function stepCard(step) {
    const text = words().steps[step.key], done = step.key in choices, all = places();
    const body = [
      make("p", { class: "pv-lesson-count" }, ui("step", { k: all.indexOf(at) + 1, n: all.length })),
      make("h2", { tabindex: "-1" }, text.title),
      ...(done ? [make("p", { class: "pv-lesson-asked" }, fill(text.question, step.given))] : [...text.set_up.map((line) => make("p", {}, fill(line, step.given))), question(step, text)]),
    ];
    if (!done) body.push(make("p", { class: "pv-lesson-hint", role: "status" }, step.network ? ui("network") : ""));
    else if (poll.holds(step)) body.push(...poll.waiting(step));
    else if (!outcomes[step.key]) body.push(make("p", { class: "pv-lesson-hint", role: "status" }, ui("working")));
    else body.push(...verdict(step, text));
    return body;
  }

  function commit(step) {
    const chosen = element.querySelector("[name=pv-lesson-choice]:checked");
    if (chosen) decide(step, chosen.value);
    else element.querySelector(".pv-lesson-hint").textContent = ui("choose_first");
  }

  // The end: each step's prediction beside what is so, and what stays.
  function closingCard() {
    const text = words().closing, route = places().map((k) => steps[k]);
    const asked = route.filter((step) => answered(step) && !outcomes[step.key].error), open = route.filter((step) => !(step.key in choices)).length;
    const body = [make("h2", { tabindex: "-1" }, text.title)];
    body.push(make("p", { class: "pv-lesson-score" }, asked.length ? fill(text.score, { right: asked.filter(right).length, asked: asked.length }) : text.none));
    if (open) body.push(make("p", {}, fill(text.rest, { n: open })));
    body.push(make("ol", { class: "pv-lesson-takeaways" }, "", ...route.map((step) => {
      const own = words().steps[step.key], option = (key) => fill(own.options[key], step.given), known = asked.includes(step);
      const item = make("li", {}, "", make("h3", {}, "", node("b", {}, known ? (right(step) ? "✓ " : "✗ ") : "– "), typeset(own.title)), make("p", { class: "pv-lesson-takeaway" }, own.takeaway));
      const facts = node("dl");
      if (step.key in choices) facts.append(make("dt", {}, text.predicted), make("dd", {}, option(choices[step.key])));
      if (known) facts.append(make("dt", {}, text.found), make("dd", {}, option(outcomes[step.key].outcome.answer)));
      item.append(facts.children.length ? facts : make("p", { class: "pv-lesson-hint" }, text.open));
      return item;
    })));
    body.push(make("p", {}, text.what_now));
    body.push(make("div", { class: "pv-lesson-bar" }, "", button(ui("print"), () => window.print()),
      button(text.again, () => { choices = {}; outcomes = {}; save(); go(places()[0]); })));
    return body;
  }

  function render() {
    const text = at < END ? words().steps[steps[at].key] : null, done = text && answered(steps[at]);
    const body = text ? stepCard(steps[at]) : closingCard();
    const back = button(ui("back"), () => go(beside(-1)), { "data-press": "back" });
    const next = button(ui(beside(1) === END ? "finish" : "next"), () => go(beside(1)), { "data-press": "next" });
    back.disabled = at === places()[0];
    next.disabled = at === END;
    const asks = text && !(steps[at].key in choices) ? [button(ui("commit"), () => commit(steps[at]), { class: "pv-lesson-commit" })] : [];
    element.querySelector(".pv-lesson").replaceChildren(
      progress(),
      make("div", { class: "pv-lesson-body" }, "", ...body),
      make("div", { class: "pv-lesson-nav" }, "", back, ...asks, next));
    element.querySelector(".pv-lesson").dataset.answered = String(!!text && steps[at].key in choices);
    find("lesson-row").dataset.end = String(!text);
    rest().replaceChildren(
      ...(done ? explanation(steps[at], text) : []),
      ...(text ? [make("p", { class: "pv-lesson-hint" }, ui("judged", steps[at].given))] : []),
      make("div", { class: "pv-lesson-bar" }, "", button(ui("exercises"), () => open("exercises")), button(ui("teacher"), () => open("teacher"))));
    find("lesson-choices").replaceChildren(poll.head(), routeChooser());
    find("lesson-asleep").textContent = ui("hidden");
    find("lesson-intro").textContent = words().intro;
    for (const part of [element.querySelector(".pv-lesson"), rest(), find("lesson-choices"), find("lesson-asleep"), find("lesson-intro")]) part.lang = spoken();
    const it = instrument();
    if (it?.ready) live(it.state());
  }

  // --- What a network or a recursion made, in place of the instrument

  function result(step) {
    const host = find("lesson-stage"), outcome = answered(step) && outcomes[step.key].outcome;
    host.replaceChildren();
    host.lang = spoken();
    if (!outcome) return;
    const text = words().steps[step.key];
    if (outcome.pictures.length) {
      const sheet = node("div", { class: "pv-figures", "data-n": outcome.pictures.length });
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
    const text = words().teacher_page, totals = Object.fromEntries(Object.keys(routes).map((key) => [key, minutes(key)]));
    const list = make("ol", {}, "", ...steps.map((step) => {
      const own = words().steps[step.key], found = answers?.steps[step.key];
      const numbers = { ...step.given, ...(found?.numbers || {}) };
      const answer = !found ? ui("working") : found.error || fill(own.options[found.answer], numbers);
      const item = make("li", {}, "", make("h3", {}, `${own.title} (${fill(text[routes.short.includes(step.key) ? "in_short" : "minutes"], { minutes: step.minutes })})`));
      const facts = node("dl");
      const rows = [["answer", answer], ["point_at", own.point_at], ["misconception", own.misconception]];
      for (const [key, line] of rows) facts.append(make("dt", {}, text[key]), make("dd", {}, fill(line, numbers).replace(/\{\w+\}/g, "…"))); // a number still being computed
      item.append(make("p", {}, fill(own.question, step.given)), facts);
      if (found?.numbers) item.append(...told(own.explain, found.numbers));
      return item;
    }));
    return [make("p", {}, fill(text.intro, totals)), make("p", {}, text.presenter), make("p", {}, text.poll), list,
      make("h2", {}, text.exercise_answers), exerciseList(true)];
  }

  function paper() {
    const host = find("lesson-page"), teacher = page === "teacher", text = words()[teacher ? "teacher_page" : "exercises_page"];
    host.lang = spoken();
    const bar = make("div", { class: "pv-lesson-bar" }, "",
      button(ui("close"), () => open(null)), button(ui("print"), () => window.print()));
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
    poll.look();
    if (answered(step)) { stage(step, outcomes[step.key].error ? step.ask : step.see, true); return; }
    stage(step, step.ask, false);
    if (step.key in choices && !outcomes[step.key]) ask(step);
  }

  function go(next, focus = true) {
    at = Math.max(0, Math.min(END, next));
    if (at < END && !places().includes(at)) at = places().find((k) => k > at) ?? END;
    address.update({ step: at + 1, route });
    enter();
    if (!focus) return;
    element.querySelector("h2").focus({ preventScroll: true });
    show();
  }
  // The card, with the stage below it on a phone.
  const show = () => scroll(stacked() ? element : element.querySelector("h2"), stacked() ? "start" : "nearest");

  // One request at a time; the others follow when its answer is there.
  function ask(step) {
    if (waiting) return;
    waiting = step.key;
    // An answer that the network has lost is asked for again; one that was only late does no harm.
    overdue = window.setTimeout(() => { waiting = null; if (!outcomes[step.key] && (step.key in choices || poll.shown())) ask(step); }, LOST_AFTER);
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
    poll.vote(step.key, choice);
    render();
    ask(step);
  }

  function take(key) {
    route = key;
    go(at, false);
    find("lesson-choices").querySelector("select")?.focus();
  }
  document.addEventListener("pv:language", () => {
    if (!begun) return;
    render();
    if (at < END) result(steps[at]);
    if (page) paper();
  });

  follow({ props, watch }, (value) => {
    if (!value) return;
    if (value.answers) { answers = value.answers; if (page === "teacher") paper(); return; }
    waiting = null;
    clearTimeout(overdue);
    if (!(value.step in choices) && !poll.shown()) return; // started again in the meantime
    outcomes[value.step] = value;
    poll.draw();
    if (at === END) { render(); fetchAll(); return; }
    if (steps[at].key !== value.step) { if (steps[at].key in choices && !answered(steps[at])) ask(steps[at]); render(); return; }
    if (!(value.step in choices)) return;
    enter();
    if (poll.shown()) return;
    element.querySelector(".pv-lesson [role=status][tabindex]")?.focus({ preventScroll: true });
    show();
  });

  // An address is taken once: the second time it would come without the view that was linked.
  let begun = false;
  const there = () => find("lesson-stage") && find("lesson-page") && find("lesson-rest") && find("lesson-choices");
  /** @param {Record<string, any>} view */
  function restore({ step, route: way, linked, poll: code }) {
    begun = true;
    if (way) route = way;
    held = linked;
    address.update({ linked: null, poll: null });
    if (page) open(null);
    go((step ?? at + 1) - 1, false);
    if (stacked()) scroll(find("lesson-choices").parentElement, "start");
    if (code) poll.join(code);
  }
  document.addEventListener("pv:address", (event) => { if (event.detail.tab === "lesson" && there()) restore(event.detail); });
  const mine = () => { if (begun) return; if (there()) restore(address.now()); else requestAnimationFrame(mine); };
  mine();
}
