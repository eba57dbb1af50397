// The water's law: what is drawn to fall in a stream is what is drawn to leave its vessel. Run by tests/test_scripts.py.
import assert from "node:assert/strict";
import { test } from "node:test";

import { logBar, snr, snrRate } from "../../pixelviz/ui/static/instrument/process.js";
import { BRIM, vessel } from "../../pixelviz/ui/static/instrument/water.js";

const WIDE = 37, HIGH = 151;

// A pixel's drawn vessel at time t of the paper's clock.
const at = (x0, gamma, t) => {
  const log = logBar(x0, gamma, t);
  return vessel({ snr: snr(x0, log), rate: snrRate(x0, gamma * x0, log) }, WIDE, HIGH);
};

for (const [x0, gamma] of [[1, 20], [0.95, 5], [0.3, 20], [0.05, 20], [0.004, 1]])
  test(`conservation, x0 = ${x0}, gamma = ${gamma}`, () => {
    const n = 200_000;
    let start = null, area = 0, before = null;
    for (let k = 1; k <= n; k++) {
      const now = at(x0, gamma, k / n);
      if (start === null && !now.over && !now.full) start = now;
      else if (start !== null) area += ((before.stream + now.stream) / 2 / n) * now.speed; // fallen out since
      before = now;
    }
    const gone = WIDE * (start.level - before.level);
    assert.ok(gone > 0 && Math.abs(area / gone - 1) < 1e-4, `${area} instead of ${gone}`);
  });

test("over the brim nothing is drawn to leave, and the level stays at it", () => {
  const full = at(1, 20, 0.001), below = at(1, 20, Math.log(2) / 20 + 1e-9); // SNR = 1 at gamma t = ln 2
  assert.ok(full.over && full.level === HIGH && full.stream === 0 && full.bits > 2 * BRIM);
  assert.ok(!below.over && Math.abs(below.level / HIGH - 1) < 1e-6 && below.stream > 0);
});
