/** First how many, then the deed, in as many steps as it takes; it can be stopped between them. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Act } from "./parts.js";
import { call, config } from "./api.js";
import type { Filter } from "./failures.js";

type Verb = "redrive" | "discard";
const words: Record<Verb, { verb: string; done: string }> = { redrive: { verb: "Redrive", done: "redriven" }, discard: { verb: "Discard", done: "discarded" } };
/** The service's limit for one request. */
const stepMax = 1000;

const number = (value: number): string => value.toLocaleString("en");
const jobs = (count: number): string => `${number(count)} ${count === 1 ? "job" : "jobs"}`;

export function Bulk({ what, filter, after }: { what: string; filter: Filter; after: () => Promise<void> }) {
  const [asked, ask] = useState<{ verb: Verb; count: number } | null>(null);
  const [done, tell] = useState<number | null>(null);
  const [reason, setReason] = useState("");
  const stopped = useRef(false);
  const place = useRef<HTMLElement>(null);
  const moved = useRef(false);
  // The button that was pressed is gone: the keyboard goes on from here, and no key is lost in between.
  useLayoutEffect(() => {
    if (moved.current) place.current?.focus();
    moved.current = true;
  }, [asked === null]);
  if (config.readOnly) return null;
  const count = (verb: Verb) => async () => ask({ verb, count: (await call<{ count: number }>("POST", `/dead-letters/${verb}`, { filter, dryRun: true })).data.count });
  const keep = () => {
    ask(null);
    setReason("");
  };
  if (!asked)
    return (
      <span class="actions" ref={place} tabIndex={-1}>
        <Act label={`Redrive ${what}`} run={count("redrive")} />
        <Act label={`Discard ${what}`} run={count("discard")} />
      </span>
    );
  const { verb, done: past } = words[asked.verb];
  /** Oldest first and no more than were counted, so what fails again meanwhile is left alone. */
  const run = async () => {
    stopped.current = false;
    let sum = 0;
    try {
      while (sum < asked.count && !stopped.current) {
        tell(sum);
        const { data } = await call<{ redriven?: number; discarded?: number }>("POST", `/dead-letters/${asked.verb}`, { filter, limit: Math.min(stepMax, asked.count - sum), ...(reason ? { reason } : {}) });
        const step = data.redriven ?? data.discarded ?? 0;
        if (step === 0) break;
        sum += step;
      }
    } finally {
      tell(null);
      if (sum > 0) await after();
    }
    keep();
  };
  return (
    <span class="confirm" role="group" aria-label={`${verb} ${what}?`} ref={place} tabIndex={-1} onKeyDown={(event) => event.key === "Escape" && done === null && keep()}>
      <span role="status">{done === null ? `${jobs(asked.count)}.` : `${number(done)} of ${number(asked.count)} ${past}…`}</span>
      {done === null && asked.count > 0 ? <label><span class="hidden">Reason, for the audit log</span><input type="text" maxLength={500} placeholder="Reason (optional)" value={reason} onInput={(event) => setReason(event.currentTarget.value)} /></label> : null}
      {asked.count > 0 ? <Act label={`${verb} ${number(asked.count)}`} tone={asked.verb === "redrive" ? "primary" : "danger"} run={run} /> : null}
      {done === null ? <button type="button" class="button plain" onClick={keep}>Keep</button> : <button type="button" class="button plain" onClick={() => (stopped.current = true)}>Stop</button>}
    </span>
  );
}
