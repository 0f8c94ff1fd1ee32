/** How this node stands, as its actors say it at this moment. Read on demand; nothing is kept for it. */
import type { AnyActorRef, AnyMachineSnapshot, StateValue } from "xstate";
import type { ChatInput } from "../../machines/chat.machine.js";
import type { AtWork } from "../effects.js";
import { shownLane } from "../store/scope.js";

/** A living chat actor with its entered states, from the outermost to the innermost, as the statecharts name them. */
export interface ChatActorView {
  chatId: string;
  tenant?: string;
  states: string[];
  job: { id: string; chatSeq: number; attempt: number; states: string[] } | null;
}
export interface SlotView {
  chatId: string;
  tenant?: string;
  jobId: string;
  chatSeq: number;
  attempt: number;
  startedAt: string;
}
export interface ActorsView {
  /** The supervisor's state. */
  state: string;
  slots: { total: number; held: SlotView[] };
  /** Living chat actors, those not listed included. */
  actors: number;
  chats: ChatActorView[];
}

/** Chat actors that are listed. */
const chatsMax = 200;

/** `{ running: "building" }` → `["running", "running.building"]`. */
function statesOf(value: StateValue, within = ""): string[] {
  if (typeof value === "string") return [within + value];
  return Object.entries(value).flatMap(([name, inner]) => [within + name, ...(inner === undefined ? [] : statesOf(inner, `${within}${name}.`))]);
}

const snapshotOf = (actor: AnyActorRef | undefined): AnyMachineSnapshot | undefined => actor?.getSnapshot() as AnyMachineSnapshot | undefined;

export function viewActors(supervisor: { getSnapshot(): unknown }, atWork: ReadonlyMap<string, AtWork>, slots: number): ActorsView {
  const snapshot = supervisor.getSnapshot() as AnyMachineSnapshot;
  const children = Object.values(snapshot.children as Record<string, AnyActorRef | undefined>);
  const chats = children.slice(0, chatsMax).flatMap((actor): ChatActorView[] => {
    const chat = snapshotOf(actor);
    if (!chat) return [];
    const head = snapshotOf((chat.children as Record<string, AnyActorRef | undefined>)["head"]);
    const job = (head?.context as { claim?: { job: { id: string; chatSeq: number; attempt: number } } } | undefined)?.claim?.job;
    return [{ ...shownLane((chat.context as ChatInput).chatId), states: statesOf(chat.value as StateValue), job: head && job ? { id: job.id, chatSeq: job.chatSeq, attempt: job.attempt, states: statesOf(head.value as StateValue) } : null }];
  });
  const held = [...atWork].flatMap(([key, { claim, startedAt }]): SlotView[] => (startedAt === null ? [] : [{ ...shownLane(key), jobId: claim.job.id, chatSeq: claim.job.chatSeq, attempt: claim.job.attempt, startedAt }]));
  return { state: statesOf(snapshot.value as StateValue).at(-1) ?? "", slots: { total: slots, held }, actors: children.length, chats };
}
