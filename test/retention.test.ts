/** The retention's steps in simulated time, over a store that answers as it is told. */
import { expect, test } from "vitest";
import { limits } from "../src/options.js";
import type { Report } from "../src/report.js";
import { keepRetention } from "../src/retention.js";
import { createSimulatedClock } from "../src/simulated-clock.js";
import type { Hint, Store } from "../src/store/store.js";
import { deferred } from "../src/workers/deferred.js";

type Step = Awaited<ReturnType<Store["prune"]>>;
const keep = { ageMs: 1000, count: 5 };
const nothing: Step = { jobs: 0, chatEvents: 0, more: false };

/** Each call of prune takes the next answer; without one there is nothing to remove. */
function retention(...answers: (Step | Error | Promise<Step>)[]) {
  const clock = createSimulatedClock();
  const at: number[] = [];
  const asked: unknown[] = [];
  const hints: Hint[] = [];
  const reports: Report[] = [];
  const store = {
    async prune(what: unknown) {
      at.push(clock.monotonic());
      asked.push(what);
      const answer = answers.shift() ?? nothing;
      if (answer instanceof Error) throw answer;
      return answer;
    },
    hint: (hint: Hint) => void hints.push(hint),
  } as unknown as Store;
  return { clock, at, asked, hints, reports, kept: keepRetention({ store, clock, keep, report: (report) => void reports.push(report) }) };
}

test("every 30 seconds one step asks for what is beyond age and count, at most 500 jobs", async () => {
  const { clock, at, asked, kept } = retention();
  await clock.advance(60_000);
  expect(at).toEqual([30_000, 60_000]);
  expect(asked[0]).toEqual({ ...keep, idempotencyMs: limits.idempotencyMs, batch: 500 });
  await kept.stop();
});

test("while there is more, steps come 50 ms apart, and what all of them removed is told once", async () => {
  const { clock, at, reports, kept } = retention({ jobs: 500, chatEvents: 0, more: true }, { jobs: 480, chatEvents: 0, more: true }, { jobs: 20, chatEvents: 0, more: false }, nothing);
  await clock.advance(60_100);
  expect(at).toEqual([30_000, 30_050, 30_100, 60_100]);
  expect(reports).toEqual([{ type: "jobs.pruned", jobs: 1000 }]);
  await kept.stop();
});

// A claim passes over lanes that a step holds locked. Nobody else says when they are free again: without this hint a slot
// stayed idle until the next pulse.
test("a step that removed jobs, or events of chats, says that lanes may be ready, each time, not only the last", async () => {
  const { clock, hints, kept } = retention({ jobs: 500, chatEvents: 0, more: true }, { jobs: 0, chatEvents: 1, more: false });
  await clock.advance(30_000);
  expect(hints).toEqual([{ kind: "ready" }]);
  await clock.advance(50);
  expect(hints).toEqual([{ kind: "ready" }, { kind: "ready" }]);
  await kept.stop();
});

test("each step looks at events of chats from where the one before left off, over failures too", async () => {
  const { clock, asked, kept } = retention({ ...nothing, more: true, cursor: "one" }, { ...nothing, cursor: "two" }, new Error("gone"), nothing);
  await clock.advance(120_050);
  expect(asked.map((what) => (what as { cursor?: string }).cursor)).toEqual([undefined, "one", "two", "two", undefined]);
  await kept.stop();
});

test("a step that removed nothing wakes nobody", async () => {
  const { clock, at, hints, reports, kept } = retention(nothing, { jobs: 0, chatEvents: 0, more: true });
  await clock.advance(60_050);
  expect(at).toEqual([30_000, 60_000, 60_050]);
  expect([hints, reports]).toEqual([[], []]);
  await kept.stop();
});

test("a database that is away is told, and asked again 30 seconds later", async () => {
  const { clock, at, hints, reports, kept } = retention(new Error("connection refused"), { jobs: 2, chatEvents: 0, more: false });
  await clock.advance(30_000);
  expect(reports).toEqual([{ type: "database.away", verb: "prune", error: "connection refused" }]);
  expect(hints).toEqual([]);
  await clock.advance(30_000);
  expect(at).toEqual([30_000, 60_000]);
  expect(reports.at(-1)).toEqual({ type: "jobs.pruned", jobs: 2 });
  await kept.stop();
});

test("what was removed before the database went away is told with what is removed after", async () => {
  const { clock, reports, kept } = retention({ jobs: 500, chatEvents: 0, more: true }, new Error("gone"), { jobs: 3, chatEvents: 0, more: false });
  await clock.advance(60_050);
  expect(reports.map(({ type }) => type)).toEqual(["database.away", "jobs.pruned"]);
  expect(reports.at(-1)).toEqual({ type: "jobs.pruned", jobs: 503 });
  await kept.stop();
});

test("stop waits for the step under way and sets no timer after it", async () => {
  const step = deferred<Step>();
  const { clock, at, kept } = retention(step.promise);
  await clock.advance(30_000);
  let stopped = false;
  const stopping = kept.stop().then(() => void (stopped = true));
  await clock.advance(0);
  expect(stopped).toBe(false);
  step.resolve({ jobs: 500, chatEvents: 0, more: true });
  await stopping;
  expect(clock.pendingTimers).toBe(0);
  await clock.advance(60_000);
  expect(at).toEqual([30_000]);
});

test("stop before the first step leaves nothing behind, and stopping twice is fine", async () => {
  const { clock, at, kept } = retention();
  await kept.stop();
  await kept.stop();
  expect(clock.pendingTimers).toBe(0);
  await clock.advance(60_000);
  expect(at).toEqual([]);
});
