// SNR over t and over x0, mean and variance over t, the histogram of x_t, and lambda over t, all with the cursor at t.
import { fill, words } from "../language.js";
import { decimal } from "../page.js";
import * as D from "./plot.js";
import * as P from "./process.js";

const SNR_DECADES = [-8, 4]; // fixed, so that a curve that falls is seen to fall
const LAMBDAS = [-5, 3]; // noise deviation from 1 to 0.05
const BINS = 56, REACH = 4;
const DDPM_DASH = [5, 4];
const dimmed = (model, k) => (model.lit !== null && model.lit !== k ? 0.22 : 1);

// Steps close together at the start, where SNR falls fastest.
const steps = (T, count) => [...new Set(Array.from({ length: count + 1 }, (_, k) => Math.round(T * (k / count) ** 2)))].filter((i) => i > 0);
const TIMES = Array.from({ length: 181 }, (_, k) => (k / 180) ** 2).slice(1);

/** @returns {Record<"ours" | "ddpm", [number[], number[]]>} */
function snrCurves(x0, { ours, state, ddpm }) {
  const some = steps(state.T, 140);
  return {
    ours: [TIMES, TIMES.map((t) => P.snr(x0, ours.log(x0, t * state.T)))],
    ddpm: [some.map((i) => i / state.T), some.map((i) => P.snr(x0, ddpm[i]))],
  };
}

export function curves(host, props) {
  const sheetOf = (name) => D.sheet(host.querySelector(`canvas[data-chart=${name}]`));
  const sheets = { snr: sheetOf("snr"), moments: sheetOf("moments"), histogram: sheetOf("histogram"), clock: sheetOf("clock") };
  const said = host.querySelector(".pvi-lambda");
  const copy = D.layers();
  let place = null; // maps of the SNR chart as last drawn, for the pointer
  let version = 0; // of all that the curves depend on but t

  function snr(model, colors) {
    const sheet = sheets.snr;
    if (!sheet.begin()) return;
    const { ink, width, height } = sheet, { state, pixels, ours, i, t } = model, { font } = colors, texts = words().instrument;
    const side = Math.max(92, Math.min(230, width * 0.27));
    const top = 20, bottom = height - 34, left = 38;
    const over = { left, right: width - side - 24, top, bottom };
    const across = { left: width - side, right: width - 10, top, bottom };
    const yTicks = Array.from({ length: 7 }, (_, k) => SNR_DECADES[0] + 2 * k);
    const frame = { log: true, y: SNR_DECADES, yTicks };
    const inTime = { ...frame, x: [0, 1], xTicks: [0, 0.25, 0.5, 0.75, 1], xName: "t" };
    const inX0 = { ...frame, x: [0, 1], xTicks: [0, 0.5, 1], xName: "x₀", yNames: false };

    copy("snr", `${version}|${state.basic}|${model.lit}|${colors.dark}`, sheet, (layer) => {
      const map = D.axes(layer, over, inTime, colors);
      D.axes(layer, across, inX0, colors);
      D.text(layer, texts.over_time, left, top - 8, { color: colors.quiet, font });
      D.text(layer, texts.over_x0, across.right, top - 8, { align: "right", color: colors.quiet, font });
      D.curve(layer, map, TIMES, TIMES.map((s) => P.highestSnr(state.gamma, ours, s * state.T)), { color: colors.quiet, width: 1.2, dash: [1.5, 3] });
      if (!state.basic && model.tDelta !== null && model.tDelta <= 1) { // a term of the full view
        const x = map.x(model.tDelta);
        D.line(layer, x, top, x, bottom, { color: colors.quiet, dash: [4, 3] });
        const room = over.right - over.left > 300;
        const [a, b] = state.pair, when = model.tDelta.toPrecision(3), label = room ? fill(texts.t_delta, { a: a + 1, b: b + 1, t: when }) : `tδ ${when}`;
        const flip = x > (over.left + over.right) / 2;
        D.text(layer, label, x + (flip ? -5 : 5), top + 11, { align: flip ? "right" : "left", color: colors.text, halo: colors.page, font });
      }
      /** @type {{ k: number, color: string, curves: ReturnType<typeof snrCurves> }[]} */
      const all = pixels.map((pixel) => ({ ...pixel, curves: snrCurves(pixel.x0, model) }));
      for (const { k, color, curves } of all) {
        const alpha = dimmed(model, k), bold = model.lit === k ? 3 : 2;
        D.curve(layer, map, ...curves.ddpm, { color, dash: DDPM_DASH, alpha: alpha * 0.9, width: bold - 0.4 });
        D.curve(layer, map, ...curves.ours, { color, alpha, width: bold });
      }
      // A badge on each of our curves, spread so that they do not cover each other.
      all.forEach(({ k, color, curves }, n) => {
        const from = Math.round(TIMES.length * (0.42 + (0.4 * (n + 0.5)) / all.length));
        for (let at = from; at > 2; at -= 4) {
          const y = map.y(curves.ours[1][at]);
          if (y > bottom - 8 || !Number.isFinite(y)) continue;
          D.badge(layer, k + 1, map.x(curves.ours[0][at]), y, { color, font, alpha: dimmed(model, k) });
          break;
        }
      });
    });
    const scale = (box) => ({ box, x: (v) => box.left + v * (box.right - box.left),
      y: (v) => bottom - ((Math.log10(v) - SNR_DECADES[0]) / (SNR_DECADES[1] - SNR_DECADES[0])) * (bottom - top) });
    const map = scale(over), beside = scale(across);
    place = { map, beside };
    if (model.probed) {
      const curves = snrCurves(model.probed.x0, model);
      D.curve(ink, map, ...curves.ddpm, { color: colors.text, dash: [2, 3], width: 1.4 });
      D.curve(ink, map, ...curves.ours, { color: colors.text, width: 1.6 });
    }
    const x = map.x(t);
    D.line(ink, x, top, x, bottom, { color: colors.text, width: 1.4 });
    if (!model.i) { D.text(ink, texts.infinite, across.left + 4, (top + bottom) / 2, { color: colors.quiet, font }); return; }
    const xs = Array.from({ length: 90 }, (_, k) => (k + 1) / 90), log = model.ddpm[model.i];
    D.curve(ink, beside, xs, xs.map((v) => P.snr(v, log)), { color: colors.quiet, dash: DDPM_DASH, width: 1.6 });
    D.curve(ink, beside, xs, xs.map((v) => P.snr(v, ours.log(v, i))), { color: colors.text, width: 1.8 });
    const peak = ours.clock ? P.snrPeak(state.gamma, ours.clock[i]) : Infinity;
    if (peak <= 1) {
      const y = beside.y(P.highestSnr(state.gamma, ours, i));
      if (y < bottom) {
        D.line(ink, beside.x(peak), y, beside.x(peak), bottom, { color: colors.text, dash: [2, 3] });
        D.text(ink, fill(texts.peak, { x0: decimal(Number(peak.toPrecision(3))) }), Math.min(across.right - 52, Math.max(across.left + 2, beside.x(peak) - 24)), y - 9, { color: colors.text, font });
      }
    }
    for (const { k, color, x0, ours, ddpm } of pixels) {
      const look = { color, paper: colors.paper, alpha: dimmed(model, k), radius: model.lit === k ? 5.5 : 4 };
      D.dot(ink, map, t, ddpm.snr, { ...look, hollow: true });
      D.dot(ink, map, t, ours.snr, look);
      D.dot(ink, beside, x0, ours.snr, look);
    }
    if (model.probed) D.dot(ink, beside, model.probed.x0, model.probed.ours.snr, { color: colors.text, paper: colors.paper, radius: 4 });
  }

  function moments(model, colors) {
    const sheet = sheets.moments;
    if (!sheet.begin()) return;
    const { ink, width, height } = sheet, half = width / 2, { font } = colors, texts = words().instrument;
    const top = 54, bottom = height - 32;
    /** @type {[string, Record<string, number>, [number, number], number[], number][]} */
    const panels = [
      ["mean", { left: 30, right: half - 14, top, bottom }, [-0.2, 1], [0, 0.5, 1], 0],
      ["variance", { left: half + 22, right: width - 10, top, bottom }, [0, 1.25], [0, 0.5, 1], 1],
    ];
    const maps = {};
    copy("moments", `${version}|${colors.dark}`, sheet, (layer) => {
      for (const [name, box, y, yTicks, target] of panels) {
        const map = D.axes(layer, box, { x: [0, 1], xTicks: [0, 0.5, 1], xName: "t", y, yTicks }, colors);
        D.line(layer, box.left, map.y(target), box.right, map.y(target), { color: colors.text, dash: [2, 3] });
        for (const method of ["ddpm", "ours"])
          model.curves[method].forEach((channel, c) => D.curve(layer, map, model.curves.t, channel[name], {
            color: props.channels[model.picture.channels === 3 ? c : 3][1], dash: method === "ddpm" ? DDPM_DASH : [], width: 1.8 }));
      }
    });
    for (const [name, box, [y0, y1]] of panels) {
      const map = (maps[name] = { box, x: (v) => box.left + v * (box.right - box.left), y: (v) => box.bottom - ((v - y0) / (y1 - y0)) * (box.bottom - box.top) });
      D.line(ink, map.x(model.t), top, map.x(model.t), bottom, { color: colors.text, width: 1.2 });
      const average = (method) => model.moments[method].reduce((sum, channel) => sum + channel[name], 0) / model.picture.channels;
      for (const method of ["ddpm", "ours"])
        model.moments[method].forEach((channel, c) => D.dot(ink, map, model.t, channel[name], {
          color: props.channels[model.picture.channels === 3 ? c : 3][1], paper: colors.paper, radius: 3.4, hollow: method === "ddpm" }));
      D.text(ink, texts[name], box.left - 24, 12, { color: colors.text, weight: 600, size: 12, font });
      D.text(ink, `${texts.aware} ${average("ours").toFixed(3)}`, box.left - 24, 27, { color: colors.quiet, font });
      D.text(ink, `DDPM ${average("ddpm").toFixed(3)}`, box.left - 24, 41, { color: colors.quiet, font });
    }
  }

  // lambda over t: a level line meets every pixel's curve where that pixel has the same noise.
  function clock(model, colors) {
    const sheet = sheets.clock;
    if (!sheet.begin()) return;
    const { ink, width, height } = sheet, { state, pixels, ours, t } = model, { font } = colors, texts = words().instrument;
    const box = { left: 30, right: width - 10, top: 10, bottom: height - 32 };
    const map = D.axes(ink, box, { x: [0, 1], xTicks: [0, 0.25, 0.5, 0.75, 1], xName: "t", y: LAMBDAS, yTicks: [-4, -2, 0, 2] }, colors);
    for (const { k, color, x0 } of pixels) D.curve(ink, map, TIMES, TIMES.map((s) => P.halfLogOdds(ours.log(x0, s * state.T))), { color, alpha: dimmed(model, k) });
    D.line(ink, map.x(t), box.top, map.x(t), box.bottom, { color: colors.text, width: 1.2 });
    const first = pixels.find(({ k }) => k === model.lit) ?? pixels[0];
    said.textContent = !first || !model.i ? texts.clock_start : ours.clock ? "" : texts.clock_own;
    if (said.textContent) return;
    const lambda = P.halfLogOdds(first.ours.log), noise = Math.sqrt(-Math.expm1(first.ours.log));
    D.line(ink, box.left, map.y(lambda), box.right, map.y(lambda), { color: colors.text, dash: [4, 3] });
    const when = pixels.map(({ k, color, x0 }) => {
      const there = k === first.k ? t : P.timeOf(ours.clock, x0, state.gamma, lambda);
      if (there > 1) return fill(texts.clock_never, { k: k + 1 });
      D.badge(ink, k + 1, map.x(there), map.y(lambda), { color, font, alpha: dimmed(model, k) });
      return fill(texts.clock_at, { k: k + 1, t: there.toFixed(3) });
    });
    said.textContent = fill(texts.clock_line, { lambda: lambda.toFixed(2), noise: noise.toFixed(3), pixels: when.join(", ") });
  }

  const counts = new Float64Array(BINS);
  const normal = (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  function histogram(model, colors) {
    const sheet = sheets.histogram;
    if (!sheet.begin()) return;
    const { ink, width, height } = sheet;
    const box = { left: 30, right: width - 10, top: 10, bottom: height - 32 }, highest = 0.9;
    const map = D.axes(ink, box, { x: [-REACH, REACH], xTicks: [-4, -2, 0, 2, 4], xName: "xₜ", y: [0, highest], yTicks: [0, 0.4, 0.8] }, colors);
    ink.beginPath(); ink.moveTo(map.x(-REACH), box.bottom);
    for (let x = -REACH; x <= REACH; x += 0.1) ink.lineTo(map.x(x), map.y(normal(x)));
    ink.lineTo(map.x(REACH), box.bottom); ink.closePath();
    ink.globalAlpha = colors.dark ? 0.3 : 0.22; ink.fillStyle = colors.quiet; ink.fill(); ink.globalAlpha = 1;
    const bin = (2 * REACH) / BINS;
    /** @type {[string, number[]][]} */
    const looks = [["ddpm", DDPM_DASH], ["ours", []]];
    for (const [method, dash] of looks) {
      const x = model.noisy(method);
      P.histogram(x, -REACH, REACH, counts);
      const xs = [], ys = [];
      for (let k = 0; k < BINS; k++) { const y = Math.min(1.2 * highest, counts[k] / x.length / bin); xs.push(-REACH + k * bin, -REACH + (k + 1) * bin); ys.push(y, y); }
      D.curve(ink, map, xs, ys, { color: method === "ours" ? colors.accent : colors.other, dash, width: 1.9 });
    }
  }

  // What of the SNR chart is under the pointer: { t } and, where it is near a curve, its pixel.
  function under(event, model) {
    if (!place) return null;
    const box = sheets.snr.canvas.getBoundingClientRect(), zoom = box.width / sheets.snr.width, x = (event.clientX - box.left) / zoom, y = (event.clientY - box.top) / zoom;
    const near = (list) => list.filter(([, d]) => d < 14).sort((a, b) => a[1] - b[1])[0]?.[0] ?? null;
    const { map, beside } = place;
    if (x > map.box.right + 12)
      return { t: null, pixel: near(model.pixels.map((p) => [p.k, Math.hypot(beside.x(p.x0) - x, beside.y(p.ours.snr) - y)])) };
    const t = Math.max(0, Math.min(1, (x - map.box.left) / (map.box.right - map.box.left)));
    const i = Math.round(t * model.state.T);
    return { t, pixel: near(model.pixels.flatMap((p) => [
      [p.k, Math.abs(map.y(P.snr(p.x0, model.ours.log(p.x0, t * model.state.T))) - y)],
      [p.k, Math.abs(map.y(P.snr(p.x0, model.ddpm[i])) - y)]])) };
  }

  return {
    draw(model, changed, colors) {
      if (changed.picture || changed.process || changed.pixels) version += 1;
      for (const [name, paint] of Object.entries({ snr, moments, histogram, clock })) {
        if (changed.look) sheets[name].measure();
        if (model.seen(name)) paint(model, colors);
      }
    },
    under, canvas: sheets.snr.canvas,
  };
}
