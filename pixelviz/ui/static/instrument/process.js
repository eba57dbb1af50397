// The process in numbers, for the browser: what pixelviz/process has in Python, in float64, without a page.
// The Python functions are the reference; tests/test_scripts.py and tests/test_instrument.py run these beside them.
// Levels are the distinct values of a picture, so that a 256x256 image costs 256 exponentials a step.

const DDPM_BETAS = [1e-4, 0.02], DDPM_STEPS = 1000, BETA_CAP = 0.999;
const BARELY_NOISY = 0.9;

// The end of the stretch from `low` on which `holds`, by bisection; `high` where it never ends.
function lastTrue(holds, low, high) {
  if (holds(high)) return high;
  for (let k = 0; k < 64; k++) {
    const middle = (low + high) / 2;
    if (holds(middle)) low = middle; else high = middle;
  }
  return low;
}
export const U_STAR = lastTrue((u) => 3 * Math.tanh(u / 2) > u, 1, 3); // |dSNR/dt| peaks over x0
export const U_PEAK = lastTrue((u) => u < -2 * Math.expm1(-u), 1, 2); // SNR peaks over x0

// --- Schedules: both are told by log alpha_bar

export const logBar = (x0, gamma, c) => -gamma * x0 * c; // Eq. 9, where c = t

// By what DDPM's range is multiplied (process/schedules.py, RANGES).
export const RANGES = { rescaled: (T) => DDPM_STEPS / T, printed: () => 1 };
// The sums of f(beta_1..i) for i = 0..T, with a range of RANGES.
function overBetas(T, range, f) {
  const table = new Float64Array(T + 1), factor = RANGES[range](T);
  for (let i = 1; i <= T; i++) {
    const share = T > 1 ? (i - 1) / (T - 1) : 0;
    table[i] = table[i - 1] + f(Math.min(BETA_CAP, (DDPM_BETAS[0] + (DDPM_BETAS[1] - DDPM_BETAS[0]) * share) * factor));
  }
  return table;
}
// log alpha_bar of DDPM at i = 0..T.
export const ddpmTable = (T, range) => overBetas(T, range, (beta) => Math.log1p(-beta));

// The schedules by name (process/schedules.py, SCHEDULES). Ours are one process by different clocks: c(i) at i = 0..T,
// with log abar_i = -gamma x0 c(i); where the paper has t, `logBar` and all that follows take c.
export const CLOCKS = {
  "pixel-aware": (T) => Float64Array.from({ length: T + 1 }, (_, i) => i / T),
  generalised: (T) => overBetas(T, "rescaled", (beta) => beta), // Eq. 26
};
export const THEIRS = {
  uniform: (T, gamma) => CLOCKS["pixel-aware"](T).map((c) => logBar(0.5, gamma, c)),
  ddpm: (T) => ddpmTable(T, "printed"),
  "ddpm-rescaled": (T) => ddpmTable(T, "rescaled"),
};
/**
 * Our process: log abar of an x0 at step i, whole or between, and its rate; by a schedule's clock, or by Γ(x0, t).
 * @param {((x0: number, t: number, gamma: number) => number) | null} [drift]
 */
export function oursBy(name, T, gamma, drift = null) {
  if (!drift) {
    const clock = CLOCKS[name](T);
    return { T, clock, log: (x0, i) => logBar(x0, gamma, Number.isInteger(i) ? clock[i] : clockAt(clock, i / T)), rate: (x0, i) => gamma * x0 * pace(clock, i) };
  }
  const tables = new Map(), rate = (x0, i) => 2 * drift(x0, (Math.min(T, Math.max(1, Math.ceil(i))) - 0.5) / T, gamma);
  const summed = (x0) => {
    let table = tables.get(x0);
    if (!table) {
      table = new Float64Array(T + 1);
      for (let i = 1; i <= T; i++) table[i] = table[i - 1] - rate(x0, i) / T;
      tables.set(x0, table);
    }
    return table;
  };
  return { T, clock: null, log: (x0, i) => (Number.isInteger(i) ? summed(x0)[i] : clockAt(summed(x0), i / T)), rate };
}
// What log abar_i is by a schedule of either side, for x0 and every i.
export function logBars(name, x0, gamma, T, drift = null) {
  if (name in THEIRS) return Array.from(THEIRS[name](T, gamma));
  const { log } = oursBy(name, T, gamma, drift);
  return Array.from({ length: T + 1 }, (_, i) => log(x0, i));
}
// c at time t, linear between steps; its slope dc/dt in step i; and the t at which the clock shows c, or would.
export function clockAt(clock, t) {
  const T = clock.length - 1, i = Math.min(T - 1, Math.floor(t * T));
  return clock[i] + (clock[i + 1] - clock[i]) * (t * T - i);
}
export const pace = (clock, i) => (clock.length - 1) * (clock[Math.max(1, i)] - clock[Math.max(1, i) - 1]);
export function timeAt(clock, c) {
  const T = clock.length - 1, above = clock.findIndex((value) => value >= c), i = above < 0 ? T : Math.max(1, above);
  return (i - 1 + (c - clock[i - 1]) / (clock[i] - clock[i - 1])) / T;
}

export const snr = (x0, log) => x0 ** 2 / Math.expm1(Math.abs(log)); // Eq. 11, 16; infinite at t = 0 (abs: not -Infinity)
// lambda = log(abar / (1 - abar)) / 2: pixels of one lambda have one noise. And the t at which a pixel comes by it.
export const halfLogOdds = (log) => -Math.log(Math.expm1(Math.abs(log))) / 2;
export const timeOf = (clock, x0, gamma, lambda) => timeAt(clock, Math.log1p(Math.exp(-2 * lambda)) / (gamma * x0));
// |dSNR/dt|, Eq. 17 with its e^u: e^u / (e^u - 1)^2 = 1 / (4 sinh^2(u/2)).
export const snrRate = (x0, rate, log) => (rate * x0 ** 2) / (2 * Math.sinh(-log / 2)) ** 2;
// Bits of signal per value, 1/2 log2(1 + SNR), and how fast they go; none is said to go at t = 0, where SNR is infinite.
export const bits = (snr) => Math.log1p(snr) / (2 * Math.LN2);
export const bitsRate = (snr, rate) => (snr < Infinity ? rate / (2 * Math.LN2 * (1 + snr)) : 0);
export const ddpmRate = (table, i) => (table.length - 1) * (table[Math.max(0, i - 1)] - table[Math.max(1, i)]);

// alpha multiplied T times, which is to equal x_delta.
export function productOfAlphas(x0, gamma, T) {
  const alpha = Math.exp((-gamma * x0) / T);
  let product = 1;
  for (let i = 0; i < T; i++) product *= alpha;
  return product;
}

// --- Propositions

// Where dSNR/dt of two pixels cross (Proposition 1); null for equal ones.
export function tDelta(a, b, gamma) {
  if (a === b) return null;
  const dark = Math.min(a, b), bright = Math.max(a, b), ratio = dark / bright;
  const logSinh = (x) => x + Math.log(-Math.expm1(-2 * x));
  const faster = (u) => 2 * (logSinh((ratio * u) / 2) - logSinh(u / 2)) > 3 * Math.log(ratio);
  return lastTrue(faster, U_STAR, U_STAR / ratio) / (gamma * bright);
}
// Which of the pixels x0 loses bits fastest in step i > 0; and the steps at which another one becomes it.
export function fastestAt(x0, ours, i) {
  const rates = x0.map((x) => { const log = ours.log(x, i); return bitsRate(snr(x, log), snrRate(x, ours.rate(x, i), log)); });
  return rates.indexOf(Math.max(...rates));
}
export function changesOfFastest(x0, ours) {
  const found = [];
  for (let i = 1, from = -1; i <= ours.T && x0.length > 1; i++) {
    const to = fastestAt(x0, ours, i);
    if (from >= 0 && to !== from) found.push({ t: i / ours.T, from, to });
    from = to;
  }
  return found;
}
// t at which the darker of two pixels becomes the faster to lose SNR: by the clock exactly, else to a step; 1: never.
export function crossing(a, b, gamma, ours) {
  if (a === b) return null;
  if (ours.clock) return timeAt(ours.clock, tDelta(a, b, gamma));
  const speed = (x, i) => snrRate(x, ours.rate(x, i), ours.log(x, i)), dark = Math.min(a, b), bright = Math.max(a, b);
  for (let i = 1; i <= ours.T; i++) if (speed(dark, i) > speed(bright, i)) return i / ours.T;
  return 1;
}
// The most SNR that any x0 has at step i.
export function highestSnr(gamma, ours, i) {
  const at = (x) => snr(x, ours.log(x, i));
  if (ours.clock) return at(Math.min(1, snrPeak(gamma, clockAt(ours.clock, i / ours.T))));
  let most = 0;
  for (let k = 1; k <= 64; k++) most = Math.max(most, at(k / 64));
  return most;
}
export const snrPeak = (gamma, t) => U_PEAK / (gamma * t); // the x0 with the most SNR; above 1 it rises throughout

// --- Water (process/water.py)

export function waterFilling(noise, power) {
  const ordered = [...noise].sort((a, b) => a - b);
  let sum = power, level = Infinity;
  for (let k = 0; k < ordered.length; k++) {
    sum += ordered[k];
    if (sum / (k + 1) >= ordered[k]) level = sum / (k + 1);
  }
  return { level, amounts: noise.map((n) => Math.max(0, level - n)) };
}

export function reverseWaterFilling(variances, distortion) {
  const ordered = [...variances].sort((a, b) => a - b), n = ordered.length;
  let drowned = 0, level = ordered[n - 1];
  for (let k = 0; k < n; k++) {
    const reached = (distortion - drowned) / (n - k);
    if (reached <= ordered[k]) { level = reached; break; }
    drowned += ordered[k];
  }
  return { level, amounts: variances.map((v) => Math.min(v, level)) };
}

// --- A picture: { channels, rows, columns, levels, index, noise }, index and noise as (C, H, W)

const bytes = (text) => {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) out[k] = raw.charCodeAt(k);
  return out.buffer;
};
// A picture as service/payloads.py sends it.
export function decode({ shape, levels, index, wide, noise }) {
  return renoised({
    channels: shape[0], rows: shape[1], columns: shape[2], levels: new Float64Array(bytes(levels)),
    index: wide ? new Uint16Array(bytes(index)) : new Uint8Array(bytes(index)),
  }, noise);
}

// The same picture with other noise.
export function renoised(before, noise) {
  const picture = { ...before, noise: new Float32Array(bytes(noise)) };
  picture.tallies = tally(picture);
  picture.counts = picture.levels.map((_, k) => picture.tallies.reduce((sum, channel) => sum + channel.count[k], 0));
  return picture;
}

// How many values of a level a channel has, and the sum of their noise and of its square. The moments of
// x_t = mean + sd eps follow from these at any t, exactly, without touching a pixel.
function tally(picture) {
  const { channels, levels, index, noise } = picture, size = index.length / channels;
  return Array.from({ length: channels }, (_, c) => {
    const count = new Float64Array(levels.length), first = count.slice(), second = count.slice();
    for (let p = c * size; p < (c + 1) * size; p++) {
      const k = index[p], e = noise[p];
      count[k] += 1; first[k] += e; second[k] += e * e;
    }
    return { size, count, first, second };
  });
}

export const raised = (levels, floor) => Float64Array.from(levels, (p) => floor + (1 - floor) * p);

// Mean sqrt(abar) x0 and deviation sqrt(1 - abar) of x_t, per level; `log` gives log abar of an x0.
export function marginal(x0, log, out) {
  for (let k = 0; k < x0.length; k++) {
    const l = log(x0[k]);
    out.mean[k] = Math.exp(l / 2) * x0[k];
    out.sd[k] = Math.sqrt(-Math.expm1(l));
  }
  return out;
}
export const table = (n) => ({ mean: new Float64Array(n), sd: new Float64Array(n) });

// x_t = sqrt(abar) x0 + sqrt(1 - abar) eps (Eq. 9), for every value.
export function noised(picture, { mean, sd }, out) {
  const { index, noise } = picture;
  for (let p = 0; p < out.length; p++) out[p] = mean[index[p]] + sd[index[p]] * noise[p];
  return out;
}

// Mean and biased variance of x_t over a channel's values.
export function moments({ size, count, first, second }, { mean, sd }) {
  let sum = 0, squares = 0;
  for (let k = 0; k < count.length; k++) {
    if (!count[k]) continue;
    const m = mean[k], s = sd[k];
    sum += count[k] * m + s * first[k];
    squares += count[k] * m * m + 2 * m * s * first[k] + s * s * second[k];
  }
  return { mean: sum / size, variance: squares / size - (sum / size) ** 2 };
}

// Both moments of every channel at the steps asked for: [channel][step]. `log(x0, i)` as above.
export function momentCurves(tallies, x0, steps, log) {
  const scratch = table(x0.length);
  const curves = tallies.map(() => ({ mean: new Float64Array(steps.length), variance: new Float64Array(steps.length) }));
  steps.forEach((i, s) => {
    marginal(x0, (x) => log(x, i), scratch);
    tallies.forEach((channel, c) => {
      const found = moments(channel, scratch);
      curves[c].mean[s] = found.mean; curves[c].variance[s] = found.variance;
    });
  });
  return curves;
}

// Counts of values in equal bins from low to high; what lies outside is left out.
export function histogram(x, low, high, counts) {
  counts.fill(0);
  const scale = counts.length / (high - low);
  for (let p = 0; p < x.length; p++) {
    const at = (x[p] - low) * scale;
    if (at >= 0 && at < counts.length) counts[at | 0] += 1;
  }
  return counts;
}

// --- The terminal gap, and what to choose

// KL(N(sqrt(abar) x0, 1 - abar) || N(0, 1)), nats.
export const kl = (x0, log) => {
  const bar = Math.exp(log);
  return (bar * (x0 ** 2 - 1) - (log < -Math.LN2 ? Math.log1p(-bar) : Math.log(-Math.expm1(log)))) / 2;
};

// Over levels x0 with `counts`: mean KL, share with a variance below 0.9, least variance.
export function terminalGap(x0, counts, log) {
  let total = 0, gap = 0, barely = 0, least = 1;
  for (let k = 0; k < x0.length; k++) {
    if (!counts[k]) continue;
    const l = log(x0[k]), variance = -Math.expm1(l);
    total += counts[k];
    gap += counts[k] * kl(x0[k], l);
    if (variance < BARELY_NOISY) barely += counts[k];
    least = Math.min(least, variance);
  }
  return { mean: gap / total, barely: barely / total, least };
}
const meanGap = (levels, counts, gamma, floor) =>
  terminalGap(raised(levels, floor), counts, (x0) => logBar(x0, gamma, 1)).mean;

// The least value in (low, high] from which on `meets`; 48 halvings are more digits than anyone reads.
function smallest(meets, low, high) {
  for (let k = 0; k < 48; k++) {
    const middle = (low + high) / 2;
    if (meets(middle)) high = middle; else low = middle;
  }
  return high;
}

// { value } or { value: null, limit, left }: no gamma below the limit is enough, `left` nats remain there.
export function adviseGamma(levels, counts, tolerance, T, floor, most) {
  const limit = T === 1 ? most : Math.min(T, most);
  const left = meanGap(levels, counts, limit, floor);
  const value = left > tolerance ? null : smallest((g) => meanGap(levels, counts, g, floor) <= tolerance, 0, limit);
  return { value, limit, left };
}
// As adviseGamma, for a floor from `least` to `most`; limit null: only from `leastGamma` on does a floor help.
export function adviseFloor(levels, counts, tolerance, gamma, { least, most, leastGamma }) {
  if (gamma < leastGamma) return { value: null, limit: null, left: null };
  const meets = (floor) => meanGap(levels, counts, gamma, floor) <= tolerance;
  const left = meanGap(levels, counts, gamma, most);
  if (left > tolerance) return { value: null, limit: most, left };
  return { value: meets(least) ? least : smallest(meets, least, most), limit: most, left };
}
