/** Dead letters, those that failed alike together; one, a group, or all that match are redriven or let go, with the count first. */
import { useEffect, useState } from "preact/hooks";
import type { Job } from "../../job.js";
import { ApiError, call, config } from "./api.js";
import { Act, Badge, Empty, failureWord, Icon, When } from "./parts.js";
import { adjust, link, onEvent, place, readStats } from "./state.js";

const lettersMax = 1000;
const shownMax = 8;

/** What two failures of one cause have in common: their code and message, without names and numbers. */
export function fingerprint(job: Job): string {
  const text = job.failure?.diagnostics[0]?.text ?? job.failure?.message ?? "";
  return `${job.failure?.code}: ${text.replaceAll(/"[^"]*"|'[^']*'|`[^`]*`/g, "“…”").replaceAll(/\d+/g, "#").slice(0, 160)}`;
}

export function Failures() {
  const [letters, set] = useState<Job[] | null>(null);
  const [error, setError] = useState<string | null>(null);
  const { query } = place.value;
  const chatId = query.get("chat") ?? "";
  const failureCode = query.get("code") ?? "";

  const look = async (signal?: AbortSignal) => {
    try {
      const found: Job[] = [];
      for (let cursor: string | null = ""; cursor !== null && found.length < lettersMax; ) {
        const params = new URLSearchParams({ limit: "200", ...(chatId ? { chatId } : {}), ...(failureCode ? { failureCode } : {}), ...(cursor ? { cursor } : {}) });
        const page: { data: Job[]; meta?: { nextCursor: string | null } } = await call<Job[]>("GET", `/dead-letters?${params}`, undefined, signal);
        found.push(...page.data);
        cursor = page.meta?.nextCursor ?? null;
      }
      set(found);
      setError(null);
    } catch (reason) {
      if (!signal?.aborted && reason instanceof ApiError) setError(reason.message);
    }
  };
  useEffect(() => {
    const controller = new AbortController();
    let timer = 0;
    void look(controller.signal);
    const stop = onEvent((told) => {
      if (["job.failed", "job.redriven", "reset"].includes(told.event)) timer ||= window.setTimeout(() => ((timer = 0), void look(controller.signal)), 300);
    });
    return () => {
      stop();
      controller.abort();
      clearTimeout(timer);
    };
  }, [chatId, failureCode]);

  const byPrint = new Map<string, Job[]>();
  for (const job of letters ?? []) byPrint.set(fingerprint(job), [...(byPrint.get(fingerprint(job)) ?? []), job]);
  const groups = [...byPrint].sort(([, a], [, b]) => b.length - a.length);
  const codes = [...new Set([...(letters ?? []).map((job) => job.failure?.code ?? ""), failureCode])].filter(Boolean).sort();
  const after = async () => {
    await look();
    await readStats();
  };
  const filter = { ...(chatId ? { chatId } : {}), ...(failureCode ? { failureCode } : {}) };
  return (
    <>
      <div class="tools">
        <h1>Failures</h1>
        <label class="search"><span class="hidden">Only chat</span><input type="search" placeholder="Only this chat" value={chatId} onChange={(event) => adjust({ chat: event.currentTarget.value })} /></label>
        <label class="pick"><span class="hidden">Only failure code</span>
          <select value={failureCode} onChange={(event) => adjust({ code: event.currentTarget.value })}>
            <option value="">Every failure</option>
            {codes.map((code) => <option key={code} value={code}>{failureWord(code)}</option>)}
          </select>
        </label>
        {letters && letters.length > 0 ? <div class="actions"><Bulk what={chatId || failureCode ? "all that match" : "all"} which={{ filter }} after={after} /></div> : null}
      </div>
      {error ? <p class="notice bad" role="alert"><Icon of="bad" /> {error}</p> : null}
      {letters === null && !error ? <p class="loading" role="status">Reading the dead letters…</p> : null}
      {letters?.length === 0 ? <Empty title="Nothing failed for good">Jobs that cannot be healed by another attempt wait here for you to redrive or discard them.</Empty> : null}
      {groups.map(([print, jobs]) => <Group key={print} print={print} jobs={jobs} after={after} />)}
    </>
  );
}

function Group({ print, jobs, after }: { print: string; jobs: Job[]; after: () => Promise<void> }) {
  const [code = "", ...rest] = print.split(": ");
  const open = place.value.query.get("open") === print;
  const shown = open ? jobs : jobs.slice(0, shownMax);
  return (
    <section class="panel" aria-label={print}>
      <div class="panel-head">
        <h2><Badge tone="bad">{failureWord(code)}</Badge> <span class="group-text">{rest.join(": ")}</span> <span class="count">{jobs.length}</span></h2>
        <div class="actions"><Bulk what={jobs.length === 1 ? "this one" : `these ${jobs.length}`} which={{ ids: jobs.map((job) => job.id) }} after={after} /></div>
      </div>
      <ul class="rows">
        {shown.map((job) => (
          <li key={job.id} class="row">
            <a class="row-main" href={link(["job", job.id])}>{job.chatId} <span class="quiet-text">#{job.chatSeq}</span></a>
            <span class="quiet-text grow">{job.failure?.diagnostics[0]?.text ?? job.failure?.message}{job.failure?.diagnostics[0]?.line ? ` (line ${job.failure.diagnostics[0].line})` : ""}</span>
            <span class="quiet-text"><When at={job.completedAt ?? job.createdAt} /></span>
            <span class="actions">
              <Act label="Redrive" title={`Redrive job ${job.chatSeq} of ${job.chatId}`} run={async () => (await call("POST", `/${job.id}/retry`), after())} />
              <Act label="Discard" title={`Discard job ${job.chatSeq} of ${job.chatId}`} run={async () => (await call("POST", "/dead-letters/discard", { ids: [job.id] }), after())} />
            </span>
          </li>
        ))}
      </ul>
      {jobs.length > shownMax ? <button type="button" class="button plain" aria-expanded={open} onClick={() => adjust({ open: open ? "" : print })}>{open ? "Show fewer" : `Show all ${jobs.length}`}</button> : null}
    </section>
  );
}

/** First how many, then the deed. */
function Bulk({ what, which, after }: { what: string; which: { ids?: string[]; filter?: object }; after: () => Promise<void> }) {
  const [asked, ask] = useState<{ verb: "redrive" | "discard"; count: number } | null>(null);
  if (config.readOnly) return null;
  const count = (verb: "redrive" | "discard") => async () => ask({ verb, count: (await call<{ count: number }>("POST", `/dead-letters/${verb}`, { ...which, dryRun: true })).data.count });
  if (!asked)
    return (
      <>
        <Act label={`Redrive ${what}`} run={count("redrive")} />
        <Act label={`Discard ${what}`} run={count("discard")} />
      </>
    );
  return (
    <span class="confirm" role="group" aria-label="Confirm">
      <span role="status">{asked.count} {asked.count === 1 ? "job" : "jobs"}.</span>
      <Act label={`${asked.verb === "redrive" ? "Redrive" : "Discard"} ${Math.min(asked.count, 1000)}`} tone={asked.verb === "redrive" ? "primary" : "danger"} run={async () => {
        await call("POST", `/dead-letters/${asked.verb}`, which);
        ask(null);
        await after();
      }} />
      <button type="button" class="button plain" onClick={() => ask(null)}>Keep</button>
    </span>
  );
}
