/** The page's shared state: where it is (all in the URL), how the connection stands, the figures, and the time. */
import { computed, signal } from "@preact/signals";
import type { QueueStats } from "../../queue-api.js";
import { ApiError, follow, locked, read } from "./api.js";
import type { Told } from "./api.js";
import { applyEvent, loadLanes } from "./lanes-state.js";

/* Where: `#/job/abc?step=2` is path ["job", "abc"] with parameters. */
const hash = signal(location.hash);
addEventListener("hashchange", () => (hash.value = location.hash));
export const place = computed(() => {
  const [path = "", query = ""] = hash.value.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
});
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

/** Ticks for elapsed times. */
export const now = signal(Date.now());
setInterval(() => document.visibilityState === "visible" && (now.value = Date.now()), 200);

export const connection = signal<{ state: "connecting" | "live" | "reconnecting" | "stale"; since: number }>({ state: "connecting", since: Date.now() });
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
let statsTimer = 0;
const statsGapMs = 1000;
/** At most once a second, and once more after the last of what happened. */
const readStatsSoon = () => void (statsTimer ||= window.setTimeout(() => ((statsTimer = 0), void readStats()), Math.max(0, statsGapMs - (Date.now() - statsAt))));
export async function readStats(): Promise<void> {
  statsAt = Date.now();
  try {
    const found = await read<QueueStats>("/stats");
    stats.value = found;
    samples.value = [...samples.value, { at: statsAt, wait50: found.waiting.p50, wait95: found.waiting.p95, build50: found.processing.p50, build95: found.processing.p95, perMinute: found.finishedLastMinute }].slice(-samplesMax);
  } catch {
    // The connection's own state says what is wrong; old figures stay.
  }
}

/** Heartbeats come every 15 s; the page is stale when nothing came for so long, or the connection has been away for so long. */
const silentMs = 40_000;
const awayMs = 4000;

/** Keeps the one stream open for ever. */
export async function connect(): Promise<void> {
  setInterval(() => document.visibilityState === "visible" && locked.value === null && Date.now() - statsAt > 1900 && void readStats(), 500);
  locked.subscribe((why) => why === null && void readStats());
  let seenAt = Date.now();
  for (let tries = 0; ; tries++) {
    const controller = new AbortController();
    const watchdog = setInterval(() => Date.now() - seenAt > silentMs && controller.abort(), 2000);
    const live = () => {
      seenAt = Date.now();
    };
    try {
      await follow("/events", controller.signal, (told) => {
        if (told.event === "reset") {
          void loadLanes(controller.signal).then(
            () => {
              tries = 0;
              connection.value = { state: "live", since: Date.now() };
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
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) await unlocked();
    }
    clearInterval(watchdog);
    controller.abort();
    const lostAt = connection.value.state === "live" ? seenAt : connection.value.since;
    connection.value = { state: connection.value.state === "stale" || Date.now() - lostAt > awayMs ? "stale" : "reconnecting", since: lostAt };
    const turnsStale = setTimeout(() => connection.value.state === "reconnecting" && (connection.value = { state: "stale", since: lostAt }), awayMs);
    await new Promise((resolve) => setTimeout(resolve, Math.min(2500, 300 * 2 ** Math.min(tries, 4)) * (0.7 + Math.random() * 0.6)));
    clearTimeout(turnsStale);
  }
}

const unlocked = (): Promise<void> =>
  new Promise((resolve) => {
    const stop = locked.subscribe((why) => {
      if (why !== null) return;
      resolve();
      queueMicrotask(() => stop());
    });
  });
