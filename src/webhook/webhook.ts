/**
 * Tells the operator's address what happens, from the history, beside all other work: at least once, and in order for
 * each chat. The cursors live in the store (store/webhook.ts); a node claims a few chats that have news, tells each one's
 * events one after another, records how far it came, and gives the chat back. Hints say which chats have news; what they
 * miss a sweep finds. Nothing that accepts or runs jobs waits for any of it.
 */
import type { Clock, Timer } from "../clock.js";
import type { HistoryEvent } from "../job.js";
import { messageOf } from "../report.js";
import type { Reporter } from "../report.js";
import { ofLane } from "../store/scope.js";
import type { Store } from "../store/store.js";
import type { WebhookClaim } from "../store/webhook.js";
import { signedMessage } from "./message.js";
import type { Send } from "./send.js";

/** Chats that a node tells at once. */
const tellingMax = 4;
/** How long one request may take. */
export const answerMs = 10_000;
/** A claim's lease; a request begins only when it must end before the lease does. */
export const claimMs = 2 * answerMs + 5000;
/** Events that one claim tells at most, so that chats take turns. */
const eventsMax = 50;
/** Hints are gathered for so long. */
const gapMs = 100;
/** Between two sweeps, and between the pages of the first one, which looks through all lanes. */
const sweepMs = 5000;
const firstSweepMs = 100;
const sweepLanes = 1000;
/** Chats named by hints that are remembered, and given to one claim. More than that the sweep finds. */
const namedMax = 10_000;
const namedPerClaim = 200;
/** Between tries of one chat's event: doubling, half of it by chance. */
const retryBaseMs = 1000;
const retryMaxMs = 5 * 60_000;
/** After 410 Gone, of the whole node. */
const goneMs = 10 * 60_000;
/** What a stop leaves a request in flight. */
const graceMs = 2000;

export interface Webhook {
  /** Lets what is being sent end, for a moment, and records it. Twice is fine. */
  stop(): Promise<void>;
}

/** The store's history must have begun for it (`store.webhook.begin`). */
export function startWebhook({ store, nodeId, secret, send, clock, report }: { store: Store; nodeId: string; secret: string; send: Send; clock: Clock; report: Reporter }): Webhook {
  const named = new Set<string>();
  const telling = new Set<Promise<void>>();
  const stopping = new AbortController();
  let stopped = false;
  let looking: Promise<void> | null = null;
  let timer: Timer | null = null;
  let timerAt = Number.POSITIVE_INFINITY;
  let sweepAt = clock.monotonic();
  let sweepAfter = "";
  let passed = false;
  let dueAt = Number.POSITIVE_INFINITY;
  let silentUntil = 0;
  let ending: Promise<void> | null = null;

  const deaf = store.onHint((hint) => {
    if (hint.kind !== "chat" || named.size >= namedMax) return;
    named.add(hint.chatId);
    lookIn(gapMs);
  });

  /** Looks in `delayMs`, or when that was to be earlier, then. */
  function lookIn(delayMs: number): void {
    const at = Math.max(clock.monotonic() + delayMs, silentUntil);
    if (stopped || at >= timerAt) return;
    timer?.cancel();
    timerAt = at;
    // Whole milliseconds: a fraction could come to nothing, and it would look again at the same moment for ever.
    timer = clock.after(Math.max(1, Math.ceil(at - clock.monotonic())), () => {
      timerAt = Number.POSITIVE_INFINITY;
      looking ??= look()
        .catch((error: unknown) => {
          report({ type: "database.away", verb: "webhook", error: messageOf(error) });
          silentUntil = clock.monotonic() + sweepMs;
        })
        .finally(() => {
          looking = null;
          lookNext();
        });
    });
  }
  /** When there will be something to do next: a sweep, and with room for a chat also what is named or due. */
  function lookNext(): void {
    const now = clock.monotonic();
    lookIn(sweepAt - now);
    if (telling.size >= tellingMax) return;
    if (named.size > 0) lookIn(gapMs);
    if (Number.isFinite(dueAt)) lookIn(Math.max(gapMs, dueAt - now));
  }
  const setDue = (dueInMs: number | null) => void (dueAt = dueInMs === null ? Number.POSITIVE_INFINITY : clock.monotonic() + Math.max(0, dueInMs));

  async function look(): Promise<void> {
    if (clock.monotonic() < silentUntil) return;
    if (clock.monotonic() >= sweepAt) {
      const { next, dueInMs } = await store.webhook.sweep({ after: sweepAfter, limit: sweepLanes });
      sweepAfter = next;
      passed ||= next === "";
      // Half by chance, so that nodes do not sweep together.
      sweepAt = clock.monotonic() + (passed ? sweepMs * (0.75 + clock.random() / 2) : firstSweepMs);
      setDue(dueInMs);
    }
    const limit = tellingMax - telling.size;
    if (stopped || limit <= 0 || (named.size === 0 && dueAt > clock.monotonic())) return;
    const chatIds = [...named].slice(0, namedPerClaim);
    // Before the claim: a hint that comes meanwhile may tell of what it did not see.
    for (const chatId of chatIds) named.delete(chatId);
    const claimId = clock.id();
    const untilMs = clock.monotonic() + claimMs;
    try {
      const { claims, dueInMs } = await store.webhook.claim({ nodeId, claimId, chatIds, limit, leaseMs: claimMs });
      setDue(dueInMs);
      for (const claim of claims) {
        const work: Promise<void> = tell(claim, claimId, untilMs).finally(() => {
          telling.delete(work);
          dueAt = Math.min(dueAt, clock.monotonic());
          lookNext();
        });
        telling.add(work);
      }
    } catch (error) {
      for (const chatId of chatIds) named.add(chatId);
      throw error;
    }
  }

  /** Tells one chat's events in their order for as long as its claim surely holds, and records how far that went. */
  async function tell({ chatId: key, delivered, failures }: WebhookClaim, claimId: string, untilMs: number): Promise<void> {
    const { tenant, chatId } = ofLane(key);
    let told = delivered;
    let retryInMs: number | null = null;
    try {
      const { events, floor } = await store.events({ tenant }, chatId, { after: delivered, limit: eventsMax });
      for (const event of events) {
        if (stopped || clock.monotonic() + answerMs >= untilMs || clock.monotonic() < silentUntil) break;
        retryInMs = await tellOne(key, event, failures);
        if (retryInMs !== null) {
          failures++;
          break;
        }
        told = event.number;
        failures = 0;
      }
      // The retention removed what was left to tell.
      if (events.length === 0) told = Math.max(told, floor);
      if (!(await store.webhook.record({ claimId, chatId: key, delivered: told, failures, retryInMs }))) report({ type: "webhook.claimLost", chatId: key });
    } catch (error) {
      // Its claim ends by itself; what was told is told again then.
      report({ type: "database.away", verb: "webhook", error: messageOf(error) });
    }
  }

  /** `chatId` is the lane's key. Null when it was taken; else when to try again, in milliseconds. */
  async function tellOne(chatId: string, event: HistoryEvent, failures: number): Promise<number | null> {
    const answer = await send(signedMessage(event, secret, clock.now()), stopping.signal);
    if (answer.kind === "answered" && answer.status >= 200 && answer.status < 300) {
      report({ type: "webhook.delivered", chatId, number: event.number });
      return null;
    }
    // Cut off by a stop, which is no failure of the address.
    if (answer.kind === "unreachable" && stopping.signal.aborted) return 0;
    // The address says that nobody wants this any more: other chats' events need not ask again.
    if (answer.kind === "answered" && answer.status === 410) {
      silentUntil = clock.monotonic() + goneMs;
      report({ type: "webhook.gone", silentMs: goneMs });
      return goneMs;
    }
    const backoffMs = Math.min(retryMaxMs, retryBaseMs * 2 ** Math.min(failures, 20));
    const askedMs = answer.kind === "answered" ? Math.min(answer.retryAfterMs ?? 0, retryMaxMs) : 0;
    const retryInMs = Math.round(Math.max(askedMs, backoffMs * (0.5 + clock.random() / 2)));
    report({ type: "webhook.failed", chatId, number: event.number, failures: failures + 1, reason: answer.kind === "answered" ? `status ${answer.status}` : answer.reason, retryInMs });
    return retryInMs;
  }

  async function end(): Promise<void> {
    stopped = true;
    deaf();
    timer?.cancel();
    const grace = clock.after(graceMs, () => stopping.abort());
    await looking;
    await Promise.all(telling);
    grace.cancel();
  }

  lookIn(0);
  return { stop: () => (ending ??= end()) };
}
