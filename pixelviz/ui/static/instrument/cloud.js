// One pixel drawn many times: x_t with other noise each time, by both processes, as two clouds.
import { fill, words } from "../language.js";
import * as D from "./plot.js";

const DRAWS = 200, REACH = 3.5;

// The same normal numbers on every screen, by Box and Muller, each with a place across the cloud.
function normals() {
  let seed = 7;
  const uniform = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  return Array.from({ length: DRAWS }, () => ({ eps: Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()), place: uniform() }));
}

export function cloud(host) {
  const sheet = D.sheet(host.querySelector("canvas[data-chart=cloud]")), draws = normals();

  function paint(model, colors) {
    if (!sheet.begin()) return;
    const { ink, width, height } = sheet, { font } = colors, texts = words().instrument, pixel = model.pixels[model.lit ?? model.state.selected];
    if (!pixel) { D.text(ink, texts.pick, width / 2, height / 2, { align: "center", size: 13, color: colors.quiet, font }); return; }
    const half = (height - 40) / 2;
    for (const [row, method, name] of [[0, "ours", texts.aware], [1, "ddpm", "DDPM"]]) {
      const top = 8 + Number(row) * (half + 6), box = { left: 10, right: width - 10, top, bottom: top + half - 6 };
      const map = D.axes(ink, box, { x: [-REACH, REACH], xTicks: row ? [-3, -2, -1, 0, 1, 2, 3] : [], xName: row ? "xₜ" : "", y: [0, 0.45], yTicks: [], tight: true }, colors);
      ink.beginPath(); ink.moveTo(map.x(-REACH), box.bottom);
      for (let x = -REACH; x <= REACH; x += 0.1) ink.lineTo(map.x(x), map.y(Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)));
      ink.lineTo(map.x(REACH), box.bottom); ink.closePath();
      ink.globalAlpha = 0.22; ink.fillStyle = colors.quiet; ink.fill(); ink.globalAlpha = 1;
      D.line(ink, box.left, box.bottom, box.right, box.bottom, { color: colors.grid });
      const { log } = pixel[method], mean = Math.exp(log / 2) * pixel.x0, spread = Math.sqrt(-Math.expm1(log));
      ink.fillStyle = method === "ours" ? colors.accent : colors.other;
      for (const { eps, place } of draws) {
        const at = map.x(mean + spread * eps);
        if (at < box.left || at > box.right) continue;
        ink.beginPath(); ink.arc(at, box.bottom - 6 - place * (half - 34), 2.2, 0, 7); ink.fill();
      }
      D.line(ink, map.x(mean), top + 16, map.x(mean), box.bottom, { color: colors.text, width: 1.6 });
      D.text(ink, String(name), box.left + 2, top + 10, { size: 12, weight: 650, color: colors.text, halo: colors.page, font });
      D.text(ink, fill(texts.spread, { mean: mean.toFixed(2), spread: spread.toFixed(2) }), box.right, top + 10, { align: "right", color: colors.text, halo: colors.page, font });
    }
  }

  return {
    draw(model, changed, colors) {
      if (changed.look) sheet.measure();
      if (model.seen("cloud")) paint(model, colors);
    },
  };
}
