// A rate Γ(x0, t) of one's own, read without eval: the same formulas as process/formulas.py, and the same checks.
import { fill, words } from "../language.js";

const FUNCTIONS = { exp: Math.exp, log: Math.log, sqrt: Math.sqrt, sin: Math.sin, cos: Math.cos };
const LETTERS = ["x0", "t", "gamma", "pi"], GRID = 50, LEAST = 1e-3;
const TOKEN = /\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/^()]))/y;

const fault = (key, parts) => new Error(fill(words().instrument[`formula_${key}`], parts));

/**
 * The function of a formula; throws an Error whose message is for people.
 * @param {string} text
 * @param {number} longest
 * @returns {(x0: number, t: number, gamma: number) => number}
 */
export function readFormula(text, longest = 120) {
  if (!text.trim() || text.length > longest) throw fault("length", { longest });
  const tokens = [];
  const unreadable = () => fault("unreadable", {});
  const source = text.trimEnd();
  for (TOKEN.lastIndex = 0; TOKEN.lastIndex < source.length;) {
    const found = TOKEN.exec(source);
    if (!found) throw unreadable();
    tokens.push({ number: found[1], name: found[2], sign: found[3] === "^" ? "**" : found[3] });
  }
  let at = 0;
  const take = (...signs) => (tokens[at] && signs.includes(tokens[at].sign) ? tokens[at++].sign : null);
  const need = (sign) => { if (!take(sign)) throw unreadable(); };
  function sum() {
    let left = product();
    for (let sign; (sign = take("+", "-"));) { const a = left, b = product(); left = sign === "+" ? (v) => a(v) + b(v) : (v) => a(v) - b(v); }
    return left;
  }
  function product() {
    let left = signed();
    for (let sign; (sign = take("*", "/"));) { const a = left, b = signed(); left = sign === "*" ? (v) => a(v) * b(v) : (v) => a(v) / b(v); }
    return left;
  }
  function signed() { // −x^2 is −(x^2)
    const sign = take("+", "-");
    if (!sign) return power();
    const inner = signed();
    return sign === "-" ? (v) => -inner(v) : inner;
  }
  function power() {
    const base = one();
    if (!take("**")) return base;
    const exponent = signed();
    return (v) => base(v) ** exponent(v);
  }
  function one() {
    const token = tokens[at++];
    if (token?.number) { const value = Number(token.number); return () => value; }
    if (token?.name) {
      if (LETTERS.includes(token.name)) return (v) => v[token.name];
      if (!(Object.hasOwn(FUNCTIONS, token.name))) throw fault("name", { letters: LETTERS.join(", "), functions: Object.keys(FUNCTIONS).join(", "), name: token.name.slice(0, 40) });
      need("(");
      const inner = sum();
      need(")");
      return (v) => FUNCTIONS[token.name](inner(v));
    }
    if (token?.sign !== "(") throw unreadable();
    const inner = sum();
    need(")");
    return inner;
  }
  const meant = sum();
  if (at < tokens.length) throw unreadable();
  const values = { x0: 0, t: 0, gamma: 0, pi: Math.PI };
  return (x0, t, gamma) => { values.x0 = x0; values.t = t; values.gamma = gamma; return meant(values); };
}

/** The same, for a rate that is positive and rises with x0 on a grid; else an Error. */
export function readRate(text, gamma) {
  const drift = readFormula(text), short = (v) => Number(v.toPrecision(3)), two = (v) => Number(v.toPrecision(2));
  for (let k = 0; k < GRID; k++) {
    for (let n = 0, before = -Infinity, x = LEAST; n < GRID; n++) {
      const t = (k + 0.5) / GRID, x0 = LEAST + ((1 - LEAST) * n) / (GRID - 1), now = drift(x0, t, gamma);
      if (!(Number.isFinite(now) && now > 0)) throw fault("negative", { formula: text, value: short(now), x0: two(x0), t: two(t) });
      if (now <= before) throw fault("falls", { formula: text, before: short(before), x_before: two(x), value: short(now), x0: two(x0), t: two(t) });
      before = now; x = x0;
    }
  }
  return drift;
}
