/** The page's shared state: where it is (all in the URL), how the connection stands, the figures, and the time. */
import { computed, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import type { QueueStats } from "../../store/reading.js";
import { ApiError, follow, locked, read, serverNow } from "./api.js";
import type { Told } from "./api.js";
import { applyEvent, loadLanes } from "./lanes-state.js";

/* Where: `#/job/abc?step=2` is path ["job", "abc"] with parameters. */
const hash = signal(location.hash);
addEventListener("hashchange", () => (hash.value = location.hash));
export const place = computed(() => {
  const [path = "", query = ""] = hash.value.replace(/^#\/?/, "").split("?");
  return { path: decoded(path.split("/").filter(Boolean)), query: new URLSearchParams(query) };
});
/** What cannot be decoded is the path of no page. */
function decoded(path: string[]): string[] {
  try {
    return path.map(decodeURIComponent);
  } catch {
    return [""];
  }
}
export const link = (path: string[], query: Record<string, string> = {}): string => {
  const params = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${params ? `?${params}` : ""}`;
};
/** Changes parameters without a new entry in the history. */
export function adjust(query: Record<string, string>): void {
  const now = Object.fromEntries(place.value.query);
  history.replaceState(null, "", link(place.value.path, { ...now, ...query }));
  hash.value = location.hash;
}

/** Ticks for elapsed times, by the service's clock, which wrote what they count from. */
export const now = signal(serverNow());
setInterval(() => document.visibilityState === "visible" && (now.value = serverNow()), 200);

/** A browser opens six connections to one service over HTTP/1.1, for all of its tabs together: one that has been hidden for so long holds no stream. */
const hiddenMs = 5000;
export const isAwake = signal(document.visibilityState === "visible");
let fallsAsleep = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(fallsAsleep);
  if (document.visibilityState === "visible") isAwake.value = true;
  else fallsAsleep = window.setTimeout(() => (isAwake.value = false), hiddenMs);
});

const stream = signal<{ state: "connecting" | "live" | "reconnecting" | "stale"; since: number }>({ state: "connecting", since: Date.now() });
/** Since when the service has had no database; null: it has one. The stream stays open meanwhile, and tells nothing. */
const outage = signal<number | null>(null);
export const connection = computed(() => (stream.value.state === "live" && outage.value !== null ? { state: "stale" as const, since: outage.value } : stream.value));
const listeners = new Set<(told: Told) => void>();
export function onEvent(listener: (told: Told) => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

export const stats = signal<QueueStats | null>(null);
export interface Sample {
  at: number;
  wait50: number | null;
  wait95: number | null;
  build50: number | null;
  build95: number | null;
  perMinute: number;
}
export const samples = signal<Sample[]>([]);
const samplesMax = 90;
let statsAt = 0;
let refusedAt: number | null = null;
let statsTimer = 0;
const statsGapMs = 1000;
/** At most once a second, and once more after the last of what happened. */
const readStatsSoon = () => void (statsTimer ||= window.setTimeout(() => ((statsTimer = 0), void readStats()), Math.max(0, statsGapMs - (Date.now() - statsAt))));
export async function readStats(): Promise<void> {
  statsAt = Date.now();
  try {
    const found = await read<QueueStats>("/stats");
    stats.value = found;
    refusedAt = outage.value = null;
    samples.value = [...samples.value, { at: statsAt, wait50: found.waiting.p50, wait95: found.waiting.p95, build50: found.processing.p50, build95: found.processing.p95, perMinute: found.finishedLastMinute }].slice(-samplesMax);
  } catch (error) {
    // The connection's own state says what is wrong; old figures stay.
    if (!(error instanceof ApiError && error.status === 503)) return;
    refusedAt ??= statsAt;
    if (Date.now() - refusedAt >= awayMs) outage.value = refusedAt;
  }
}

/** Heartbeats come every 15 s; the page is stale when nothing came for so long, or the connection has been away for so long. */
const silentMs = 40_000;
const awayMs = 4000;

/** Keeps the one stream open for as long as somebody may look at the page. */
export async function connect(): Promise<void> {
  setInterval(() => document.visibilityState === "visible" && locked.value === null && Date.now() - statsAt > 1900 && void readStats(), 500);
  locked.subscribe((why) => why === null && void readStats());
  let seenAt = Date.now();
  let turnsStale = 0;
  // Also while a stream is open: it begins only when the database is there.
  const staleUnlessLive = (inMs = Math.max(0, stream.value.since + awayMs - Date.now())) => {
    clearTimeout(turnsStale);
    turnsStale = window.setTimeout(() => stream.value.state !== "live" && (stream.value = { state: "stale", since: stream.value.since }), inMs);
  };
  staleUnlessLive();
  for (let tries = 0; ; tries++) {
    if (!isAwake.value) {
      await until(isAwake, (awake) => awake);
      stream.value = { state: "reconnecting", since: stream.value.since };
      staleUnlessLive(awayMs);
    }
    const controller = new AbortController();
    const stopWhenHidden = isAwake.subscribe((awake) => awake || controller.abort());
    // Silence is counted from the attempt's begin: after a long outage the service may take a while to say its first word.
    let heardAt = Date.now();
    const watchdog = setInterval(() => Date.now() - heardAt > silentMs && controller.abort(), 2000);
    const live = () => {
      heardAt = seenAt = Date.now();
    };
    try {
      await follow("/events", controller.signal, (told) => {
        if (told.event === "reset") {
          void loadLanes(controller.signal).then(
            () => {
              tries = 0;
              clearTimeout(turnsStale);
              stream.value = { state: "live", since: Date.now() };
              void readStats();
            },
            () => controller.abort(),
          );
        } else {
          applyEvent(told);
          if (told.event.startsWith("queue.")) void readStats();
          else readStatsSoon();
        }
        for (const listener of listeners) listener(told);
      }, live);
    } catch {
      if (locked.value !== null) {
        clearTimeout(turnsStale);
        await until(locked, (why) => why === null);
        stream.value = { state: "connecting", since: Date.now() };
        staleUnlessLive();
      }
    }
    clearInterval(watchdog);
    stopWhenHidden();
    controller.abort();
    const was = stream.value;
    stream.value = { state: was.state === "stale" ? "stale" : "reconnecting", since: was.state === "live" ? seenAt : was.since };
    if (was.state === "live") staleUnlessLive();
    await new Promise((resolve) => setTimeout(resolve, Math.min(2500, 300 * 2 ** Math.min(tries, 4)) * (0.7 + Math.random() * 0.6)));
  }
}

const until = <T,>(what: Signal<T>, holds: (value: T) => boolean): Promise<void> =>
  new Promise((resolve) => {
    const stop = what.subscribe((value) => {
      if (!holds(value)) return;
      resolve();
      queueMicrotask(() => stop());
    });
  });
