// What people write in a number field, and what they mean by it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { readings } from "../../pixelviz/ui/static/numbers.js";

const MEANT = {
  "0,1": [0.1], "12,5": [12.5], ",2": [0.2], ".2": [0.2], "-3": [-3], "−3,5": [-3.5], "1e-3": [0.001], "1,5e-3": [0.0015],
  "0,004": [0.004], "1.000": [1, 1000], "1,000": [1, 1000], "12.345": [12.345, 12345], "1234.567": [1234.567], "1.0000": [1],
  "1.234,5": [1234.5], "1,234.5": [1234.5], "1.000.000": [1e6], "1 000": [1000], "1'000": [1000], " 7 ": [7],
  "": [], "abc": [], "1,2,3": [], "1..2": [], "--1": [], ",": [], "0x10": [], "Infinity": [], "1e": [],
};
for (const [text, meant] of Object.entries(MEANT)) test(`“${text}”`, () => assert.deepEqual(readings(text), meant));
