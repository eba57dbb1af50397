// Drawing on canvases: sharp on every screen, with the theme's colours; axes shared by all charts of the instrument.
import { decade, decimal } from "../page.js";

// Colours of the page's theme; asked for again when the theme changes.
export function palette(element) {
  const style = getComputedStyle(element);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    text: read("--body-text-color"), quiet: read("--body-text-color-subdued"), grid: read("--border-color-primary"),
    paper: read("--block-background-fill"), accent: read("--color-accent"),
    page: read("--body-background-fill"), dark: !!element.closest(".dark"), font: style.fontFamily,
  };
}

// A canvas as a sheet of CSS pixels, each `--zoom` screen pixels wide. `measure()` after a change of layout; `begin()`
// clears it, and returns false where it has no size.
export function sheet(canvas) {
  const ink = canvas.getContext("2d");
  const self = {
    canvas, ink, width: 0, height: 0,
    zoom: 1,
    measure() {
      self.zoom = Number(getComputedStyle(canvas).getPropertyValue("--zoom")) || 1;
      [self.width, self.height] = [canvas.clientWidth / self.zoom, canvas.clientHeight / self.zoom];
    },
    begin() {
      if (!self.width) self.measure();
      const { width: w, height: h } = self;
      if (!w || !h) return false;
      const unit = (window.devicePixelRatio || 1) * self.zoom, [bw, bh] = [Math.round(w * unit), Math.round(h * unit)];
      if (canvas.width !== bw || canvas.height !== bh) { canvas.width = bw; canvas.height = bh; }
      ink.setTransform(unit, 0, 0, unit, 0, 0);
      ink.clearRect(0, 0, w, h);
      return true;
    },
  };
  return self;
}

// What stays the same while time moves is drawn once, and copied from the second time on: while gamma is dragged
// nothing stays, and copying would only cost. layer(name, key, sheet, draw)
export function layers() {
  const kept = new Map();
  return (name, key, target, draw) => {
    let layer = kept.get(name);
    const { canvas } = target;
    if (!layer) kept.set(name, (layer = { canvas: document.createElement("canvas"), key: null, drawn: null }));
    const full = `${key}|${canvas.width}x${canvas.height}`;
    if (layer.key !== full) { layer.key = full; draw(target.ink); return; }
    if (layer.drawn !== full) {
      layer.drawn = full;
      [layer.canvas.width, layer.canvas.height] = [canvas.width, canvas.height];
      const ink = layer.canvas.getContext("2d");
      const unit = canvas.width / target.width;
      ink.setTransform(unit, 0, 0, unit, 0, 0);
      draw(ink);
    }
    target.ink.save();
    target.ink.setTransform(1, 0, 0, 1, 0, 0);
    target.ink.drawImage(layer.canvas, 0, 0);
    target.ink.restore();
  };
}

// `halo`: a color around the letters, where they stand on something.
export const text = (ink, words, x, y, { align = "left", size = 11.5, weight = 400, color, font, base = "alphabetic", halo = null }) => {
  ink.font = `${weight} ${size}px ${font}`;
  ink.textAlign = align; ink.textBaseline = base; ink.fillStyle = color;
  if (halo) { ink.lineWidth = 4; ink.lineJoin = "round"; ink.strokeStyle = halo; ink.strokeText(words, x, y); }
  ink.fillText(words, x, y);
};

// Frame of a chart inside `box`; returns the maps from numbers to places.
export function axes(ink, box, spec, colors) {
  const { left, right, top, bottom } = box;
  const [x0, x1] = spec.x, [y0, y1] = spec.y;
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (right - left);
  const up = (u) => bottom - ((u - y0) / (y1 - y0)) * (bottom - top);
  const y = spec.log ? (v) => up(Math.log10(v)) : up;
  ink.lineWidth = 1; ink.strokeStyle = colors.grid;
  for (const v of spec.yTicks) {
    const at = Math.round(up(v)) + 0.5;
    ink.beginPath(); ink.moveTo(left, at); ink.lineTo(right, at); ink.stroke();
    if (spec.yNames !== false)
      text(ink, spec.log ? (v === 0 ? "1" : decade(v)) : decimal(v), left - 5, at, { align: "right", base: "middle", color: colors.quiet, font: colors.font });
  }
  spec.xTicks.forEach((v, k) => {
    const align = k === 0 && spec.tight ? "left" : k === spec.xTicks.length - 1 ? "right" : "center";
    text(ink, decimal(v), x(v) + (align === "right" ? 4 : 0), bottom + 14, { align, color: colors.quiet, font: colors.font });
    ink.beginPath(); ink.moveTo(Math.round(x(v)) + 0.5, bottom); ink.lineTo(Math.round(x(v)) + 0.5, bottom + 3); ink.stroke();
  });
  if (spec.xName) text(ink, spec.xName, (left + right) / 2, bottom + 28, { align: "center", size: 12, color: colors.text, font: colors.font });
  return { x, y, box };
}

/**
 * A curve through (xs, ys), clipped to the frame; numbers that are none, or too large, interrupt it.
 * @param {CanvasRenderingContext2D} ink
 * @param {any} map what `axes` returned
 * @param {ArrayLike<number>} xs
 * @param {ArrayLike<number>} ys
 * @param {{ color: string, width?: number, dash?: number[], alpha?: number }} look
 */
export function curve(ink, map, xs, ys, { color, width = 2, dash = [], alpha = 1 }) {
  const { left, right, top, bottom } = map.box;
  ink.save();
  ink.beginPath(); ink.rect(left, top, right - left, bottom - top); ink.clip();
  ink.strokeStyle = color; ink.lineWidth = width; ink.globalAlpha = alpha; ink.lineJoin = "round"; ink.setLineDash(dash);
  ink.beginPath();
  let pen = false;
  for (let k = 0; k < xs.length; k++) {
    const v = map.y(ys[k]);
    if (!Number.isFinite(v)) { pen = false; continue; }
    const at = Math.min(bottom + 900, v);
    if (pen) ink.lineTo(map.x(xs[k]), at); else ink.moveTo(map.x(xs[k]), at);
    pen = true;
    if (at > bottom + 800) break; // it only falls from here
  }
  ink.stroke();
  ink.restore();
}

export function dot(ink, map, x, y, { color, paper, radius = 4, hollow = false, alpha = 1 }) {
  const [px, py] = [map.x(x), map.y(y)];
  if (!Number.isFinite(py) || py > map.box.bottom + 1 || py < map.box.top - 1) return;
  ink.globalAlpha = alpha;
  ink.beginPath(); ink.arc(px, py, radius, 0, 7);
  ink.fillStyle = hollow ? paper : color; ink.fill();
  ink.lineWidth = hollow ? 2 : 1.5; ink.strokeStyle = hollow ? color : paper; ink.stroke();
  ink.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} ink
 * @param {number} x0
 * @param {number} y0
 * @param {number} x1
 * @param {number} y1
 * @param {{ color: string, width?: number, dash?: number[] }} look
 */
export function line(ink, x0, y0, x1, y1, { color, width = 1, dash = [] }) {
  ink.save();
  ink.strokeStyle = color; ink.lineWidth = width; ink.setLineDash(dash);
  ink.beginPath(); ink.moveTo(x0, y0); ink.lineTo(x1, y1); ink.stroke();
  ink.restore();
}

// A numbered disc, as on the picture.
export function badge(ink, number, x, y, { color, font, radius = 8, alpha = 1 }) {
  ink.globalAlpha = alpha;
  ink.beginPath(); ink.arc(x, y, radius, 0, 7); ink.fillStyle = color; ink.fill();
  text(ink, String(number), x, y + 0.5, { align: "center", base: "middle", size: radius * 1.35, weight: 700, color: "#fff", font });
  ink.globalAlpha = 1;
}
