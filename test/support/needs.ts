/**
 * Tests of what npm does not bring. Where it is missing they are skipped with the reason, and fail where
 * `BUILDLANE_TEST_REQUIRED` names it: `.ci/run` brings what can be had there (scripts/bring-packages.mjs), and says so.
 */
import { describe, test } from "vitest";

/** `missing`: why there is none; undefined: there is. `name` is that in `BUILDLANE_TEST_REQUIRED`. */
export function describeNeeding(need: { name: string; missing: string | undefined }, title: string, tests: () => void): void {
  const { name, missing } = need;
  if (missing === undefined) return void describe(title, tests);
  process.stderr.write(`Skipped: ${title} (${missing}).\n`);
  if (process.env["BUILDLANE_TEST_REQUIRED"]?.split(",").includes(name)) describe(title, () => test(`needs ${name}`, () => Promise.reject(new Error(missing))));
  else describe.skip(`${title} (not here: ${missing})`, tests);
}
