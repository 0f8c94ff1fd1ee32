/** What `verify` sees in histories made by hand: nothing in a good one, and each kind of violation in a broken one. */
import { describe, expect, it, test } from "vitest";
import { attemptsOf } from "../../src/history/attempts.js";
import { run, stepMs, story, T0 } from "./story.js";
import type { Story } from "./story.js";

const at = (ms: number) => new Date(T0 + ms).toISOString();
const accepted = (...names: string[]) => names.reduce((told, name) => told.tell(`accepted ${name}`), story());
const cancelled = { data: { failureCode: "cancelled" } };

describe("a history is kept when", () => {
  const good: [string, () => Story, Parameters<Story["broken"]>[0]?][] = [
    ["jobs run in order, one after another", () => run(run(accepted("a1", "a2"), "a1"), "a2"), { atRest: true, promised: ["a1", "a2"] }],
    ["two chats run side by side", () => accepted("a1", "b1").tell("started a1").tell("started b1").tell("completed b1").tell("completed a1"), { atRest: true }],
    ["a job is tried again before the next", () => run(run(run(accepted("a1", "a2"), "a1", "retrying"), "a1"), "a2")],
    ["a job is rescued or given back before the next", () => run(run(run(run(accepted("a1", "a2"), "a1", "rescued"), "a1", "released"), "a1"), "a2")],
    ["a pending job is cancelled", () => run(accepted("a1", "a2").tell("failed a1", cancelled), "a2")],
    ["a failed job is redriven behind the others", () => run(run(run(accepted("a1", "a2"), "a1", "failed").tell("redriven a1"), "a2"), "a1")],
    ["a priority goes first", () => run(run(accepted("a1").tell("accepted a2", { data: { priority: 5 } }), "a2"), "a1"), { agingMs: 30_000 }],
    ["an old job goes before a priority that its age outweighs", () => run(run(accepted("a1").wait(50_000).tell("accepted a2", { data: { priority: 1 } }), "a1"), "a2"), { agingMs: 30_000 }],
    ["a chat is paused and resumed", () => run(accepted("a1").tell("paused a").tell("resumed a"), "a1")],
    ["a chat goes behind those that wait", () => run(run(run(run(accepted("a1", "b1", "a2", "b2"), "a1"), "b1"), "a2"), "b2")],
    ["a delayed head lets others go", () => run(run(run(run(story().tell("accepted a1", { data: { runAt: at(500) } }).tell("accepted b1").tell("accepted b2").tell("accepted b3"), "b1"), "b2"), "b3").wait(500), "a1")],
    ["a dead node's attempts are still recorded as running", () => accepted("a1", "b1", "c1", "d1").tell("started a1").tell("started b1").tell("started c1").tell("rescued a1").tell("completed b1").tell("completed c1")],
    ["a third starts at the moment at which another ends", () => accepted("a1", "b1", "c1").tell("started a1").tell("started b1").tell("started c1", { at: at(6 * stepMs) }).tell("completed a1", { at: at(6 * stepMs) }).tell("completed b1").tell("completed c1")],
  ];
  test.each(good)("%s", async (_name, tell, options) => {
    expect(await tell().broken(options)).toEqual([]);
  });

  it("has events and rows of old jobs removed by the retention", async () => {
    const told = run(run(run(accepted("a1", "a2", "a3"), "a1"), "a2"), "a3");
    told.events = told.events.filter(({ jobId }) => jobId === "a3");
    told.lanes.forEach((lane) => (lane.eventFloor = 7));
    Object.defineProperty(told, "jobs", { value: told.jobs.filter(({ id }) => id === "a3") });
    expect(await told.broken()).toEqual([]);
  });
});

describe("a history is broken when", () => {
  const bad: [string, string, () => Story, Parameters<Story["broken"]>[0]?][] = [
    ["overtaking", "a later job starts first", () => run(run(accepted("a1", "a2"), "a2"), "a1")],
    ["overtaking", "a job passes one that backs off", () => run(run(accepted("a1", "a2"), "a1", "retrying"), "a2")],
    ["overtaking", "a job passes one that was rescued", () => run(run(accepted("a1", "a2"), "a1", "rescued"), "a2")],
    ["overtaking", "a redriven job keeps the place that it had", () => run(run(accepted("a1", "a2"), "a1", "failed").tell("redriven a1"), "a1")],
    ["overtaking", "a priority is ignored", () => run(run(accepted("a1").tell("accepted a2", { data: { priority: 5 } }), "a1"), "a2"), { agingMs: 30_000 }],
    ["overtaking", "a priority outweighs more age than it may", () => run(run(accepted("a1").wait(50_000).tell("accepted a2", { data: { priority: 1 } }), "a2"), "a1"), { agingMs: 30_000 }],
    ["overtaking", "a lower priority passes, whatever the aging was", () => run(run(accepted("a1").tell("accepted a2", { data: { priority: -1 } }), "a2"), "a1")],
    ["startedWhilePaused", "a paused chat starts a job", () => run(accepted("a1").tell("paused a"), "a1")],
    ["overlap", "two jobs of a chat run at once", () => accepted("a1", "a2").tell("started a1").tell("started a2").tell("completed a1").tell("completed a2")],
    ["overlap", "a job starts before the end of the one ahead, by the clock", () => accepted("a1", "a2").tell("started a1").tell("completed a1", { at: at(900) }).tell("started a2", { at: at(899) }).wait(900).tell("completed a2")],
    ["lost", "an accepted job has no row", () => {
      const told = run(accepted("a1"), "a1");
      Object.defineProperty(told, "jobs", { value: [] });
      return told;
    }],
    ["lost", "a row has no history", () => {
      const told = run(accepted("a1", "a2"), "a1");
      told.events = told.events.filter(({ jobId }) => jobId !== "a2");
      return told;
    }],
    ["lost", "the latest events are gone", () => {
      const told = run(accepted("a1"), "a1");
      told.events.pop();
      told.jobs.forEach((job) => (job.status = "running"));
      return told;
    }],
    ["lost", "a job never ends", () => accepted("a1"), { atRest: true }],
    ["lost", "a promised job does not exist", () => accepted("a1"), { promised: ["a1", "a2"] }],
    ["lost", "a chat has no lane", () => {
      const told = run(accepted("a1"), "a1");
      Object.defineProperty(told, "lanes", { value: [] });
      return told;
    }],
    ["illegalTransition", "a completed job runs again", () => run(run(accepted("a1"), "a1"), "a1")],
    ["illegalTransition", "a job ends without having started", () => accepted("a1").tell("completed a1")],
    ["illegalTransition", "a job is accepted twice", () => accepted("a1", "a1")],
    ["illegalTransition", "a completed job is redriven", () => run(accepted("a1"), "a1").tell("redriven a1")],
    ["illegalTransition", "a run from before the redrive counts as the redriven job's", () => accepted("a1").tell("failed a1", cancelled).wait(50).tell("redriven a1").tell("started a1", { at: at(10) }).tell("completed a1")],
    ["doubleOutcome", "an attempt ends twice", () => run(accepted("a1"), "a1").tell("failed a1")],
    ["doubleOutcome", "a zombie's outcome is recorded after the rescue", () => run(accepted("a1"), "a1", "rescued").tell("completed a1")],
    ["tooManyAttempts", "a job is tried more often than allowed", () => run(run(run(run(accepted("a1"), "a1", "retrying"), "a1", "retrying"), "a1", "retrying"), "a1")],
    ["gap", "an event's number is left out", () => {
      const told = run(accepted("a1"), "a1");
      told.events.splice(1, 1);
      return told;
    }],
    ["gap", "an event's number is given twice", () => accepted("a1").tell("started a1", { number: 1 })],
    ["gap", "a job's number is left out", () => accepted("a1").tell("accepted a2", { chatSeq: 3 })],
    ["gap", "an attempt is left out", () => accepted("a1").tell("started a1", { attempt: 2 })],
    ["mismatch", "a row says otherwise", () => {
      const told = run(accepted("a1"), "a1");
      told.jobs.forEach((job) => (job.status = "failed"));
      return told;
    }],
    ["mismatch", "a row counts its attempts otherwise", () => {
      const told = run(accepted("a1"), "a1");
      told.jobs.forEach((job) => job.attempt++);
      return told;
    }],
    ["mismatch", "an event names the wrong status", () => accepted("a1").tell("started a1", { status: "pending" })],
    ["mismatch", "a lane counts its pending jobs otherwise", () => {
      const told = accepted("a1");
      told.lanes.forEach((lane) => lane.pending++);
      return told;
    }],
    ["mismatch", "a lane counts its jobs otherwise", () => {
      const told = accepted("a1");
      told.lanes.forEach((lane) => lane.tail++);
      return told;
    }],
    ["overBudget", "a node runs more than its slots", () => ["started a1", "started b1", "started c1", "completed a1", "completed b1", "completed c1"].reduce((told, what) => told.tell(what), accepted("a1", "b1", "c1"))],
    ["overBudget", "all nodes together run more than the cap", () => accepted("a1", "b1").tell("started a1").tell("started b1", { data: { nodeId: "n2" } }).tell("completed a1").tell("retrying b1"), { clusterMax: 1 }],
    ["unfair", "a chat is served twice while another waits", () => run(run(run(run(accepted("a1", "a2", "a3", "b1"), "a1"), "a2"), "a3"), "b1")],
    ["unfair", "a chat is served over and over and another never", () => run(run(run(accepted("a1", "a2", "a3", "b1"), "a1"), "a2"), "a3")],
    ["unfair", "a chat waits on after its backoff", () => {
      const told = accepted("a1", "a2", "a3", "b1").tell("started b1").tell("retrying b1", { data: { runAt: at(6 * stepMs) } });
      return run(run(run(run(told, "a1"), "a2"), "a3"), "b1");
    }],
  ];
  test.each(bad)("%s: %s", async (kind, _name, tell, options) => {
    expect(await tell().broken(options)).toContain(kind);
  });

  it("names the rows that show it, once for each mistake", async () => {
    const told = run(run(accepted("a1", "a2"), "a2"), "a1");
    expect(await told.broken()).toEqual(["overtaking"]);
    expect(attemptsOf(told.events.filter(({ jobId }) => jobId === "a2"))).toMatchObject([{ attempt: 1, outcome: "completed", nodeId: "n1" }]);
  });
});

it("a bounded number of other starts may be allowed while a head waits", async () => {
  const told = () => run(run(run(run(accepted("a1", "a2", "a3", "b1"), "a1"), "a2"), "a3"), "b1");
  expect(await told().broken({ startsMax: 2 })).toEqual(["unfair"]);
  expect(await told().broken({ startsMax: 3 })).toEqual([]);
  expect(await told().broken({ slackMs: 1000 })).toEqual([]);
});
