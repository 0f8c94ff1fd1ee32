import { describe, expect, it } from "vitest";
import { coalesce } from "../../src/store/coalesce.js";
import type { Alone } from "../../src/store/coalesce.js";
import { ContendedError } from "../../src/store/store.js";

interface Call {
  items: string[];
  alone: Alone;
  answer(): void;
  fail(error: Error): void;
}

/** A sender whose answers the test gives. An item is `lane:name`, with `!` at its end when its lane is stuck. */
function sender(options: { weightMax?: number; keyOf?: (item: string) => string | null; isSolo?: (item: string) => boolean } = {}) {
  const calls: Call[] = [];
  const batches = coalesce<string, string>({
    send: (items, alone) =>
      new Promise((resolve, reject) => {
        calls.push({ items, alone, answer: () => resolve(items.map((item) => `done ${item}`)), fail: reject });
      }),
    lanesOf: (item) => [item.split(":")[0] as string],
    weightOf: () => 1,
    weightMax: options.weightMax ?? 100,
    ...(options.keyOf ? { keyOf: options.keyOf } : {}),
    ...(options.isSolo ? { isSolo: options.isSolo } : {}),
  });
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  return { batches, calls, settle };
}

it("does what an answer brings when the next batch is on its way, before its results are told, and at once when none follows", async () => {
  const happened: string[] = [];
  let call = 0;
  // Answers in the same breath, as a store in memory does: no answer may be done in the place of another.
  const batches = coalesce<string, string>({
    async send(items) {
      const name = `call ${++call}`;
      happened.push(`${name} goes`);
      await null;
      happened.push(`${name} is answered`);
      return items;
    },
    afterwards: () => happened.push("afterwards"),
    lanesOf: (item) => [item], weightOf: () => 1, weightMax: 1,
  });
  await Promise.all(["a", "b"].map((item) => batches.add(item).then((told) => happened.push(`${told} is told`))));
  await batches.idle();
  expect(happened).toEqual(["call 1 goes", "call 1 is answered", "call 2 goes", "call 2 is answered", "afterwards", "a is told", "afterwards", "b is told"]);
});

describe("coalescing", () => {
  it("sends what is added together as one batch, and gathers the next while one is in flight", async () => {
    const { batches, calls, settle } = sender();
    const first = [batches.add("a:1"), batches.add("b:1")];
    await settle();
    const second = [batches.add("a:2"), batches.add("c:1")];
    await settle();
    expect(calls.map((call) => call.items)).toEqual([["a:1", "b:1"]]);
    calls[0]?.answer();
    expect(await Promise.all(first)).toEqual(["done a:1", "done b:1"]);
    await settle();
    expect(calls[1]?.items).toEqual(["a:2", "c:1"]);
    calls[1]?.answer();
    await Promise.all(second);
    await batches.idle();
  });

  it("keeps a batch within its weight, in order, but always takes one", async () => {
    const { batches, calls, settle } = sender({ weightMax: 2 });
    const all = Promise.all(["a:1", "a:2", "a:3"].map((item) => batches.add(item)));
    await settle();
    calls[0]?.answer();
    await settle();
    calls[1]?.answer();
    await all;
    expect(calls.map((call) => call.items)).toEqual([["a:1", "a:2"], ["a:3"]]);
  });

  it("keeps a solo item apart from others of its lanes, in order, and lets it fly with the rest", async () => {
    const { batches, calls, settle } = sender({ isSolo: (item) => item.includes("solo") });
    const all = Promise.all(["a:1", "b:solo", "c:1", "b:2", "a:3", "a:solo"].map((item) => batches.add(item)));
    for (let index = 0; index < 3; index++) {
      await settle();
      calls[index]?.answer();
    }
    await all;
    expect(calls.map((call) => call.items)).toEqual([["a:1", "b:solo", "c:1"], ["b:2", "a:3"], ["a:solo"]]);
  });

  it("never puts two items with one key into a batch", async () => {
    const { batches, calls, settle } = sender({ keyOf: (item) => (item.startsWith("k") ? "key" : null) });
    const all = Promise.all(["k:1", "a:1", "k:2", "b:1"].map((item) => batches.add(item)));
    await settle();
    calls[0]?.answer();
    await settle();
    calls[1]?.answer();
    await all;
    expect(calls.map((call) => call.items)).toEqual([["k:1", "a:1"], ["k:2", "b:1"]]);
  });

  it("offers each alone when the batch is contended, and lets other lanes go on past the stuck one", async () => {
    const { batches, calls, settle } = sender();
    const stuck = batches.add("a:1");
    const other = batches.add("b:1");
    await settle();
    calls[0]?.fail(new ContendedError("a is locked"));
    await settle();
    expect(calls.slice(1).map(({ items, alone }) => [items, alone])).toEqual([[["a:1"], "briefly"], [["b:1"], "briefly"]]);
    calls[1]?.fail(new ContendedError("a is locked"));
    calls[2]?.answer();
    expect(await other).toBe("done b:1");
    await settle();
    expect(calls[3]).toMatchObject({ items: ["a:1"], alone: "patiently" });
    const later = batches.add("a:2");
    const free = batches.add("c:1");
    await settle();
    // The stuck lane's next item waits behind it; the other lane's goes out in a batch.
    expect(calls.slice(4).map(({ items, alone }) => [items, alone])).toEqual([[["c:1"], false]]);
    calls[4]?.answer();
    await free;
    calls[3]?.answer();
    expect(await stuck).toBe("done a:1");
    await settle();
    expect(calls[5]).toMatchObject({ items: ["a:2"], alone: "briefly" });
    calls[5]?.answer();
    await later;
    await batches.idle();
  });

  it("lets no lane wait for the stuck ones of its batch, however many they are", async () => {
    const { batches, calls, settle } = sender();
    const names = ["a", "b", "c", "d", "e", "free"];
    const all = names.map((lane) => batches.add(`${lane}:1`));
    await settle();
    calls[0]?.fail(new ContendedError("some are locked"));
    // Stuck ones wait for their lanes without end; nobody answers them.
    for (let at = 1; at < 20; at++) {
      await settle();
      const call = calls[at];
      if (call?.alone === "briefly") call.items[0] === "free:1" ? call.answer() : call.fail(new ContendedError("locked"));
    }
    expect(await Promise.race([all[5], settle()])).toBe("done free:1");
    expect(calls.filter(({ alone }) => alone === "patiently").map(({ items }) => items[0])).toEqual(["a:1", "b:1", "c:1"]);
  });

  it("rejects every item of a batch that fails for another reason", async () => {
    const { batches, calls, settle } = sender();
    const all = Promise.allSettled([batches.add("a:1"), batches.add("b:1")]);
    await settle();
    calls[0]?.fail(new Error("away"));
    expect((await all).map((one) => one.status)).toEqual(["rejected", "rejected"]);
  });

  it("sends an empty batch when nudged, once for any number of nudges", async () => {
    const { batches, calls, settle } = sender();
    batches.nudge();
    batches.nudge();
    await settle();
    expect(calls.map((call) => call.items)).toEqual([[]]);
    calls[0]?.answer();
    await batches.idle();
  });
});
