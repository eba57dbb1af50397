// Water pouring (Fig. 1): a vessel a pixel, its level the SNR left; beside it the two classical fillings.
import { decade, decimal } from "../page.js";
import * as D from "./plot.js";
import * as P from "./process.js";

const POUR_DECADES = [-4, 3]; // log10 |dSNR/dt| of the thinnest and of the thickest stream

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

export function water(host, range) {
  const vessels = D.sheet(host.querySelector("canvas[data-chart=water]"));
  const panels = ["process", "filling", "reverse"].map((name) => D.sheet(host.querySelector(`canvas[data-chart=${name}]`)));
  let phase = 0;

  function pour(model, colors, moving) {
    if (!vessels.begin()) return;
    const { ink, width, height } = vessels, { pixels } = model, { font } = colors;
    if (moving) phase += 0.35;
    const top = 20, bottom = height - 62, n = pixels.length; // the brim and the foot are those of the SNR chart
    if (!n) { D.text(ink, "Click the picture to add a pixel.", width / 2, height / 2, { align: "center", size: 13, color: colors.quiet, font }); return; }
    const cell = (width - 40) / n, wide = Math.min(64, cell * 0.62);
    const level = (snr) => Math.max(0, Math.min(1, (Math.log10(snr) - range[0]) / (range[1] - range[0])));
    const y = (share) => bottom - share * (bottom - top);
    for (let e = range[0]; e <= range[1]; e += 4) {
      const at = Math.round(y((e - range[0]) / (range[1] - range[0]))) + 0.5;
      D.line(ink, 30, at, width, at, { color: colors.grid });
      D.text(ink, e ? decade(e) : "1", 26, at, { align: "right", base: "middle", color: colors.quiet, font });
    }
    for (const { k, color, ours, ddpm } of pixels) {
      const mid = 36 + cell * (k + 0.5), left = mid - wide / 2, right = mid + wide / 2, foot = wide * 0.12;
      const alpha = model.lit !== null && model.lit !== k ? 0.3 : 1;
      const share = level(ours.snr), surface = y(share);
      ink.save();
      ink.globalAlpha = alpha;
      const glass = () => { ink.beginPath(); ink.moveTo(left, top); ink.lineTo(left + foot, bottom); ink.lineTo(right - foot, bottom); ink.lineTo(right, top); };
      // Glass, then water with a surface that ripples while it pours.
      glass(); ink.closePath(); ink.fillStyle = colors.dark ? "rgb(255 255 255 / 0.04)" : "rgb(15 40 70 / 0.035)"; ink.fill();
      ink.save();
      glass(); ink.closePath(); ink.clip();
      ink.beginPath(); ink.moveTo(left, bottom);
      const swell = moving && share > 0.01 && share < 0.995 ? 1.6 : 0;
      for (let x = left; x <= right + 1; x += 4) ink.lineTo(x, surface + swell * Math.sin(x / 6 + phase + k));
      ink.lineTo(right, bottom); ink.closePath();
      ink.fillStyle = color; ink.globalAlpha = alpha * 0.62; ink.fill();
      ink.globalAlpha = alpha;
      if (share > 0) D.line(ink, left, surface, right, surface, { color, width: 2 });
      // DDPM's level, as a dashed mark on the same vessel.
      const mark = y(level(ddpm.snr));
      D.line(ink, left - 2, mark, right + 2, mark, { color: colors.text, width: 1.6, dash: [4, 3] });
      ink.restore();
      glass(); ink.lineWidth = model.lit === k ? 2.6 : 1.6; ink.strokeStyle = model.lit === k ? color : colors.quiet; ink.lineJoin = "round";
      ink.moveTo(left + foot, bottom); ink.stroke();
      // The pour.
      const strength = (Math.log10(ours.rate) - POUR_DECADES[0]) / (POUR_DECADES[1] - POUR_DECADES[0]);
      const thick = Number.isFinite(strength) ? Math.max(0, Math.min(1, strength)) * Math.min(16, wide * 0.34) : 0;
      if (thick > 0.2) {
        ink.fillStyle = color; ink.globalAlpha = alpha * 0.8;
        ink.fillRect(mid - thick / 2, bottom + 1, thick, 20);
        ink.globalAlpha = alpha * 0.9; ink.fillStyle = colors.paper;
        if (moving) for (let d = 0; d < 3; d++) ink.fillRect(mid - thick / 6, bottom + 1 + ((phase * 3 + d * 7 + k * 3) % 20), Math.max(1, thick / 3), 2.5);
      }
      ink.globalAlpha = alpha;
      D.badge(ink, k + 1, mid, bottom + 32, { color, font, radius: 8, alpha });
      D.text(ink, decimal(Number(ours.snr.toPrecision(2))), mid, bottom + 53, { align: "center", size: n > 4 ? 10.5 : 11.5, color: colors.text, font });
      ink.restore();
    }
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
    const { theory: found } = model;
    const [process, filling, reverse] = panels;
    if (!found) { for (const panel of panels) if (panel.begin()) D.text(panel.ink, model.pixels.length ? "There is no noise at t = 0." : "Pick a pixel.", panel.width / 2, panel.height / 2, { align: "center", size: 13, color: colors.quiet, font: colors.font }); return; }
    bars(process, model, colors, found.noise.map((water) => ({ water })), { high: 1 });
    const most = nice(Math.max(found.filling.level, ...found.noise.map((n, k) => n + found.power[k])) * 1.04);
    bars(filling, model, colors, found.noise.map((ground, k) => ({ ground, water: found.filling.amounts[k], mark: ground + found.power[k] })),
      { high: most, level: found.filling.level, waterName: `level ${found.filling.level.toPrecision(3)}` });
    const widest = nice(Math.max(...found.variances) * 1.04);
    bars(reverse, model, colors, found.variances.map((outline, k) => ({ outline, water: found.reverse.amounts[k], mark: found.distortion[k] })),
      { high: widest, level: found.reverse.level, waterName: `level ${found.reverse.level.toPrecision(3)}` });
  }

  // The vessel under the pointer, or null.
  function under(event, { pixels }) {
    const box = vessels.canvas.getBoundingClientRect(), k = Math.floor((event.clientX - box.left - 36) / ((box.width - 40) / pixels.length));
    return k >= 0 && k < pixels.length ? k : null;
  }

  return {
    draw(model, changed, colors, moving) {
      if (changed.look) for (const sheet of [vessels, ...panels]) sheet.measure();
      if (model.seen("water")) pour(model, colors, moving);
      if (model.seen("theory")) classical(model, colors);
    },
    under, canvas: vessels.canvas,
  };
}
