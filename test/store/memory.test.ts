import { describe } from "vitest";
import { exerciseStore } from "./exercise-store.js";
import { openMemory } from "./stores.js";

describe("the memory store", () => {
  exerciseStore(openMemory, {
    skip: [
      { reason: "the memory store has no transactions", tests: ["in one transaction"] },
      { reason: "the memory store refuses no bytes", tests: ["a group with bytes that the database refuses"] },
    ],
  });
});
