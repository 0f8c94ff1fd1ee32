/** Small things that every page is made of. */
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, config } from "./api.js";
import { now } from "./state.js";

export type Tone = "quiet" | "waiting" | "running" | "good" | "bad" | "warn" | "held";

const paths: Record<Tone | "arrow" | "note", string> = {
  quiet: "M8 3.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 0 1 0-9z",
  waiting: "M8 3.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 0 1 0-9zM8 5.5V8l1.8 1.2",
  running: "M5.5 4l6 4l-6 4z",
  good: "M3.5 8.5l3 3l6-7",
  bad: "M4.5 4.5l7 7M11.5 4.5l-7 7",
  warn: "M12.2 6.2A4.5 4.5 0 1 0 12.5 8.6M12.4 3.4v3h-3",
  held: "M6 4.5v7M10 4.5v7",
  arrow: "M6 4l4 4l-4 4",
  note: "M8 4v5M8 11.6v.1",
};
export const Icon = ({ of }: { of: keyof typeof paths }) => (
  <svg class={`icon icon-${of}`} viewBox="0 0 16 16" aria-hidden="true">
    <path d={paths[of]} />
  </svg>
);

export const Badge = ({ tone, children }: { tone: Tone; children: ComponentChildren }) => (
  <span class={`badge ${tone}`}>
    <Icon of={tone} />
    {children}
  </span>
);

/** What the last deed said, for who does not see it: it outlives its button. */
export const said = signal("");

/** When what has the focus goes, the heading around it gets it, and no key is lost. */
function useHandOver() {
  const place = useRef<HTMLElement>(null);
  useLayoutEffect(() => {
    const section = place.current?.closest("section");
    const here = place.current;
    return () => {
      if (!here?.contains(document.activeElement)) return;
      queueMicrotask(() => {
        if (document.activeElement !== document.body) return;
        const main = document.getElementById("main");
        const heading = (section?.isConnected ? section : main)?.querySelector<HTMLElement>("h1, h2");
        if (heading) heading.tabIndex = -1;
        (heading ?? main)?.focus({ preventScroll: true });
      });
    };
  }, []);
  return place;
}

/** A button that does something to the queue. What goes wrong is said beside it; in read-only mode there is none. */
export function Act({ label, run, tone = "plain", title, done }: { label: string; run: () => Promise<unknown>; tone?: "plain" | "danger" | "primary"; title?: string; done?: (answer: unknown) => string | void }) {
  const [state, set] = useState<{ busy: boolean; error?: string; said?: string }>({ busy: false });
  const place = useHandOver();
  if (config.readOnly) return null;
  const press = async () => {
    if (state.busy) return;
    set({ busy: true });
    try {
      const answer = await run();
      const text = done?.(answer) ?? "";
      said.value = text;
      set({ busy: false, said: text });
    } catch (error) {
      set({ busy: false, error: error instanceof ApiError ? error.message : String(error) });
    }
  };
  return (
    <span class="act" ref={place}>
      <button type="button" class={`button ${tone}`} aria-disabled={state.busy} onClick={press} title={title}>
        {label}
      </button>
      <span class="act-said">{state.said ?? ""}</span>
      {state.error ? <span role="alert" class="act-error">{state.error}</span> : null}
    </span>
  );
}

export const Empty = ({ title, children }: { title: string; children?: ComponentChildren }) => (
  <div class="empty">
    <svg viewBox="0 0 120 60" aria-hidden="true">
      <path d="M6 15h108M6 30h108M6 45h108" />
      <rect x="14" y="10" width="22" height="10" rx="5" />
      <rect x="44" y="25" width="22" height="10" rx="5" />
      <rect x="74" y="40" width="22" height="10" rx="5" />
    </svg>
    <h2>{title}</h2>
    <p>{children}</p>
  </div>
);

export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} min`;
}
const toTheSecond = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" } as const;
/** On the reader's clock, with the day unless that is today. */
export function clockTime(iso: string | number): string {
  const [at, today] = [new Date(iso), new Date()];
  if (at.toDateString() === today.toDateString()) return at.toLocaleTimeString([], toTheSecond);
  return at.toLocaleString([], { ...(at.getFullYear() === today.getFullYear() ? {} : { year: "numeric" }), month: "short", day: "numeric", ...toTheSecond });
}
export const bytes = (count: number): string => (count < 1024 ? `${count} B` : count < 1024 * 1024 ? `${(count / 1024).toFixed(1)} KiB` : `${(count / 1024 / 1024).toFixed(1)} MiB`);

export const Elapsed = ({ since }: { since: string }) => <>{coarse(Math.max(0, now.value - Date.parse(since)))}</>;
export const Until = ({ at }: { at: string }) => <>{coarse(Math.max(0, Date.parse(at) - now.value))}</>;
const coarse = (ms: number): string => (ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms));

export const When = ({ at }: { at: string }) => <time dateTime={at} title={new Date(at).toLocaleString()}>{clockTime(at)}</time>;

const failureWords: Record<string, string> = {
  build_failed: "does not build", import_refused: "import refused", timed_out: "timed out", worker_crashed: "worker crashed", out_of_memory: "out of memory",
  output_too_large: "output too large", cancelled: "cancelled", superseded: "superseded", node_lost: "node lost", run_failed: "run failed",
};
export const failureWord = (code: string | null | undefined): string => (code ? (failureWords[code] ?? code) : "failed");
/** A person's or a newer job's doing is no fault. */
export const isQuietEnd = (code: string | null | undefined): boolean => code === "cancelled" || code === "superseded";

export async function copyText(text: string): Promise<string> {
  await navigator.clipboard.writeText(text);
  return "Copied.";
}
export const Copy = ({ label, text }: { label: string; text: () => string }) => {
  const [said, say] = useState("");
  return (
    <span class="act">
      <button type="button" class="button plain" onClick={() => copyText(text()).then(say, () => say("The browser does not allow it."))}>{label}</button>
      <span role="status" class="act-said">{said}</span>
    </span>
  );
};
