import { describe } from "vitest";
import { exerciseStore } from "./exercise-store.js";
import { openPglite } from "./stores.js";

describe("the PGlite store", () => {
  exerciseStore(openPglite);
});
