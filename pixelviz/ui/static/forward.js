// The forward process, explored in the browser: one slider moves the frames and the cursor on every curve.
// All numbers come from Python (pixelviz/figures.py, `explorer`); here they are only drawn.
const PV = window.PixelViz;
const $ = (selector) => element.querySelector(selector);
const slider = $("input[type=range]");
const play = $(".pv-play");
const readout = $(".pv-time");
const views = ["pixel_aware", "ddpm", "ahead"].map((key) => ({ key, canvas: $(`.pv-view[data-key=${key}] canvas`), sheet: new Image() }));
const rows = { pixel_aware: $(".pv-film[data-key=pixel_aware]"), ddpm: $(".pv-film[data-key=ddpm]") };
const steps = $(".pv-film-steps");
const charts = { snr: PV.chart($(".pv-snr")), mean: PV.chart($(".pv-mean")), variance: PV.chart($(".pv-variance")) };
let data = null;
let snr = null; // specification of the SNR chart
let timer = null;

function paint(canvas, sheet, k) {
  if (!sheet.naturalWidth) return;
  const { width: w, height: h, columns } = data;
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const ink = canvas.getContext("2d");
  ink.imageSmoothingEnabled = false;
  ink.drawImage(sheet, (k % columns) * w, Math.floor(k / columns) * h, w, h, 0, 0, w, h);
}

function show() {
  if (!data) return;
  const k = Number(slider.value), i = data.steps[k];
  for (const view of views) paint(view.canvas, view.sheet, k);
  readout.textContent = `i = ${i} of ${data.T}  ·  t = ${(i / data.T).toFixed(3)}`;
  slider.setAttribute("aria-valuetext", `step ${i} of ${data.T}`);
  $(".pv-ahead-share").textContent = i === 0 ? "no one at t = 0"
    : `white: ours, ${(100 * data.aheadShare[k]).toFixed(0)} % of the values`;
  for (const chart of Object.values(charts)) chart.cursor(i / data.T);
  for (const row of Object.values(rows))
    [...row.children].forEach((cell) => cell.classList.toggle("pv-now", Number(cell.dataset.k) === nearestFilm(k)));
}

const filmSteps = () => {
  const count = Math.min(data.steps.length, element.clientWidth < 520 ? 6 : 11);
  return Array.from({ length: count }, (_, n) => Math.round((n * (data.steps.length - 1)) / (count - 1)));
};
const nearestFilm = (k) => filmSteps().reduce((a, b) => (Math.abs(b - k) < Math.abs(a - k) ? b : a));

function film() {
  if (!data) return;
  const chosen = filmSteps();
  for (const [key, row] of Object.entries(rows)) {
    const view = views.find((v) => v.key === key);
    row.replaceChildren(...chosen.map((k) => {
      const cell = PV.node("button", { type: "button", "data-k": k, "aria-label": `Go to step ${data.steps[k]}`, tabindex: key === "ddpm" ? -1 : 0 });
      const canvas = PV.node("canvas");
      cell.append(canvas);
      cell.addEventListener("click", () => { slider.value = k; show(); });
      paint(canvas, view.sheet, k);
      return cell;
    }));
  }
  steps.replaceChildren(...chosen.map((k) => PV.node("span", {}, String(data.steps[k]))));
}

function curves() {
  const floats = PV.floats(data.curves);
  const n = data.T + 1;
  let at = 0;
  const take = () => floats.subarray(at, (at += n));
  const t = take();
  const series = { snr: [], mean: [], variance: [] };
  const methods = [["pixel-aware", ""], ["linear-beta DDPM", "6 4"]];
  methods.forEach(([method, dash]) => data.pixels.forEach((p, k) => series.snr.push({
    name: `${p.number} ${method}`, color: p.color, dash, x: t, y: take(),
    tag: dash ? "" : String(p.number), tagAt: 0.16 + 0.12 * k,
  })));
  for (const moment of ["mean", "variance"])
    methods.forEach(([method, dash]) => data.channels.forEach((c) => series[moment].push({
      name: data.channels.length > 1 ? `${c.name}, ${method}` : method, color: c.color, dash, x: t, y: take(),
    })));
  const gray = "var(--body-text-color-subdued)";
  const styles = methods.map(([name, dash]) => ({ name, dash, color: gray }));
  snr = {
    label: "Signal-to-noise ratio of the chosen pixels over time, on a log axis", xLabel: "t", yLabel: "SNR", log: true, height: 290,
    yRange: [data.snrLow, data.snrHigh], series: series.snr, empty: "Click the picture to add a pixel.",
    legend: [...data.pixels.map((p) => ({ name: `${p.number}: x₀ = ${PV.number(p.x0)}`, color: p.color })), ...styles],
  };
  charts.snr.draw(snr);
  const channelLegend = data.channels.length > 1 ? data.channels.map((c) => ({ name: c.name, color: c.color })) : [];
  for (const [moment, target] of [["mean", 0], ["variance", 1]])
    charts[moment].draw({
      label: `${moment} of the image's values over time`, xLabel: "t", yLabel: moment, height: 210,
      targets: [{ y: target, name: `target ${target}` }], series: series[moment],
      legend: data.channels.length > 1 ? [...channelLegend, ...styles] : series[moment],
    });
}

function stop() {
  clearInterval(timer);
  timer = null;
  play.textContent = "▶ Play";
}
play.addEventListener("click", () => {
  if (timer) return stop();
  play.textContent = "❚❚ Pause";
  if (Number(slider.value) === Number(slider.max)) slider.value = 0;
  timer = setInterval(() => {
    if (Number(slider.value) >= Number(slider.max) || !slider.offsetParent) return stop();
    slider.value = Number(slider.value) + 1;
    show();
  }, 90);
});
slider.addEventListener("input", () => { stop(); show(); });

// While gamma is dragged our SNR curves follow the hand; the rest comes from Python when it has been computed.
document.getElementById("gamma")?.addEventListener("input", (event) => {
  const gamma = Number(event.target.value);
  if (!data || !(gamma > 0)) return;
  snr.series.forEach((s, k) => {
    if (k < data.pixels.length) s.y = s.x.map((t) => PV.snr(data.pixels[k].x0, gamma, t));
  });
  charts.snr.draw(snr);
});
for (const view of views) view.sheet.onload = () => { show(); if (rows[view.key]) film(); };
let wide = null;
new ResizeObserver(() => { const now = element.clientWidth >= 520; if (now !== wide) { wide = now; film(); show(); } }).observe(element);

PV.follow(props, watch, (next) => {
  element.classList.toggle("pv-waiting", !next);
  if (!next) return;
  const share = data ? Number(slider.value) / Number(slider.max) : 0.15;
  data = next;
  data.aheadShare = PV.floats(next.ahead_share);
  slider.max = data.steps.length - 1;
  slider.value = Math.round(share * slider.max);
  for (const view of views) view.sheet.src = data.sheets[view.key];
  curves();
  show();
});
