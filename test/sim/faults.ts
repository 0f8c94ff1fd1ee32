/** The fault phase: what goes wrong, drawn from the seed, and its end, after which everything must come to rest. */
import type { World } from "./world.js";
import { calm, storm } from "./world.js";

export const faultKinds = ["kill", "freeze", "cut", "down", "drain", "pauseQueue", "pauseChat", "hold"] as const;
export type FaultKind = (typeof faultKinds)[number];

export interface Faults {
  start(): void;
  /** Mends everything; the weather is calm from now on. */
  end(): Promise<void>;
  readonly counts: Record<FaultKind, number>;
}

/** Chats that one transaction holds: in a run of few, some that are at work. */
const heldTogether = 6;
/** A killed node's successor starts after this. */
const restartMs = 300;

export function createFaults(world: World, { nodes, chats, everyMs, onFault }: { nodes: number; chats: number; everyMs: number; onFault(kind: FaultKind, nodeId: string): void }): Faults {
  const { clock, store } = world;
  const counts = Object.fromEntries(faultKinds.map((kind) => [kind, 0])) as Record<FaultKind, number>;
  const pick = <T>(list: readonly T[]): T | undefined => list[Math.floor(clock.random() * list.length)];
  const between = (from: number, to: number) => from + (to - from) * clock.random();
  let over = false;

  function ensureNodes(): void {
    const living = world.nodes.filter((node) => node.process.state !== "dead" && !node.stopping).length;
    for (let count = living; count < nodes; count++) world.startNode();
  }

  function strike(kind: FaultKind): void {
    const node = pick(world.open());
    if (!node) return;
    counts[kind]++;
    onFault(kind, node.id);
    switch (kind) {
      case "kill":
        node.process.kill();
        clock.after(restartMs, ensureNodes);
        return;
      case "freeze":
        node.process.freeze();
        clock.after(between(100, 9000), () => node.process.thaw());
        return;
      case "cut":
        node.cutUntil = clock.now() + between(100, 9000);
        return;
      case "down":
        world.downUntil = clock.now() + between(50, 8000);
        return;
      case "drain":
        node.stopping = true;
        void node.queue?.stop();
        clock.after(restartMs, ensureNodes);
        return;
      case "pauseQueue":
        void store.setQueuePaused(true);
        clock.after(between(50, 1500), () => void store.setQueuePaused(false));
        return;
      case "pauseChat": {
        const chatId = `chat${Math.floor(chats * clock.random())}`;
        void store.setChatPaused("everyone", chatId, true);
        clock.after(between(50, 3000), () => void store.setChatPaused("everyone", chatId, false));
        return;
      }
      case "hold":
        // Half of them for little longer than what goes together waits.
        for (let count = 0; count < heldTogether; count++) world.heldUntil.set(`chat${Math.floor(chats * clock.random())}`, clock.now() + between(20, clock.random() < 0.5 ? 100 : 3000));
        return;
      default:
        return kind satisfies never;
    }
  }
  function schedule(): void {
    clock.after(2 * everyMs * clock.random(), () => {
      if (over) return;
      strike(pick(faultKinds) as FaultKind);
      schedule();
    });
  }

  return {
    counts,
    start() {
      world.weather = storm;
      schedule();
    },
    async end() {
      over = true;
      world.weather = calm;
      world.downUntil = 0;
      for (const node of world.nodes) {
        node.cutUntil = 0;
        node.process.thaw();
      }
      await store.setQueuePaused(false);
      for (let chat = 0; chat < chats; chat++) await store.setChatPaused("everyone", `chat${chat}`, false);
      ensureNodes();
    },
  };
}
