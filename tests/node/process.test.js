// The instrument's mathematics in Node, without a browser: each function beside the number that Python has for it.
// CASES names a JSON file of { name, args, wanted } from tests/test_scripts.py, which runs this.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { take } from "../../pixelviz/ui/static/language.js";
import { readFormula, readRate } from "../../pixelviz/ui/static/instrument/formula.js";
import * as P from "../../pixelviz/ui/static/instrument/process.js";

take({ en: JSON.parse(readFileSync("pixelviz/lesson/words/en.json", "utf8")) });
const said = (run) => { try { run(); return null; } catch (error) { return error.message; } };
const own = (text, T, gamma) => P.oursBy("formula", T, gamma, readRate(text, gamma));
const mathematics = {
  ...P,
  changesOfFastest: (x0, name, T, gamma) => P.changesOfFastest(x0, P.oursBy(name, T, gamma)),
  formulaBars: (text, x0, T, gamma, steps) => x0.map((x) => steps.map((i) => own(text, T, gamma).log(x, i))),
  formulaRates: (text, x0, T, gamma, steps) => x0.map((x) => steps.map((i) => own(text, T, gamma).rate(x, i))),
  formulaCrossing: (text, a, b, T, gamma) => P.crossing(a, b, gamma, own(text, T, gamma)),
  formulaFault: (text, gamma) => said(() => readRate(text, gamma)),
  formulaRefused: (text) => said(() => readFormula(text)) !== null,
};

const CLOSE = 1e-9; // relative: both sides compute in float64

function same(here, wanted, where) {
  if (typeof wanted === "number") {
    assert.ok(Math.abs(here - wanted) <= CLOSE * Math.max(1e-9, Math.abs(wanted)), `${where}: ${here} instead of ${wanted}`);
  } else if (Array.isArray(wanted)) {
    assert.equal(here.length, wanted.length, where);
    wanted.forEach((value, k) => same(here[k], value, `${where}[${k}]`));
  } else if (wanted && typeof wanted === "object") {
    for (const [key, value] of Object.entries(wanted)) same(here[key], value, `${where}.${key}`);
  } else assert.equal(here, wanted, where);
}

const cases = JSON.parse(readFileSync(process.env.CASES, "utf-8"));
assert.ok(cases.length, "no cases");
for (const name of new Set(cases.map((one) => one.name)))
  test(name, () => {
    for (const { args, wanted } of cases.filter((one) => one.name === name)) same(mathematics[name](...args), wanted, JSON.stringify(args));
  });
