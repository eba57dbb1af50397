// What the instrument says in words and numbers: formulas with a pixel's numbers, facts, the table, the spoken line.
import { fill, words } from "../language.js";
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

export function telling(host, limits, adviser) {
  const find = (name) => host.querySelector(`.pvi-${name}`);
  const formulas = find("formulas"), badge = find("badge"), cards = find("facts"), advice = find("advice");
  const rows = find("numbers tbody"), caption = find("numbers caption"), image = find("whole"), live = find("live"), readout = find("readout");
  let speaking = null, advising = null, firstAdvice = true;

  const texts = () => words().instrument;
  const where = ({ row, col, channel }, { channels }) => (channels === 3
    ? fill(texts().where_channel, { row, col, channel: texts()[["red", "green", "blue"][channel]] }) : fill(texts().where, { row, col }));
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  function writeFormulas(model) {
    const { state, i, t } = model, pixel = model.probed || model.pixels[model.lit ?? state.selected ?? 0];
    formulas.parentElement.classList.toggle("pvi-none", !pixel);
    const said = texts(), eq = (name, n) => fill(said.eq, { name, n });
    if (!pixel) { formulas.textContent = said.pick_for_numbers; badge.hidden = true; return; }
    const { gamma, T } = state, { x0, eps } = pixel, bar = Math.exp(pixel.ours.log);
    const g = plain(gamma), x = mn(x0), n = `<mn>${T}</mn>`, step = `<mn>${i}</mn>`;
    const { ours } = model, k = Math.max(1, i), clock = ours.clock || new Float64Array(T + 1), c = clock[i];
    const passed = clock[k] - clock[k - 1], rate = Math.exp(ours.log(x0, k) - ours.log(x0, k - 1));
    const scale = Math.exp(-gamma * x0), steady = Math.abs(clock[1] * T - 1) < EQUAL && Math.abs(clock[T] - 1) < EQUAL;
    const sum = "<munder><mo>∑</mo><mrow><mi>j</mi><mo>≤</mo><mi>i</mi></mrow></munder>", beta = (index) => mi("β", index);
    const walked = steady ? [
      [eq(said.one_step, 8), math(row(mi("α"), EQ, exp(mi("γ"), mi("x", "0"), OVER, mi("T"))), row(EQ, exp(g, TIMES, x, OVER, n)), row(EQ, mn(rate)))],
      [eq(said.i_steps, 9), math(row(ABAR, EQ, exp(mi("γ"), mi("x", "0"), mi("i"), OVER, mi("T"))), row(EQ, exp(g, TIMES, x, TIMES, step, OVER, n)), row(EQ, mn(bar)))],
    ] : !ours.clock ? [
      [fill(said.appendix, { name: said.one_step, n: "B" }), math(row(mi("α", "i"), EQ, exp("<mn>2</mn>", mi("Γ", "i"), OVER, mi("T"))), row(EQ, exp("<mn>2</mn>", TIMES, mn(ours.rate(x0, k) / 2), OVER, n)), row(EQ, mn(rate)))],
      ["i steps", math(row(ABAR, EQ, exp(sum, "<mn>2</mn>", mi("Γ", "j"), OVER, mi("T"))), row(EQ, mn(bar)))],
    ] : [
      [eq(said.one_step, 26), math(row(mi("α", "i"), EQ, exp(mi("γ"), mi("x", "0"), beta("i"))), row(EQ, exp(g, TIMES, x, TIMES, mn(passed))), row(EQ, mn(rate)))],
      ["i steps", math(row(ABAR, EQ, exp(mi("γ"), mi("x", "0"), sum, beta("j"))), row(EQ, exp(g, TIMES, x, TIMES, mn(c))), row(EQ, mn(bar)))],
    ];
    const lines = [
      [eq(said.image_scale, 7), math(row(mi("x", "δ"), EQ, exp(mi("γ"), mi("x", "0"))), row(EQ, exp(g, TIMES, x)), row(EQ, mn(scale)))],
      ...walked,
      [eq(said.noisy_pixel, 9), math(row(mi("x", "i"), EQ, sqrt(ABAR), mi("x", "0"), "<mo>+</mo>", sqrt("<mn>1</mn><mo>−</mo>", ABAR), mi("ε")),
        row(EQ, mn(Math.sqrt(bar)), TIMES, x, "<mo>+</mo>", mn(Math.sqrt(-Math.expm1(pixel.ours.log))), TIMES, eps < 0 ? "<mo>(</mo>" : "", mn(eps), eps < 0 ? "<mo>)</mo>" : ""), row(EQ, mn(pixel.ours.x)))],
      !ours.clock ? ["SNR", math(row(mi("SNR"), EQ, mn(pixel.ours.snr)))] : [eq("SNR", 11), math(row(mi("SNR"), EQ, frac(`<msubsup><mi>x</mi><mn>0</mn><mn>2</mn></msubsup>`, row("<mi>exp</mi><mo>(</mo>", mi("γ"), steady ? mi("t") : row(sum, beta("j")), mi("x", "0"), "<mo>)</mo><mo>−</mo><mn>1</mn>"))),
        row(EQ, frac(`<msup>${row(x)}<mn>2</mn></msup>`, row("<mi>exp</mi><mo>(</mo>", g, TIMES, steady ? plain(t) : mn(c), TIMES, x, "<mo>)</mo><mo>−</mo><mn>1</mn>"))), row(EQ, mn(pixel.ours.snr)))],
    ];
    formulas.replaceChildren(...lines.map(([name, body]) => {
      const line = node("div");
      line.innerHTML = body; // made here, of numbers alone
      line.prepend(node("span", {}, name));
      return line;
    }));
    const product = P.productOfAlphas(x0, gamma, T), apart = Math.abs(product / scale - 1), equal = apart < EQUAL;
    badge.hidden = !steady; // by another clock the alphas multiply to another scale
    badge.classList.toggle("pvi-wrong", !equal);
    const verdict = fill(!equal ? said.product_wrong : apart ? said.product_close : said.product_exact,
      { T, product: product.toPrecision(6), scale: scale.toPrecision(6), apart: apart.toExponential(0) });
    badge.replaceChildren(typeset(`${equal ? "✓" : "✗"} ${verdict}`));
  }

  const card = (label, value, why) => {
    const box = node("div"), head = node("dt");
    head.append(typeset(label));
    const reason = node("dd", { class: "pv-why" });
    reason.append(typeset(why));
    box.append(head, node("dd", {}, value), reason);
    return box;
  };
  function writeFacts(model) {
    const { gap, state } = model, said = texts(), nats = (value) => decimal(Number(value.toPrecision(3))), made = [
      card(said.gap, fill(said.nats, { n: nats(gap.ours.mean) }), fill(said.gap_why, { ddpm: nats(gap.ddpm.mean) })),
      card(said.barely, percent(gap.ours.barely), fill(said.barely_why, { least: gap.ours.least.toFixed(3) })),
      card(said.end, percent(model.aheadAtEnd), said.end_why),
    ];
    if (model.tDelta !== null) {
      const [a, b] = state.pair, bright = model.pixels[a].x0 > model.pixels[b].x0 ? a : b;
      made.push(card(fill(said.crossing, { a: a + 1, b: b + 1 }), decimal(Number(model.tDelta.toPrecision(4))),
        fill(model.tDelta >= 1 ? said.crossing_always : said.crossing_until, { k: bright + 1 })));
    }
    cards.replaceChildren(...made);
  }

  // Some fifty passes over all levels, so only once the hand rests.
  function writeAdvice(model) {
    const { picture, state } = model, { levels, counts } = picture, said = texts();
    if (!model.ours.clock) return set(advice, said.advice_own);
    const end = model.ours.clock[state.T]; // what matters is gamma c(T)
    const gamma = P.adviseGamma(levels, counts, TOLERANCE, state.T === 1 ? 1 : state.T * end, state.floor, limits.gamma.max * end);
    const floor = P.adviseFloor(levels, counts, TOLERANCE, state.gamma * end, { ...adviser, most: limits.floor.max });
    const byGamma = gamma.value === null ? "" : fill(said.advice_gamma, { gamma: (gamma.value / end).toPrecision(3) });
    const byFloor = floor.value === null ? "" : fill(said.advice_floor, { floor: Number(floor.value.toPrecision(3)) });
    const way = byGamma && byFloor ? fill(said.advice_either, { gamma: byGamma, floor: byFloor }) : byGamma || byFloor;
    const notes = [];
    if (gamma.value === null) notes.push(fill(state.T < limits.gamma.max ? said.no_gamma_T : said.no_gamma, { most: Number((gamma.limit / end).toPrecision(4)), nats: gamma.left.toPrecision(3) }));
    if (floor.value === null) notes.push(floor.left === null ? fill(said.floor_from, { gamma: Number((adviser.leastGamma / end).toPrecision(3)) }) : fill(said.no_floor, { most: floor.limit, nats: floor.left.toPrecision(3) }));
    set(advice, [way && fill(said.advice, { nats: TOLERANCE, way }), ...notes].filter(Boolean).join(" "));
  }

  const COLUMNS = 9;
  function writeTable(model) {
    const { picture, pixels, i, t, state } = model, said = texts();
    set(caption, fill(said.caption, { t: t.toFixed(3), i, T: state.T }));
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
        i === 0 ? said.no_one : p.ours.log < p.ddpm.log ? said.aware : "DDPM", n(p.ours.x), n(p.ddpm.x), n(P.kl(p.x0, model.ours.log(p.x0, state.T)))];
      cells.forEach((text, c) => set(line.children[c], text));
    });
    const list = (method, name) => model.moments[method].map((c) => c[name].toFixed(3)).join(" / ");
    set(image, fill(picture.channels === 3 ? said.whole_color : said.whole, { mean: list("ours", "mean"), mean_ddpm: list("ddpm", "mean"),
      variance: list("ours", "variance"), variance_ddpm: list("ddpm", "variance") }));
  }

  const sentence = (model) => {
    const { i, t, state, pixels } = model, said = texts(), n = (v) => decimal(Number(v.toPrecision(3)));
    return [fill(said.live_step, { i, T: state.T, t: t.toFixed(2), gamma: state.gamma }),
      i ? fill(said.live_share, { share: percent(model.aheadShare) }) : said.live_none,
      model.fastest === null ? "" : fill(said.live_fastest, { k: model.fastest + 1 }),
      ...pixels.map((p) => fill(said.live_pixel, { k: p.k + 1, x0: n(p.x0), snr: n(p.ours.snr), ddpm: n(p.ddpm.snr) }))].join(" ");
  };

  return {
    marker: (k, model) => fill(texts().marker, { k: k + 1, where: where(model.pixels[k], model.picture), x0: decimal(model.pixels[k].x0) }),
    draw(model, changed) {
      if (model.seen("formulas")) writeFormulas(model);
      if (changed.picture || changed.process || changed.pixels) writeFacts(model);
      writeTable(model);
      const p = model.probed || (model.lit !== null ? model.pixels[model.lit] : null);
      set(readout, p
        ? fill(model.probed ? texts().probed : texts().lit, { k: p.k + 1, where: where(p, model.picture), x0: decimal(p.x0),
          snr: decimal(p.ours.snr), snr_ddpm: decimal(p.ddpm.snr), x: decimal(p.ours.x), x_ddpm: decimal(p.ddpm.x) })
        : texts().point);
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
