/**
 * What the actors do, in the words of Stately's inspector (its wire format, one JSON object an event), from a converter of
 * our own: it attaches when somebody watches and leaves nothing behind, tells a newcomer of the actors that live already,
 * keeps submitted code and built output to itself, and can be narrowed to a chat, a job or a part of the chats.
 */
import type { AnyActorRef, AnyMachineSnapshot, InspectionEvent } from "xstate";
import type { ChatInput } from "../../machines/chat.machine.js";
import type { Clock } from "../clock.js";

export interface InspectOptions {
  /** Only this lane: the chat's id, behind its tenant's name and U+001F if it has one. */
  lane?: string | undefined;
  jobId?: string | undefined;
  /** Tells of one chat in so many, each wholly or not at all; 1 unless said. */
  sample?: number | undefined;
  signal: AbortSignal;
}

/** The receiver only asks that it is a text; it is the format's. */
const version = "0.7.2";
/** Beyond this many a second events are left out, and counted in the next one that is sent. */
const perSecondMax = 1000;
/** A reader that lags by so many is dropped. */
const lagMax = 5000;
const listMax = 50;

/** What a job brings and what is made of it. Messages of failures quote code, too. */
const secret = new Set(["code", "files", "result", "sourceMap", "lineText", "error", "message", "text", "suggestion", "warnings"]);
const hidden = "(not shown)";

export type WireEvent = Record<string, unknown> & { type: "@xstate.actor" | "@xstate.event" | "@xstate.snapshot" };

export function redact(value: unknown, depth = 0): unknown {
  if (value === null || typeof value !== "object") return typeof value === "function" ? { type: value.name } : value;
  if (depth > 8) return hidden;
  if (Array.isArray(value)) return value.slice(0, listMax).map((one) => redact(one, depth + 1));
  if (value instanceof Map) return Object.fromEntries([...value].slice(0, listMax));
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, one]: [string, unknown]) =>
      one === undefined ? [] : [[name, secret.has(name) && one !== null && (typeof one === "string" || typeof one === "object") ? hidden : redact(one, depth + 1)]],
    ),
  );
}

function wireSnapshot(snapshot: AnyMachineSnapshot): Record<string, unknown> {
  const children = Object.keys((snapshot.children ?? {}) as object).slice(0, listMax);
  return {
    status: snapshot.status, value: snapshot.value, context: redact(snapshot.context), historyValue: {}, tags: [...(snapshot.tags ?? [])],
    children: Object.fromEntries(children.map((id) => [id, { xstate$$type: 1, id }])),
  };
}

const parentOf = (actor: AnyActorRef): AnyActorRef | undefined => (actor as unknown as { _parent?: AnyActorRef })._parent;
const logicOf = (actor: AnyActorRef) => (actor as unknown as { logic: { id?: string; config?: unknown } }).logic;

/** What the supervisor calls a number (its context says why) is shown by its chat. */
const chatOf = (chat: AnyActorRef): ChatInput => (chat.getSnapshot() as { context: ChatInput }).context;

/** The chat's actor that this one is or belongs to; undefined for the supervisor. */
function chatActorOf(actor: AnyActorRef): AnyActorRef | undefined {
  for (let at = actor; ; ) {
    const parent = parentOf(at);
    if (!parent) return undefined;
    if (!parentOf(parent)) return at;
    at = parent;
  }
}

/** Stable and even: the same chats are in the sample, whoever asks. */
function isSampled(text: string, oneIn: number): boolean {
  let hash = 0;
  for (let index = 0; index < text.length; index++) hash = (Math.imul(hash, 31) + text.charCodeAt(index)) >>> 0;
  return hash % oneIn === 0;
}

export async function* inspectActors(root: AnyActorRef, clock: Clock, { lane, jobId, sample = 1, signal }: InspectOptions): AsyncGenerator<WireEvent, void, undefined> {
  const items: WireEvent[] = [];
  const announced = new WeakSet<AnyActorRef>();
  const narrowed = lane !== undefined || jobId !== undefined || sample > 1;
  let wake: (() => void) | null = null;
  let ended = false;
  let left = 0;
  let second = 0;
  let inSecond = 0;

  function send(event: WireEvent): void {
    const at = Math.floor(clock.monotonic() / 1000);
    if (at !== second) {
      second = at;
      inSecond = 0;
    }
    // An actor that was not announced would make all that follows unreadable.
    if (++inSecond > perSecondMax && event.type !== "@xstate.actor") return void left++;
    if (items.length >= lagMax) ended = true;
    else items.push({ ...event, rootId: root.sessionId, _version: version, createdAt: String(clock.now()), id: null, ...(left > 0 ? { leftOut: left } : {}) });
    left = 0;
    wake?.();
  }

  function isMeant(actor: AnyActorRef): boolean {
    if (!narrowed) return true;
    const chat = chatActorOf(actor);
    if (!chat) return false;
    const { chatId, claim } = chatOf(chat);
    if (lane !== undefined && chatId !== lane) return false;
    if (sample > 1 && !isSampled(chatId, sample)) return false;
    return jobId === undefined || claim.job.id === jobId;
  }

  function announce(actor: AnyActorRef): void {
    if (announced.has(actor)) return;
    announced.add(actor);
    const parent = parentOf(actor);
    if (parent) announce(parent);
    const { id, config } = logicOf(actor);
    const snapshot = wireSnapshot(actor.getSnapshot() as AnyMachineSnapshot);
    // Of a supervisor whose other chats are not meant, only that it is there.
    const shown = isMeant(actor) ? snapshot : { ...snapshot, context: {}, children: {} };
    send({ type: "@xstate.actor", name: actor === root ? (id ?? "supervisor") : parent === root ? chatOf(actor).chatId : actor.id, sessionId: actor.sessionId, ...(parent ? { parentId: parent.sessionId } : {}), definition: JSON.stringify(redact(config)), snapshot: shown });
  }

  function announceAll(actor: AnyActorRef): void {
    if (actor === root || isMeant(actor)) announce(actor);
    for (const child of Object.values(((actor.getSnapshot() as AnyMachineSnapshot).children ?? {}) as Record<string, AnyActorRef | undefined>)) if (child) announceAll(child);
  }

  function observe(event: InspectionEvent): void {
    const actor = event.actorRef as AnyActorRef;
    // Machines only: what else there is has no states to show.
    if (logicOf(actor).config === undefined) return;
    if (event.type === "@xstate.actor") {
      // Its snapshot is made after this; it is announced with the first thing that it does.
      return;
    }
    if (event.type !== "@xstate.event" && event.type !== "@xstate.snapshot") return;
    if (actor.getSnapshot() === undefined || !isMeant(actor)) return;
    announce(actor);
    const told = redact(event.event);
    if (event.type === "@xstate.event") send({ type: event.type, event: told, sessionId: actor.sessionId, ...(event.sourceRef ? { sourceId: event.sourceRef.sessionId } : {}) });
    else send({ type: event.type, event: told, snapshot: wireSnapshot(event.snapshot as AnyMachineSnapshot), sessionId: actor.sessionId });
  }

  announceAll(root);
  const subscription = root.system.inspect(observe);
  const stop = () => {
    ended = true;
    wake?.();
  };
  signal.addEventListener("abort", stop, { once: true });
  try {
    for (;;) {
      const item = items.shift();
      if (signal.aborted) return;
      if (item) yield item;
      else if (ended) return;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = null;
      }
    }
  } finally {
    subscription.unsubscribe();
    signal.removeEventListener("abort", stop);
  }
}
