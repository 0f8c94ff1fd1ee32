/**
 * Every state that a machine can reach with the given events, by the shortest paths of `xstate/graph`, and every
 * transition that is taken when each of those events meets each of those states. Paths are replayed on real actors.
 */
import { SimulatedClock, createActor } from "xstate";
import type { AnyMachineSnapshot, AnyStateMachine, AnyStateNode, AnyTransitionDefinition, EventObject } from "xstate";
import { getShortestPaths } from "xstate/graph";

export interface Edge {
  from: AnyMachineSnapshot;
  event: EventObject;
  to: AnyMachineSnapshot;
}

export interface Explored {
  /** By key, the first one found for each. */
  states: Map<string, AnyMachineSnapshot>;
  edges: Edge[];
  /** Transitions of the machine that no path takes. */
  missed: string[];
}

const nodesOf = (node: AnyStateNode): AnyStateNode[] => [node, ...Object.values(node.states).flatMap(nodesOf)];
export const transitionsOf = (machine: AnyStateMachine): AnyTransitionDefinition[] =>
  nodesOf(machine.root).flatMap((node) => [...[...node.transitions.values()].flat(), ...(node.always ?? [])]);
const nameOf = ({ source, eventType, target, guard }: AnyTransitionDefinition): string =>
  `${source.id} on ${eventType || "always"} to ${target?.map(({ id }) => id).join(", ") ?? "nothing else"}${guard ? ` if ${typeof guard === "object" ? (guard as { type: string }).type : String(guard)}` : ""}`;

export function explore(machine: AnyStateMachine, { inputs, events, key }: { inputs: unknown[]; events: EventObject[]; key(snapshot: AnyMachineSnapshot): unknown }): Explored {
  const states = new Map<string, AnyMachineSnapshot>();
  const edges: Edge[] = [];
  const taken = new Set<AnyTransitionDefinition>();
  /** Of an actor that is not there nothing can come. */
  const possible = (snapshot: AnyMachineSnapshot): EventObject[] =>
    events.filter((event) => !/^xstate\.(done|error)\.actor\./.test(event.type) || (event as unknown as { actorId: string }).actorId in snapshot.children || machine.id === "supervisor");

  /** Sends the events to an actor whose timers never fire by themselves; its last two snapshots. */
  function replay(input: unknown, steps: EventObject[]): { from: AnyMachineSnapshot; to: AnyMachineSnapshot } {
    const actor = createActor(machine, {
      input, clock: new SimulatedClock(),
      inspect: (inspected) => {
        if (inspected.type === "@xstate.microstep") for (const one of inspected._transitions) taken.add(one);
      },
    });
    let crash: unknown = null;
    actor.subscribe({ error: (error) => void (crash = error) });
    actor.start();
    let from = actor.getSnapshot();
    for (const event of steps) {
      from = actor.getSnapshot();
      // The graph goes on from final states; an actor does not.
      if (from.status !== "active") break;
      actor.send(event);
      if (crash !== null) throw new Error(`${JSON.stringify(event)} crashes ${machine.id} in ${JSON.stringify(from.value)}`, { cause: crash });
    }
    const to = actor.getSnapshot();
    actor.stop();
    return { from, to };
  }

  for (const input of inputs) {
    const paths = getShortestPaths(machine, { input, events: possible, serializeState: (snapshot: AnyMachineSnapshot) => JSON.stringify(key(snapshot)), limit: 20_000 } as never);
    for (const path of paths) {
      const way = path.steps.map((step) => step.event as EventObject).filter((event) => event.type !== "xstate.init");
      const { to: state } = replay(input, way);
      states.set(JSON.stringify(key(state)), state);
      if (state.status !== "active") continue;
      for (const event of possible(state)) edges.push({ event, ...replay(input, [...way, event]) });
    }
  }
  return { states, edges, missed: transitionsOf(machine).filter((one) => !taken.has(one)).map(nameOf) };
}
