// Water pouring (Fig. 1) that obeys conservation: a vessel a pixel, its level the bits of signal left, its stream what
// leaves it, and one basin of noise below; beside it the two classical fillings.
import { fill, words } from "../language.js";
import { decimal, node } from "../page.js";
import * as D from "./plot.js";
import * as P from "./process.js";

export const BRIM = 0.5; // bits: signal and noise are equal, SNR = 1
export const WIDEST = 20; // bits per unit of t whose stream is as wide as its vessel
const LINGER = 0.04; // of t: how long a change of the fastest pixel stays on the screen

/**
 * What is drawn of a vessel `wide` by `high`, in the same units. Its water is a rectangle wide * level, and falls out at
 * the `speed` per unit of t in a stream: d(wide * level)/dt = -stream * speed, until the brim is reached from above.
 * @param {{ snr: number, rate: number }} pixel rate: |dSNR/dt|
 */
export function vessel({ snr, rate }, wide, high) {
  const bits = P.bits(snr), pours = P.bitsRate(snr, rate);
  return { bits, level: (Math.min(BRIM, bits) / BRIM) * high, over: bits > BRIM,
    stream: bits > BRIM ? 0 : Math.min(1, pours / WIDEST) * wide, full: pours > WIDEST, speed: (high * WIDEST) / BRIM };
}

// What the same pixels look like to three ways of sharing out noise, at step i > 0. Budgets are the process's own:
// water-filling gets the signal power that is left, reverse water-filling the distortion that there is.
export function theory(pixels) {
  const noise = pixels.map((p) => -Math.expm1(p.ours.log));
  const power = pixels.map((p) => Math.exp(p.ours.log) * p.x0 ** 2);
  const variances = pixels.map((p) => p.x0 ** 2);
  const distortion = pixels.map((p) => p.x0 ** 2 / (1 + p.ours.snr));
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  return {
    noise, power, variances, distortion,
    filling: P.waterFilling(noise, sum(power)),
    reverse: P.reverseWaterFilling(variances, Math.min(sum(variances), sum(distortion))),
  };
}

// Where vessels, picture and basin stand on a sheet of this size: a row of vessels, or each on its pixel.
/** @returns {any} */
function layout(width, height, { pixels, picture }, standing) {
  const n = pixels.length, top = 34, foot = height - 26;
  if (standing) {
    const tall = Math.min((foot - top) / 1.24, ((width - 8) * picture.rows) / picture.columns), across = (tall * picture.columns) / picture.rows;
    const left = (width - across) / 2, wide = 0.08 * across, high = 0.3 * tall;
    return { wide, high, left, right: left + across, foot, image: [left, top, across, tall], ground: top + tall,
      at: ({ row, col }) => ({ mid: left + (across * (col + 0.5)) / picture.columns, bottom: top + Math.max(high, (tall * (row + 0.5)) / picture.rows) }) };
  }
  const left = 44, right = width - 6, cell = (right - left) / n, high = (foot - top - 20) / 1.32;
  return { wide: Math.min(0.3 * cell, 0.5 * high), high, left, right, foot, image: null, ground: top + high + 18,
    at: ({ k }) => ({ mid: left + cell * (k + 0.5), bottom: top + high }) };
}

// Gray grain: what the signal becomes.
function grain() {
  const tile = node("canvas", { width: 64, height: 64 }), ink = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d")), image = ink.createImageData(64, 64);
  let seed = 1;
  for (let k = 0; k < image.data.length; k += 4) {
    seed = (seed * 16807) % 2147483647;
    image.data.fill(112 + (seed % 64), k, k + 3);
    image.data[k + 3] = 255;
  }
  ink.putImageData(image, 0, 0);
  return tile;
}

export function water(host, pictureOf) {
  const vessels = D.sheet(host.querySelector("canvas[data-chart=water]"));
  const panels = ["process", "filling", "reverse"].map((name) => D.sheet(host.querySelector(`canvas[data-chart=${name}]`)));
  const tile = grain();
  let standing = false;

  function pour(model, colors) {
    if (!vessels.begin()) return;
    const { ink, width, height } = vessels, { pixels, t } = model, { font } = colors, texts = words().instrument;
    if (!pixels.length) { D.text(ink, texts.add_pixel, width / 2, height / 2, { align: "center", size: 13, color: colors.quiet, font }); return; }
    const frame = layout(width, height, model, standing), { wide, high, left, right, foot, ground } = frame;
    if (frame.image) {
      ink.imageSmoothingEnabled = false;
      ink.drawImage(pictureOf(), ...frame.image);
    } else ["0", texts.quarter, texts.half].forEach((tick, k) => {
      const at = Math.round(ground - 18 - (k / 2) * high) + 0.5;
      D.line(ink, left - 4, at, right, at, { color: colors.grid });
      D.text(ink, tick, left - 8, at, { align: "right", base: "middle", color: colors.quiet, font });
    });
    // The basin: as much area as has left all vessels since their brims.
    const drawn = pixels.map((pixel) => ({ pixel, ...frame.at(pixel), ...vessel(pixel.ours, wide, high), theirs: vessel(pixel.ddpm, wide, high).level }));
    const surface = foot - drawn.reduce((sum, one) => sum + wide * (high - one.level), 0) / (right - left);
    ink.fillStyle = ink.createPattern(tile, "repeat");
    ink.fillRect(left, surface, right - left, foot - surface);
    ink.strokeStyle = colors.quiet; ink.lineWidth = 1.6;
    ink.beginPath(); ink.moveTo(left, ground); ink.lineTo(left, foot); ink.lineTo(right, foot); ink.lineTo(right, ground); ink.stroke();
    for (const { pixel: { k, color }, mid, bottom, bits, level, over, stream, full, speed, theirs } of drawn) {
      const from = mid - wide / 2, lit = model.lit === k;
      ink.save();
      ink.globalAlpha = model.lit !== null && !lit ? 0.3 : 1;
      ink.fillStyle = colors.paper;
      if (frame.image) { ink.globalAlpha *= 0.75; ink.fillRect(from, bottom - high, wide, high); ink.globalAlpha /= 0.75; }
      ink.fillStyle = color;
      ink.fillRect(from, bottom - level, wide, level);
      ink.fillRect(mid - stream / 2, bottom, stream, Math.max(0, surface - bottom));
      if (full && stream) D.line(ink, mid - wide / 2, bottom + 3, mid + wide / 2, bottom + 3, { color: colors.paper, width: 2, dash: [2, 2] }); // wider still
      // Specks fall as fast as the water does.
      ink.fillStyle = colors.paper;
      if (stream > 1) for (let y = (speed * t) % 22; y < surface - bottom; y += 22) ink.fillRect(mid - Math.min(1, stream / 4), bottom + y, Math.min(2, stream / 2), 4);
      ink.lineWidth = lit ? 2.6 : 1.6; ink.strokeStyle = lit ? color : colors.quiet;
      ink.beginPath(); ink.moveTo(from, bottom - high); ink.lineTo(from, bottom); ink.lineTo(from + wide, bottom); ink.lineTo(from + wide, bottom - high); ink.stroke();
      D.line(ink, from - 3, bottom - theirs, from + wide + 3, bottom - theirs, { color: colors.text, width: 1.6, dash: [4, 3] });
      // Over the brim: a crest, and what stands above it.
      if (over) {
        ink.fillStyle = color;
        ink.beginPath(); ink.moveTo(from - 4, bottom - high + 5); ink.quadraticCurveTo(mid, bottom - high - 9, from + wide + 4, bottom - high + 5); ink.lineTo(from + wide, bottom - high); ink.lineTo(from, bottom - high); ink.fill();
        D.text(ink, `▲ ${decimal(Number((bits - BRIM).toPrecision(2)))}`, mid, bottom - high - 8, { align: "center", color: colors.text, halo: frame.image && colors.page, font });
      }
      const below = frame.image ? bottom - 9 : height - 11, fastest = model.fastest === k;
      const told = frame.image ? "" : decimal(Number(bits.toPrecision(2))), shift = frame.image ? -wide / 2 - 12 : -14;
      D.badge(ink, k + 1, mid + shift, below, { color, font, radius: 8, alpha: ink.globalAlpha });
      D.text(ink, told, mid + shift + 14, below + 4, { size: pixels.length > 4 ? 10.5 : 11.5, color: colors.text, font });
      if (fastest) { ink.beginPath(); ink.arc(mid + shift, below, 10.5, 0, 7); ink.lineWidth = 2; ink.strokeStyle = colors.text; ink.stroke(); }
      ink.restore();
    }
    const change = model.changes.find((one) => t >= one.t && t < one.t + LINGER);
    if (change) {
      const { mid, bottom } = drawn[change.to], age = (t - change.t) / LINGER;
      ink.save(); ink.globalAlpha = 1 - age;
      ink.beginPath(); ink.arc(mid, bottom, wide / 2 + 6 + 20 * age, 0, 7); ink.lineWidth = 3; ink.strokeStyle = colors.text; ink.stroke();
      ink.restore();
    }
    const said = change ? fill(texts.overtakes, { to: change.to + 1, from: change.from + 1 }) : model.fastest === null ? texts.nothing_left : fill(texts.fastest, { k: model.fastest + 1 });
    D.text(ink, said, (left + right) / 2, 13, { align: "center", size: 12.5, weight: change ? 700 : 400, color: colors.text, font });
  }

  /**
   * Bars a pixel: `ground` from below, `water` on it, `mark` where the process itself is.
   * @param {any} sheet
   * @param {any} model
   * @param {any} colors
   * @param {{ ground?: number, water: number, mark?: number, outline?: number }[]} rows
   * @param {{ high: number, level?: number | null, waterName?: string }} scale
   */
  function bars(sheet, model, colors, rows, { high, level = null, waterName = "" }) {
    if (!sheet.begin()) return;
    const { ink, width, height } = sheet, { font } = colors, n = rows.length;
    const box = { left: 34, right: width - 8, top: 10, bottom: height - 26 };
    const map = D.axes(ink, box, { x: [0, 1], xTicks: [], y: [0, high], yTicks: [0, high / 2, high] }, colors);
    const cell = (box.right - box.left) / Math.max(1, n), wide = Math.min(46, cell * 0.6);
    rows.forEach(({ ground, water, mark, outline }, k) => {
      const { color } = model.pixels[k], mid = box.left + cell * (k + 0.5);
      const rect = (from, to) => ink.rect(mid - wide / 2, map.y(to), wide, map.y(from) - map.y(to));
      ink.save();
      ink.globalAlpha = model.lit !== null && model.lit !== k ? 0.3 : 1;
      if (ground) {
        ink.beginPath(); rect(0, ground); ink.fillStyle = colors.grid; ink.fill();
        ink.save(); ink.clip(); ink.strokeStyle = colors.quiet; ink.lineWidth = 1; ink.globalAlpha *= 0.5; // hatched: the ground
        for (let s = -height; s < wide + height; s += 6) { ink.beginPath(); ink.moveTo(mid - wide / 2 + s, box.bottom); ink.lineTo(mid - wide / 2 + s + height, box.bottom - height); ink.stroke(); }
        ink.restore();
      }
      if (water > 0) { ink.beginPath(); rect(ground || 0, (ground || 0) + water); ink.fillStyle = color; ink.fill(); }
      if (outline) { ink.beginPath(); rect(0, outline); ink.strokeStyle = colors.text; ink.lineWidth = 1.2; ink.stroke(); }
      if (mark !== undefined) D.line(ink, mid - wide / 2 - 5, map.y(mark), mid + wide / 2 + 5, map.y(mark), { color: colors.text, width: 2 });
      D.badge(ink, k + 1, mid, box.bottom + 13, { color, font });
      ink.restore();
    });
    if (level !== null) {
      D.line(ink, box.left, map.y(level), box.right, map.y(level), { color: colors.accent, width: 1.8, dash: [6, 3] });
      const at = map.y(level) < box.top + 14 ? map.y(level) + 12 : map.y(level) - 4;
      D.text(ink, waterName, box.left + 4, at, { color: colors.text, halo: colors.page, font });
    }
  }
  const nice = (v) => { const p = 10 ** Math.floor(Math.log10(v)); return ([1, 2, 4, 5, 8].find((m) => m * p >= v) ?? 10) * p; };

  function classical(model, colors) {
    const { theory: found } = model, texts = words().instrument;
    const level = (value) => fill(texts.level, { level: value.toPrecision(3) });
    const [process, filling, reverse] = panels;
    if (!found) { for (const panel of panels) if (panel.begin()) D.text(panel.ink, model.pixels.length ? texts.no_noise : texts.pick, panel.width / 2, panel.height / 2, { align: "center", size: 13, color: colors.quiet, font: colors.font }); return; }
    bars(process, model, colors, found.noise.map((water) => ({ water })), { high: 1 });
    const most = nice(Math.max(found.filling.level, ...found.noise.map((n, k) => n + found.power[k])) * 1.04);
    bars(filling, model, colors, found.noise.map((ground, k) => ({ ground, water: found.filling.amounts[k], mark: ground + found.power[k] })),
      { high: most, level: found.filling.level, waterName: level(found.filling.level) });
    const widest = nice(Math.max(...found.variances) * 1.04);
    bars(reverse, model, colors, found.variances.map((outline, k) => ({ outline, water: found.reverse.amounts[k], mark: found.distortion[k] })),
      { high: widest, level: found.reverse.level, waterName: level(found.reverse.level) });
  }

  // The vessel under the pointer, or null.
  function under(event, model) {
    const box = vessels.canvas.getBoundingClientRect(), zoom = box.width / vessels.width;
    const frame = layout(vessels.width, vessels.height, model, standing), x = (event.clientX - box.left) / zoom, y = (event.clientY - box.top) / zoom;
    const near = model.pixels.filter((pixel) => { const { mid, bottom } = frame.at(pixel); return Math.abs(mid - x) < frame.wide && (!standing || Math.abs(bottom - frame.high / 2 - y) < frame.high); });
    return near.at(-1)?.k ?? null;
  }

  return {
    draw(model, changed, colors) {
      if (changed.look) for (const sheet of [vessels, ...panels]) sheet.measure();
      if (model.seen("water")) pour(model, colors);
      if (model.seen("theory")) classical(model, colors);
    },
    stand(on) { standing = on; },
    under, canvas: vessels.canvas,
  };
}
