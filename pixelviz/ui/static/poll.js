// The class answers together. A page opens a class and shows its code, its counts and, once they are revealed, its
// histogram in a lecture room's type; others join by code or link, and their predictions are counted without a name.
// Python's `poll` is asked beside the queue; see service/polls.py.
import { fill, spoken, words as texts } from "./language.js";
import { node, over, typeset } from "./page.js";

const STORE = "pixelviz-poll"; // in this tab of the browser alone: { code, phone } of who joined, { code, secret } of who opened
const LOOK = { owner: 1200, phone: 3000 }; // milliseconds between two looks
const SILENT = "silent"; // no answer came: a wifi that flickers, a laptop that wakes up; nobody's seat or class is lost by that
const LOCAL = /^(localhost|127\..*|\[::1\]|0\.0\.0\.0)$/;

const kept = () => { try { return JSON.parse(sessionStorage.getItem(STORE) || "{}"); } catch { return {}; } };

/**
 * @param {Record<string, any>} lesson server; step(), the one that is open; text(step);
 *   answer(step), the true option, null while unknown; ask(step) for it; go(way) to another step; link(code), an
 *   address that joins; changed(), to be called when what the lesson shows should be drawn anew
 */
export function classroom(lesson) {
  /** @type {{ phone?: string, seat?: { code: string, phone: string }, own?: { code: string, secret: string } }} */
  let here = kept();
  const held = new Set(); // steps whose answer waits for the reveal
  let problem = "", timer = 0, dialog = null, told = null, asked = null;

  const words = () => texts().poll;
  const keep = (next) => { here = next; sessionStorage.setItem(STORE, JSON.stringify(here)); };
  /** What went wrong, of what `ask` throws: in the visitor's language. */
  const reason = (/** @type {any} */ error) => words().errors[error.message];
  const lost = (/** @type {any} */ error) => error.message === SILENT;
  /** Asks Python; throws an Error whose message is a key of the language's errors. */
  async function ask(...what) {
    let found;
    try { found = await lesson.server.poll(what); } catch { /* as where it gives nothing */ }
    if (!found || found.error) throw new Error(found ? found.error : SILENT);
    return found;
  }
  const button = (text, act, attributes = {}) => {
    const made = node("button", { type: "button", ...attributes }, text);
    made.addEventListener("click", act);
    return made;
  };

  // --- A phone

  async function join(code) {
    const phone = here.phone ?? crypto.getRandomValues(new Uint32Array(4)).join("-");
    problem = "";
    try { keep({ ...here, phone, seat: { ...(await ask("join", code, phone)), phone } }); } catch (error) { problem = reason(error); }
    lesson.changed();
    return !problem;
  }
  function leave(message = "") {
    keep({ ...here, seat: undefined });
    problem = message;
    held.clear();
    lesson.changed();
  }

  async function look() {
    clearTimeout(timer);
    const step = lesson.step();
    if (!here.seat || !step || !held.has(step.key)) return;
    try { settle(step.key, await ask("look", here.seat.code, step.key)); } catch (error) {
      if (!lost(error)) { leave(reason(error)); return; }
    }
    timer = window.setTimeout(look, LOOK.phone);
  }
  function settle(key, found) {
    if (found.counts && held.delete(key)) lesson.changed();
  }
  /** Sends an answer of somebody who has joined; what is true then waits for the reveal. */
  async function vote(key, option) {
    if (!here.seat) return;
    held.add(key);
    await send(key, option);
  }
  async function send(key, option) {
    if (!here.seat) return;
    try { settle(key, await ask("vote", here.seat.code, here.seat.phone, key, option)); } catch (error) {
      if (lost(error)) window.setTimeout(() => send(key, option), LOOK.phone);
      else leave(reason(error));
      return;
    }
    look();
  }

  /** What the lesson's head says of it: buttons to open and to join, or where one is. */
  function head() {
    const text = words(), box = node("div", { class: "pv-poll-head" });
    if (here.seat) box.append(node("span", {}, fill(text.joined, here.seat)), button(text.leave, () => leave()));
    else box.append(button(text.open, open, { class: "pv-poll-open" }), button(text.join, () => { box.replaceChildren(form()); box.querySelector("input")?.focus(); }));
    if (problem) box.append(node("p", { role: "alert" }, problem));
    return box;
  }
  function form() {
    const text = words(), made = node("form"), label = node("label", {}, `${text.code} `);
    const field = node("input", { type: "text", size: 8, maxlength: 12, required: "", autocomplete: "off", autocapitalize: "characters", spellcheck: "false" });
    label.append(field);
    made.append(label, node("button", { type: "submit" }, text.enter), button(text.cancel, lesson.changed));
    made.addEventListener("submit", (event) => { event.preventDefault(); join(field.value); });
    return made;
  }
  /** In the place of a step's answer, while it waits. */
  function waiting(step) {
    return [node("p", { class: "pv-alert pv-info", role: "status", tabindex: "-1" }, words().wait),
      button(words().now, () => { held.delete(step.key); lesson.changed(); }, { class: "pv-lesson-quiet" })];
  }

  // --- The lecturer

  async function open() {
    problem = "";
    try {
      if (!here.own) keep({ ...here, own: await ask("open") });
      const { code, secret } = /** @type {any} */ (here.own);
      const link = lesson.link(code), { qr } = await ask("qr", code, secret, link);
      show(qr);
    } catch (error) {
      problem = reason(error);
      if (lost(error)) { lesson.changed(); return; }
      const again = here.own && problem === words().errors.gone; // it has ended meanwhile: another one
      keep({ ...here, own: undefined });
      if (again) return open();
      lesson.changed();
    }
  }

  function show(qr) {
    dialog = node("dialog", { class: "pv-poll", "aria-labelledby": "pv-poll-title" });
    dialog.lang = spoken();
    const text = words(), { code } = /** @type {any} */ (here.own), local = LOCAL.test(location.hostname);
    const door = node("div", { class: "pv-poll-door" });
    const say = local ? fill(text.local, { host: location.hostname }) : text.scan;
    door.append(node("p", {}, say), node("strong", {}, code), node("img", { src: qr, alt: `QR: ${lesson.link(code)}` }));
    const bar = node("div", { class: "pv-poll-bar" });
    bar.append(
      button("◀", () => turn(-1), { "aria-label": text.back, title: text.back }), button("▶", () => turn(1), { "aria-label": text.next, title: text.next }),
      button(text.reveal, reveal, { class: "pv-poll-reveal" }), button(text.end, end), button(text.close, () => dialog.close()));
    dialog.append(node("h2", { id: "pv-poll-title" }, text.heading), door, node("div", { class: "pv-poll-asked", "aria-live": "polite" }), bar);
    dialog.addEventListener("close", () => { dialog.remove(); dialog = null; clearTimeout(asked); lesson.changed(); });
    over(dialog);
    dialog.showModal();
    turn(0);
  }
  function turn(way) {
    if (way) lesson.go(way);
    told = null;
    lesson.ask(lesson.step());
    draw();
    count();
  }
  async function count() {
    clearTimeout(asked);
    const step = lesson.step();
    if (!dialog || !here.own) return;
    try {
      const found = await ask("look", here.own.code, step.key);
      if (step === lesson.step()) { told = found; draw(); }
    } catch (error) {
      if (!lost(error)) { stop(reason(error)); return; }
    }
    asked = window.setTimeout(count, LOOK.owner);
  }
  async function reveal() {
    try { told = await ask("reveal", here.own?.code, here.own?.secret, lesson.step().key); draw(); } catch (error) { failed(error); }
  }
  async function end() {
    try { await ask("end", here.own?.code, here.own?.secret); stop(); } catch (error) { failed(error); }
  }
  /** Says what did not work, in the dialog where it can be tried again. */
  function failed(/** @type {any} */ error) {
    if (!lost(error) || !dialog) { stop(reason(error)); return; }
    drawn = "";
    dialog.querySelector(".pv-poll-count").textContent = reason(error);
  }
  function stop(message = "") {
    problem = message;
    keep({ ...here, own: undefined });
    dialog?.close();
  }

  // The question with its counts: hidden bars until they are revealed.
  let drawn = "";
  function draw() {
    if (!dialog) return;
    const step = lesson.step(), text = lesson.text(step), box = dialog.querySelector(".pv-poll-asked");
    const counts = told?.counts, truth = counts ? lesson.answer(step) : null, most = Math.max(1, ...Object.values(counts ?? {}));
    const now = JSON.stringify([step.key, told, truth]);
    if (now === drawn && box.children.length) return; // readers hear what has changed, no more
    drawn = now;
    const list = node("ol");
    for (const option of step.options) {
      const line = node("li", truth === option ? { "data-true": "" } : {}), name = node("span");
      name.append(typeset(text.option(option)));
      if (truth === option) name.append(node("em", {}, ` ✓ ${words().true}`));
      line.append(name);
      if (counts) {
        const bar = node("i", { "aria-hidden": "true", style: `--share: ${counts[option] / most}` });
        line.append(bar, node("b", {}, String(counts[option])));
      }
      list.append(line);
    }
    const question = node("h3");
    question.append(typeset(text.question));
    const said = told ? fill(told.committed ? words().committed : words().phones, { n: told.committed || told.phones, phones: told.phones }) : "";
    box.replaceChildren(node("p", { class: "pv-poll-count" }, said), question, list);
    dialog.querySelector(".pv-poll-reveal").disabled = !!counts;
  }

  return {
    head, join, vote, waiting, look,
    /** Whether a step's answer waits for the reveal. */
    holds: (step) => held.has(step.key),
    /** Whether the lecturer's screen is open. */
    shown: () => !!dialog,
    /** Draws the lecturer's screen anew: an answer has arrived. */
    draw,
  };
}
