// The pictures: x0, x_t of both methods, their difference, who is ahead, and the terminal gap; markers on all.
import { node } from "../page.js";
import * as P from "./process.js";

// 0xAABBGGRR, as a little-endian Uint32 view of ImageData wants it.
const pack = (r, g, b) => (255 << 24) | (b << 16) | (g << 8) | r;
const ramp = (stops, n) => Uint32Array.from({ length: n }, (_, k) => {
  const at = (k / (n - 1)) * (stops.length - 1), j = Math.min(stops.length - 2, Math.floor(at)), f = at - j;
  return pack(...stops[j].map((v, c) => Math.round(v + (stops[j + 1][c] - v) * f)));
});
// Blue: DDPM's is higher; gray: equal; orange: ours is higher. Both ends differ in lightness from the middle.
const SIGNED = ramp([[16, 70, 150], [74, 138, 214], [226, 228, 232], [236, 142, 58], [166, 66, 4]], 511);
const SIGNED_LIMIT = 2;
// Dark to light with growing gap.
const HEAT = ramp([[22, 20, 54], [86, 28, 110], [176, 52, 96], [240, 118, 60], [253, 222, 130]], 256);
const HEAT_DECADES = [-6, 0.5]; // log10 of nats
const OURS = [pack(22, 149, 180), pack(17, 120, 148)], DDPM = [pack(246, 196, 92), pack(120, 72, 8)];
const css = (packed) => `rgb(${packed & 255} ${(packed >> 8) & 255} ${(packed >> 16) & 255})`;

// x (C, H, W) in [floor, 1] as black to white, what lies outside clipped; gray is repeated.
function paint(x, floor, channels, bytes) {
  const size = x.length / channels, scale = 255 / (1 - floor);
  for (let c = 0; c < 3; c++) {
    const from = (c % channels) * size;
    for (let p = 0, at = c; p < size; p++, at += 4) bytes[at] = (x[from + p] - floor) * scale;
  }
}

export function frames(host, props) {
  const keys = ["image", "ours", "ddpm", "difference", "ahead", "gap"];
  /** @type {Record<string, any>} */
  const frames = Object.fromEntries(keys.map((key) => {
    const box = host.querySelector(`[data-view=${key}] .pvi-frame`);
    return [key, { box, canvas: box.querySelector("canvas"), ink: box.querySelector("canvas").getContext("2d"), marks: [] }];
  }));
  let zoom = 1;

  function sized(frame, w, h) {
    if (frame.canvas.width !== w || frame.canvas.height !== h || !frame.image) {
      [frame.canvas.width, frame.canvas.height] = [w, h];
      frame.image = frame.ink.createImageData(w, h);
      frame.image.data.fill(255);
      frame.words = new Uint32Array(frame.image.data.buffer);
    }
    return frame;
  }
  const put = (frame) => frame.ink.putImageData(frame.image, 0, 0);

  // Sizes for a new picture.
  function fit({ rows, columns }) {
    // Small pictures get maps of several screen pixels a pixel, so that the hatching has room.
    zoom = Math.max(1, Math.round(224 / Math.max(rows, columns)));
    for (const [key, frame] of Object.entries(frames)) {
      frame.box.style.setProperty("--ratio", columns / rows);
      const z = key === "ahead" ? zoom : 1;
      sized(frame, columns * z, rows * z);
    }
  }

  function draw(model, changed) {
    const { picture, state, x0 } = model, { channels, rows, columns, index } = picture, size = rows * columns;
    if (changed.picture) {
      const clean = frames.image;
      const bytes = clean.image.data;
      for (let c = 0; c < 3; c++) {
        const from = (c % channels) * size;
        for (let p = 0, at = c; p < size; p++, at += 4) bytes[at] = picture.levels[index[from + p]] * 255;
      }
      put(clean);
    }
    if (model.seen("gap") && (changed.picture || changed.process)) {
      const kl = x0.map((v) => P.kl(v, model.ours.log(v, state.T)));
      const [low, high] = HEAT_DECADES, words = frames.gap.words;
      for (let p = 0; p < size; p++) {
        let sum = 0;
        for (let c = 0; c < channels; c++) sum += kl[index[c * size + p]];
        const share = (Math.log10(sum / channels + 1e-30) - low) / (high - low);
        words[p] = HEAT[Math.max(0, Math.min(255, Math.round(share * 255)))];
      }
      put(frames.gap);
    }
    for (const method of ["ours", "ddpm"])
      if (model.seen(method)) { paint(model.noisy(method), state.floor, channels, frames[method].image.data); put(frames[method]); }
    if (model.seen("difference")) {
      const words = frames.difference.words, scale = 255 / SIGNED_LIMIT / channels;
      const ours = model.noisy("ours"), ddpm = model.noisy("ddpm");
      for (let p = 0; p < size; p++) {
        let sum = 0;
        for (let c = 0, at = p; c < channels; c++, at += size) sum += ours[at] - ddpm[at];
        const at = (255.5 + sum * scale) | 0;
        words[p] = SIGNED[at < 0 ? 0 : at > 510 ? 510 : at];
      }
      put(frames.difference);
    }
    if (model.seen("ahead")) {
      const { words } = frames.ahead, wide = columns * zoom;
      for (let row = 0, p = 0; row < rows; row++)
        for (let col = 0; col < columns; col++, p++) {
          let won = 0;
          for (let c = 0; c < channels; c++) won += model.ahead[index[c * size + p]];
          // Hatched where DDPM is ahead in most channels: the shade alone would not say so to everyone.
          const ours = 2 * won >= channels && won > 0;
          for (let a = 0; a < zoom; a++)
            for (let b = 0; b < zoom; b++) {
              const y = row * zoom + a, z = col * zoom + b;
              words[y * wide + z] = ours ? OURS[won === channels ? 0 : 1] : DDPM[(y + z) % 9 < 2 ? 1 : 0];
            }
        }
      put(frames.ahead);
    }
  }

  // Markers: buttons on x0, plain squares on the others; they follow pixels, colours and what is lit.
  function mark(model, act) {
    const { picture, state } = model, { box } = frames.image, side = Math.min(picture.rows, picture.columns);
    if (!box.square) box.append((box.square = node("i", { class: "pvi-square" })));
    box.square.hidden = picture.rows === picture.columns;
    Object.assign(box.square.style, {
      left: `${(100 * state.crop * (picture.columns - side)) / picture.columns}%`, width: `${(100 * side) / picture.columns}%`,
      top: `${(100 * state.crop * (picture.rows - side)) / picture.rows}%`, height: `${(100 * side) / picture.rows}%`,
    });
    for (const [key, frame] of Object.entries(frames)) {
      while (frame.marks.length > state.pixels.length) frame.marks.pop().remove();
      while (frame.marks.length < state.pixels.length) {
        const k = frame.marks.length;
        const spot = key === "image"
          ? node("button", { type: "button", class: "pvi-mark", style: `--pixel: ${props.colours[k]}` })
          : node("i", { class: "pvi-mark", style: `--pixel: ${props.colours[k]}` });
        if (key === "image") { spot.append(node("b", {}, String(k + 1))); act(spot, k); }
        frame.box.append(spot);
        frame.marks.push(spot);
      }
      state.pixels.forEach(([row, col], k) => {
        const spot = frame.marks[k];
        spot.style.left = `${(100 * (col + 0.5)) / picture.columns}%`;
        spot.style.top = `${(100 * (row + 0.5)) / picture.rows}%`;
        // The disc stands beside the pixel, on the side that has room, so that the pixel stays visible.
        spot.classList.toggle("pvi-left", col > picture.columns / 2);
        spot.classList.toggle("pvi-up", row > picture.rows / 2);
        spot.classList.toggle("pvi-lit", model.lit === k);
        if (key === "image") spot.setAttribute("aria-label", model.marker(k));
      });
      if (!frame.cross) frame.box.append((frame.cross = node("i", { class: "pvi-cross", hidden: "" })));
      frame.cross.hidden = !model.probe;
      if (model.probe) {
        frame.cross.style.left = `${(100 * (model.probe[1] + 0.5)) / picture.columns}%`;
        frame.cross.style.top = `${(100 * (model.probe[0] + 0.5)) / picture.rows}%`;
      }
    }
  }

  // The pixel under a pointer, [row, column].
  function at(frame, event, picture) {
    const box = frame.box.getBoundingClientRect();
    const place = (offset, length, count) => Math.max(0, Math.min(count - 1, Math.floor((offset / length) * count)));
    return [place(event.clientY - box.top, box.height, picture.rows), place(event.clientX - box.left, box.width, picture.columns)];
  }

  return { frames, fit, draw, mark, at, colours: { ours: css(OURS[0]), ddpm: css(DDPM[0]), hatch: css(DDPM[1]) },
    legend: { signed: [0, 127, 255, 383, 510].map((k) => css(SIGNED[k])), heat: [0, 64, 128, 192, 255].map((k) => css(HEAT[k])), decades: HEAT_DECADES, limit: SIGNED_LIMIT } };
}
