// What the instrument says in words and numbers: formulas with a pixel's numbers, facts, the table, the spoken line.
import { decimal, node, typeset } from "../page.js";
import * as P from "./process.js";

const TOLERANCE = 0.01; // nats; what the advice aims at
const EQUAL = 1e-9; // rounding of T multiplications stays far below
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

// A number as MathML, to `digits` significant ones.
const mn = (v, digits = 3) => {
  if (!Number.isFinite(v)) return `<mi>${v > 0 ? "∞" : "–"}</mi>`;
  const sign = v < 0 ? "<mo>−</mo>" : "", size = Math.abs(v);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
    const [mantissa, exponent] = size.toExponential(digits - 1).split("e");
    return `${sign}<mn>${mantissa}</mn><mo>×</mo><msup><mn>10</mn><mrow>${Number(exponent) < 0 ? "<mo>−</mo>" : ""}<mn>${Math.abs(Number(exponent))}</mn></mrow></msup>`;
  }
  return `${sign}<mn>${size === 0 ? "0" : size.toPrecision(digits)}</mn>`;
};
const plain = (v) => `<mn>${Number(v.toPrecision(4))}</mn>`;
const mi = (name, index) => (index ? `<msub><mi>${name}</mi><mi>${index}</mi></msub>` : `<mi>${name}</mi>`);
const row = (...parts) => `<mrow>${parts.join("")}</mrow>`;
const exp = (...parts) => row("<mi>exp</mi><mo>(</mo><mo>−</mo>", ...parts, "<mo>)</mo>");
const frac = (a, b) => `<mfrac><mrow>${a}</mrow><mrow>${b}</mrow></mfrac>`;
const sqrt = (...parts) => `<msqrt>${parts.join("")}</msqrt>`;
const ABAR = `<msub><mover><mi>α</mi><mo stretchy="false">¯</mo></mover><mi>i</mi></msub>`;
const TIMES = "<mo>×</mo>", EQ = "<mo>=</mo>", OVER = "<mo>/</mo>";
// One formula in pieces, so that a narrow screen breaks it before an equals sign.
const math = (...pieces) => `<p>${pieces.map((piece) => `<math displaystyle="true">${piece}</math>`).join(" ")}</p>`;

export function words(host, limits, adviser) {
  const find = (name) => host.querySelector(`.pvi-${name}`);
  const formulas = find("formulas"), badge = find("badge"), cards = find("facts"), advice = find("advice");
  const rows = find("numbers tbody"), caption = find("numbers caption"), image = find("whole"), live = find("live"), readout = find("readout");
  let speaking = null, advising = null, firstAdvice = true;

  const channel = (c, picture) => (picture.channels === 3 ? `, ${["red", "green", "blue"][c]}` : "");
  const where = ({ row: r, col, channel: c }, picture) => `row ${r}, column ${col}${channel(c, picture)}`;
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  function writeFormulas(model) {
    const { state, i, t } = model, pixel = model.probed || model.pixels[model.lit ?? state.selected ?? 0];
    formulas.parentElement.classList.toggle("pvi-none", !pixel);
    if (!pixel) { formulas.textContent = "Pick a pixel to see its numbers."; badge.hidden = true; return; }
    const { gamma, T } = state, { x0, eps } = pixel, bar = Math.exp(pixel.ours.log);
    const g = plain(gamma), x = mn(x0), n = `<mn>${T}</mn>`, step = `<mn>${i}</mn>`;
    const { ours } = model, k = Math.max(1, i), clock = ours.clock || new Float64Array(T + 1), c = clock[i];
    const passed = clock[k] - clock[k - 1], rate = Math.exp(ours.log(x0, k) - ours.log(x0, k - 1));
    const scale = Math.exp(-gamma * x0), steady = Math.abs(clock[1] * T - 1) < EQUAL && Math.abs(clock[T] - 1) < EQUAL;
    const sum = "<munder><mo>∑</mo><mrow><mi>j</mi><mo>≤</mo><mi>i</mi></mrow></munder>", beta = (index) => mi("β", index);
    const walked = steady ? [
      ["one step (Eq. 8)", math(row(mi("α"), EQ, exp(mi("γ"), mi("x", "0"), OVER, mi("T"))), row(EQ, exp(g, TIMES, x, OVER, n)), row(EQ, mn(rate)))],
      ["i steps (Eq. 9)", math(row(ABAR, EQ, exp(mi("γ"), mi("x", "0"), mi("i"), OVER, mi("T"))), row(EQ, exp(g, TIMES, x, TIMES, step, OVER, n)), row(EQ, mn(bar)))],
    ] : !ours.clock ? [
      ["one step (App. B)", math(row(mi("α", "i"), EQ, exp("<mn>2</mn>", mi("Γ", "i"), OVER, mi("T"))), row(EQ, exp("<mn>2</mn>", TIMES, mn(ours.rate(x0, k) / 2), OVER, n)), row(EQ, mn(rate)))],
      ["i steps", math(row(ABAR, EQ, exp(sum, "<mn>2</mn>", mi("Γ", "j"), OVER, mi("T"))), row(EQ, mn(bar)))],
    ] : [
      ["one step (Eq. 26)", math(row(mi("α", "i"), EQ, exp(mi("γ"), mi("x", "0"), beta("i"))), row(EQ, exp(g, TIMES, x, TIMES, mn(passed))), row(EQ, mn(rate)))],
      ["i steps", math(row(ABAR, EQ, exp(mi("γ"), mi("x", "0"), sum, beta("j"))), row(EQ, exp(g, TIMES, x, TIMES, mn(c))), row(EQ, mn(bar)))],
    ];
    const lines = [
      ["image scale (Eq. 7)", math(row(mi("x", "δ"), EQ, exp(mi("γ"), mi("x", "0"))), row(EQ, exp(g, TIMES, x)), row(EQ, mn(scale)))],
      ...walked,
      ["noisy pixel (Eq. 9)", math(row(mi("x", "i"), EQ, sqrt(ABAR), mi("x", "0"), "<mo>+</mo>", sqrt("<mn>1</mn><mo>−</mo>", ABAR), mi("ε")),
        row(EQ, mn(Math.sqrt(bar)), TIMES, x, "<mo>+</mo>", mn(Math.sqrt(-Math.expm1(pixel.ours.log))), TIMES, eps < 0 ? "<mo>(</mo>" : "", mn(eps), eps < 0 ? "<mo>)</mo>" : ""), row(EQ, mn(pixel.ours.x)))],
      !ours.clock ? ["SNR", math(row(mi("SNR"), EQ, mn(pixel.ours.snr)))] : ["SNR (Eq. 11)", math(row(mi("SNR"), EQ, frac(`<msubsup><mi>x</mi><mn>0</mn><mn>2</mn></msubsup>`, row("<mi>exp</mi><mo>(</mo>", mi("γ"), steady ? mi("t") : row(sum, beta("j")), mi("x", "0"), "<mo>)</mo><mo>−</mo><mn>1</mn>"))),
        row(EQ, frac(`<msup>${row(x)}<mn>2</mn></msup>`, row("<mi>exp</mi><mo>(</mo>", g, TIMES, steady ? plain(t) : mn(c), TIMES, x, "<mo>)</mo><mo>−</mo><mn>1</mn>"))), row(EQ, mn(pixel.ours.snr)))],
    ];
    formulas.innerHTML = lines.map(([name, body]) => `<div><span>${name}</span>${body}</div>`).join("");
    const product = P.productOfAlphas(x0, gamma, T), apart = Math.abs(product / scale - 1), equal = apart < EQUAL;
    badge.hidden = !steady; // by another clock the alphas multiply to another scale
    badge.classList.toggle("pvi-wrong", !equal);
    badge.replaceChildren(typeset(`${equal ? "✓" : "✗"} The product of the ${T} alphas is ${product.toPrecision(6)}, ${equal ? "which is x_δ" : "but x_δ is " + scale.toPrecision(6)}${apart ? ` (apart by ${apart.toExponential(0)} of it, rounding)` : " to the last digit"}.`));
  }

  const card = (label, value, why) => {
    const box = node("div"), head = node("dt");
    head.append(typeset(label));
    const words = node("dd", { class: "pv-why" });
    words.append(typeset(why));
    box.append(head, node("dd", {}, value), words);
    return box;
  };
  function writeFacts(model) {
    const { gap, state } = model, made = [
      card("Terminal gap", `${decimal(Number(gap.ours.mean.toPrecision(3)))} nats`, `mean KL of x_T to N(0, 1) per value; DDPM ${decimal(Number(gap.ddpm.mean.toPrecision(3)))}`),
      card("Barely noisy at T", percent(gap.ours.barely), `of the values have a variance below 0.9; the least is ${gap.ours.least.toFixed(3)}`),
      card("Ahead at t = 1", percent(model.aheadAtEnd), "of the values have less SNR left pixel-aware than by DDPM, and so the lower mean"),
    ];
    if (model.tDelta !== null) {
      const [a, b] = state.pair, bright = model.pixels[a].x0 > model.pixels[b].x0 ? a : b;
      made.push(card(`t_δ of pixels ${a + 1} and ${b + 1}`, decimal(Number(model.tDelta.toPrecision(4))),
        `${bright + 1}, the brighter, loses SNR faster ${model.tDelta >= 1 ? "throughout" : "until then; afterwards the darker one does"}`));
    }
    cards.replaceChildren(...made);
  }

  // Some fifty passes over all levels, so only once the hand rests.
  function writeAdvice(model) {
    const { picture, state } = model, { levels, counts } = picture;
    if (!model.ours.clock) return set(advice, "The adviser knows the rates that γ x₀ gives, not a rate of your own.");
    const end = model.ours.clock[state.T]; // what matters is gamma c(T)
    const gamma = P.adviseGamma(levels, counts, TOLERANCE, state.T === 1 ? 1 : state.T * end, state.floor, limits.gamma.max * end);
    const floor = P.adviseFloor(levels, counts, TOLERANCE, state.gamma * end, { ...adviser, most: limits.floor.max });
    const ways = [];
    if (gamma.value !== null) ways.push(`γ = ${(gamma.value / end).toPrecision(3)} at this floor`);
    if (floor.value !== null) ways.push(`floor ${Number(floor.value.toPrecision(3))} at this γ`);
    const notes = [];
    if (gamma.value === null) notes.push(`No γ up to ${Number((gamma.limit / end).toPrecision(4))} is enough at this floor: ${gamma.left.toPrecision(3)} nats would remain. Raise the floor${state.T < limits.gamma.max ? " or T" : ""}.`);
    if (floor.value === null) notes.push(floor.left === null ? `A floor helps from γ = ${Number((adviser.leastGamma / end).toPrecision(3))} on.` : `No floor up to ${floor.limit} is enough at this γ: ${floor.left.toPrecision(3)} nats would remain. Raise γ.`);
    set(advice, [ways.length ? `For a terminal gap of ${TOLERANCE} nats this image needs at least ${ways.join(" or ")}.` : "", ...notes].filter(Boolean).join(" "));
  }

  const COLUMNS = 9;
  function writeTable(model) {
    const { picture, pixels, i, t, state } = model;
    set(caption, `Numbers at t = ${t.toFixed(3)} (step ${i} of ${state.T})`);
    while (rows.children.length > pixels.length) rows.lastChild.remove();
    while (rows.children.length < pixels.length) {
      const line = node("tr");
      line.append(node("th", { scope: "row" }), ...Array.from({ length: COLUMNS }, () => node("td")));
      rows.append(line);
    }
    pixels.forEach((p, k) => {
      const line = rows.children[k], n = decimal;
      line.classList.toggle("pvi-lit", model.lit === k);
      line.style.setProperty("--pixel", p.color);
      const cells = [`${k + 1}: ${where(p, picture)}`, n(p.x0), n(Math.exp(p.ours.log)), n(p.ours.snr), n(p.ddpm.snr), n(p.ours.rate),
        i === 0 ? "no one" : p.ours.log < p.ddpm.log ? "pixel-aware" : "DDPM", n(p.ours.x), n(p.ddpm.x), n(P.kl(p.x0, model.ours.log(p.x0, state.T)))];
      cells.forEach((text, c) => set(line.children[c], text));
    });
    const list = (method, name) => model.moments[method].map((c) => c[name].toFixed(3)).join(" / ");
    set(image, `Whole image${picture.channels === 3 ? ", red / green / blue" : ""}: mean ${list("ours", "mean")} pixel-aware, ${list("ddpm", "mean")} DDPM; ` +
      `variance ${list("ours", "variance")} pixel-aware, ${list("ddpm", "variance")} DDPM.`);
  }

  const sentence = (model) => {
    const { i, t, state, pixels } = model, n = (v) => decimal(Number(v.toPrecision(3)));
    return [`Step ${i} of ${state.T}, t = ${t.toFixed(2)}, gamma ${state.gamma}.`,
      i ? `Pixel-aware has less SNR left in ${percent(model.aheadShare)} of the values.` : "No noise yet.",
      model.fastest === null ? "" : `Pixel ${model.fastest + 1} empties fastest.`,
      ...pixels.map((p) => `Pixel ${p.k + 1}, x0 ${n(p.x0)}: SNR ${n(p.ours.snr)}, DDPM ${n(p.ddpm.snr)}.`)].join(" ");
  };

  return {
    where,
    pixel: (k, model) => `Pixel ${k + 1}: ${where(model.pixels[k], model.picture)}, x0 ${decimal(model.pixels[k].x0)}. Arrow keys move it, Delete removes it.`,
    draw(model, changed) {
      if (model.seen("formulas")) writeFormulas(model);
      if (changed.picture || changed.process || changed.pixels) writeFacts(model);
      writeTable(model);
      const p = model.probed || (model.lit !== null ? model.pixels[model.lit] : null);
      set(readout, p
        ? `${model.probed ? "Pixel" : `Pixel ${p.k + 1}`} at ${where(p, model.picture)}: x₀ ${decimal(p.x0)}, SNR ${decimal(p.ours.snr)} pixel-aware, ${decimal(p.ddpm.snr)} DDPM; xₜ ${decimal(p.ours.x)} and ${decimal(p.ddpm.x)}`
        : "Point at a pixel to see its numbers, click to follow it, drag its marker to move it.");
      clearTimeout(speaking);
      speaking = setTimeout(() => set(live, sentence(model)), 700);
      if (changed.picture || changed.process) {
        clearTimeout(advising);
        advising = setTimeout(() => writeAdvice(model), firstAdvice ? 0 : 160);
        firstAdvice = false;
      }
    },
  };
}
