/**
 * The contract of `src/store/store.ts`, as one suite. Each store is given to it by a short caller (memory.test.ts,
 * pglite.test.ts, postgres.test.ts), which may leave tests out with a reason. Random programs over the same verbs are in
 * `programs.ts`; here stands what each verb promises, one sentence a test.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { acceptance } from "./exercise/acceptance.js";
import { ahead } from "./exercise/ahead.js";
import { code } from "./exercise/code.js";
import { createLab } from "./exercise/lab.js";
import type { Lab } from "./exercise/lab.js";
import { limitsAndKeys } from "./exercise/limits.js";
import { loss } from "./exercise/loss.js";
import { people } from "./exercise/people.js";
import { reads } from "./exercise/reads.js";
import { retention } from "./exercise/retention.js";
import { shares } from "./exercise/shares.js";
import { starts } from "./exercise/starts.js";
import { turns } from "./exercise/turns.js";
import type { OpenStore } from "./stores.js";

/** Tests of one area; `check` is `it` unless the store leaves the test out. */
export type Exercise = (check: (name: string, test: (lab: Lab) => Promise<void>) => void) => void;

interface Left {
  reason: string;
  /** Beginnings of the tests' names. */
  tests: string[];
}

const areas: Record<string, Exercise> = { acceptance, limits: limitsAndKeys, turns, "lanes taken ahead": ahead, "starts with acceptance": starts, "shares between tenants": shares, "what people ask for": people, "what is lost": loss, reads, retention, code };

export function exerciseStore(open: () => Promise<OpenStore>, { skip = [] }: { skip?: Left[] } = {}): void {
  let opened: OpenStore;
  let lab: Lab;
  beforeAll(async () => void (opened = await open()), 60_000);
  beforeEach(async () => void (lab = createLab(await opened.reset(), opened.database)));
  afterAll(() => opened.close());
  const used = new Set<string>();

  for (const [area, exercise] of Object.entries(areas)) {
    describe(area, () => {
      exercise((name, test) => {
        const left = skip.find(({ tests }) => tests.some((start) => name.startsWith(start)));
        if (left) {
          left.tests.filter((start) => name.startsWith(start)).forEach((start) => used.add(start));
          process.stderr.write(`Not tested here: "${name}", because ${left.reason}\n`);
          it.skip(`${name} (not here: ${left.reason})`);
        } else it(name, () => test(lab));
      });
    });
  }
  it("leaves out no test that does not exist", () => {
    expect(skip.flatMap(({ tests }) => tests).filter((start) => !used.has(start))).toEqual([]);
  });
}
