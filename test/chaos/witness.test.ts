import { expect, it } from "vitest";
import { judgeWitness } from "./witness.js";
import type { WitnessedJob } from "./witness.js";

const job = (id: string, result: string | null, more: Partial<WitnessedJob> = {}): WitnessedJob => ({ id, chatId: "c", status: "completed", failureCode: null, result, ...more });
const judge = (lines: string[], jobs: WitnessedJob[] = [], isOrdered = true) => judgeWitness(lines, jobs, { slots: 2, cap: 3, isOrdered: () => isOrdered }).broken.map((sentence) => sentence.split(":")[0]);

it("finds nothing in runs that follow one another, are stopped, cut off, tried again and recorded", () => {
  const lines = [
    "began a.1 c 1 j1", "began a.2 d 1 k1", "failed a.1", "began a.3 c 1 j1", "killed a", "report lease.lost",
    "began b.1 c 1 j1", "stopped b.1", "began b.2 c 1 j1", "built b.2", "recorded j1", "began b.3 c 2 j2", "failed b.3", "left b", "began e.1 d 1 k1", "built e.1",
  ];
  const jobs = [job("j1", "b.2"), job("j2", "b.3", { status: "failed", failureCode: "run_failed" }), job("k1", "e.1"), job("k2", null, { status: "failed", failureCode: "cancelled" })];
  expect(judgeWitness(lines, jobs, { slots: 2, cap: 3, isOrdered: () => true })).toEqual({ runs: 7, again: 4, reports: { "lease.lost": 1 }, broken: [] });
});

it("does not judge what ran or was about to when its process was frozen for longer than its lease, but what that begins afterwards", () => {
  const lines = ["began a.1 c 1 j1", "frozen a", "began b.1 c 1 j1", "built a.1", "built b.1", "recorded j1", "began a.2 c 1 j1"];
  expect(judge(lines, [job("j1", "b.1")])).toEqual([]);
  expect(judge([...lines, "built a.2", "began a.3 c 1 j1"], [job("j1", "b.1")])).toEqual(["again", "outcome"]);
});

it("finds what breaks a promise", () => {
  expect(judge(["began a.1 c 1 j1", "began b.1 c 2 j2"])).toEqual(["overlap"]);
  expect(judge(["began a.1 c 2 j2", "built a.1", "began b.1 c 1 j1"])).toEqual(["order"]);
  expect(judge(["began a.1 c 2 j2", "built a.1", "began b.1 c 1 j1"], [], false)).toEqual([]);
  expect(judge(["began a.1 c 1 j1", "built a.1", "recorded j1", "began b.1 c 1 j1"])).toEqual(["again"]);
  expect(judge(["began a.1 c 1 j1", "began a.2 d 1 j2", "began a.3 f 1 j4"])).toEqual(["budget"]);
  expect(judge(["began a.1 c 1 j1", "began a.2 d 1 j2", "began b.1 e 1 j3", "began b.2 f 1 j4"])).toEqual(["cap"]);
  expect(judge(["began a.1 c 1 j1", "began a.2 d 1 j2", "killed a", "began b.1 e 1 j3", "began b.2 f 1 j4"])).toEqual([]);
  expect(judge(["began a.1 c 1 j1", "left a"])).toEqual(["left behind"]);
  expect(judge([], [job("j1", "a.1")])).toEqual(["never ran"]);
  expect(judge(["began a.1 c 1 j1", "built a.1", "began b.1 c 1 j1", "built b.1"], [job("j1", "a.1")])).toEqual(["outcome"]);
  expect(judge(["began a.1 c 1 j1", "stopped a.1"], [job("j1", "a.1")])).toEqual(["outcome"]);
});
