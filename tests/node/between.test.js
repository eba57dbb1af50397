// The triangle between samples: weights and places are each other's inverse, and no weight leaves it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { placeOf, weightsAt } from "../../pixelviz/ui/static/between.js";

test("a place inside has the weights that lead back to it", () => {
  for (const weights of [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]]) {
    weightsAt(...placeOf(weights)).forEach((weight, k) => assert.ok(Math.abs(weight - weights[k]) < 1e-12));
  }
});

test("a place outside counts as one on the edge", () => {
  for (const [x, y] of [[-5, 3], [0.5, -1], [2, 2], [0.5, 0.99]]) {
    const weights = weightsAt(x, y);
    assert.ok(weights.every((weight) => weight >= 0 && weight <= 1));
    assert.ok(Math.abs(weights.reduce((sum, weight) => sum + weight) - 1) < 1e-12);
  }
  assert.deepEqual(weightsAt(0.5, -1), [1, 0, 0]);
});
