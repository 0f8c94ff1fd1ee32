/** The bounded form of the exhaustive exploration; `npm run explore` visits many more states. */
import { expect, it } from "vitest";
import { explore } from "./explore.js";

const nothing = { crashes: 0, leaseEnds: 0, lostAnswers: 0, cancels: 0, failures: 0, together: 1 };

it.each([
  [{ ...nothing, leaseEnds: 1, crashes: 1 }, 1000],
  [{ ...nothing, lostAnswers: 1, cancels: 1, failures: 1 }, 800],
])("every interleaving of the verbs with one of %j keeps every promise and can come to its end", (budgets, atLeast) => {
  const { states, ends, broken } = explore({ a: 2, b: 1 }, budgets);
  expect(broken).toBeNull();
  expect(states).toBeGreaterThan(atLeast);
  expect(ends).toBeGreaterThan(0);
}, 120_000);
