/**
 * For the tests of those who use Buildlane: the store in memory, and a clock that stands still until it is told to go
 * on, so that a backoff of a minute takes no time and the same seed gives the same run. `test/testing.test.ts` shows how.
 */
import { systemClock } from "./clock.js";
import type { Clock } from "./clock.js";
import { createMemoryStore as createStore } from "./store/memory.js";
import type { Store } from "./store/store.js";

/**
 * A store that several queues may share, as nodes share a database; it keeps nothing. Give it the queues' own clock.
 * `createBuildQueue({ store: "memory" })` makes one for a single queue.
 */
export const createMemoryStore = ({ clock = systemClock }: { clock?: Clock } = {}): Store => createStore({ clock });

export { createSimulatedClock } from "./simulated-clock.js";
export type { SimulatedClock } from "./simulated-clock.js";
export type { Clock, Timer } from "./clock.js";
export type { Store } from "./store/store.js";
