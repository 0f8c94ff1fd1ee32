/** One job: its machine with what happened lit up, its attempts in time, its code, what it complains about, and what it built. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Diagnostic, Job, PendingJob } from "../../job.js";
import type { Why } from "../../why.js";
import jobChart from "../charts/job.json";
import { ApiError, call, config, follow, read } from "./api.js";
import type { Told } from "./api.js";
import { StateChart } from "./chart.js";
import type { Chart } from "./chart.js";
import { Code, languageOf } from "./code.js";
import { Act, Badge, bytes, Copy, duration, Elapsed, Empty, failureWord, Icon, When } from "./parts.js";
import { toneOf } from "./lanes.js";
import { laneKey, laneOf } from "./lanes-state.js";
import { adjust, isAwake, link, onEvent, place } from "./state.js";
import { Waterfall } from "./waterfall.js";
import { WhyNot } from "./why-not.js";

/** Which states an event of the history leads to, and by which steps. */
const shows: Record<string, { active: string[]; moved: [string, string][] }> = {
  "job.accepted": { active: ["pending"], moved: [["job:start", "pending"]] },
  "job.started": { active: ["running", "running.building"], moved: [["pending", "running"]] },
  "job.cancelRequested": { active: ["running", "running.stopping"], moved: [["running.building", "running.stopping"]] },
  "job.completed": { active: ["completed"], moved: [["running", "judging"], ["judging", "recording"], ["recording", "completed"]] },
  "job.failed": { active: ["failed"], moved: [["running", "judging"], ["judging", "recording"], ["recording", "failed"]] },
  "job.retrying": { active: ["backingOff"], moved: [["running", "judging"], ["judging", "recording"], ["recording", "backingOff"]] },
  "job.released": { active: ["released"], moved: [["running", "judging"], ["judging", "recording"], ["recording", "released"]] },
  "job.rescued": { active: ["pending"], moved: [] },
  "job.redriven": { active: ["pending"], moved: [] },
};
const words: Record<string, string> = {
  "job.accepted": "accepted", "job.started": "started", "job.cancelRequested": "cancel requested", "job.completed": "completed", "job.failed": "failed",
  "job.retrying": "backs off", "job.released": "given back", "job.rescued": "rescued", "job.redriven": "redriven",
};

export function JobPage({ id }: { id: string }) {
  const [job, set] = useState<Job | null>(null);
  const [why, setWhy] = useState<Why | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [events, setEvents] = useState<Told[]>([]);
  const [around, setAround] = useState<{ before: string | null; after: string | null }>({ before: null, after: null });

  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    const path = `/${encodeURIComponent(id)}`;
    let timer = 0;
    let isPending = false;
    const ask = async () => setWhy(isPending ? await read<Why>(`${path}/why`, signal) : null);
    const look = async () => {
      timer = 0;
      try {
        const found = await read<Job>(path, signal);
        isPending = found.status === "pending";
        document.title = `Job ${found.chatSeq} · ${found.chatId} · Buildlane`;
        set(found);
        setError(null);
        await ask();
        // The list by chat is of one's own chats; of another tenant's, what its lane shows.
        const near: { id: string; chatSeq: number }[] = found.tenant ? (laneOf(laneKey(found))?.jobs ?? []) : await read<Job[]>(`/?chatId=${encodeURIComponent(found.chatId)}&limit=200`, signal);
        const at = (seq: number) => near.find((one) => one.chatSeq === seq)?.id ?? null;
        setAround({ before: at(found.chatSeq - 1), after: at(found.chatSeq + 1) });
      } catch (reason) {
        if (signal.aborted || !(reason instanceof ApiError)) return;
        if (reason.status === 404) set(null);
        setError(reason);
      }
    };
    set(null);
    setEvents([]);
    void look();
    const later = () => void (timer ||= window.setTimeout(look, 50));
    let last = 0;
    const hear = async (): Promise<void> => {
      // The job's own stream: its whole history first, then what comes; over when the job is final, or the page hidden.
      const hidden = new AbortController();
      const stopWhenHidden = isAwake.subscribe((awake) => awake || hidden.abort());
      await follow(`${path}/events?after=${last}`, AbortSignal.any([signal, hidden.signal]), (told) => {
        if (told.event === "job.moved") {
          set((was) => (was?.status === "pending" ? { ...was, ...places(told) } : was));
          void ask().catch(() => undefined);
        }
        if (told.id === null || told.id <= last) return;
        last = told.id;
        setEvents((was) => [...was, told]);
      }, () => {}).catch(() => undefined);
      stopWhenHidden();
    };
    let hearing = hear();
    const stop = onEvent((told) => {
      // A pause answers why it waits.
      if (/\.(paused|resumed)$/.test(told.event)) later();
      if (told.data.jobId === id || told.event === "reset" || told.event === "chat.erased") {
        later();
        hearing = hearing.then(() => (signal.aborted ? undefined : hear()));
      }
    });
    // The answer grows old by itself; the job, which may be large, changes with its events alone.
    const whyTimer = setInterval(() => isPending && isAwake.value && void ask().catch(() => undefined), 5000);
    return () => {
      stop();
      controller.abort();
      clearTimeout(timer);
      clearInterval(whyTimer);
    };
  }, [id]);

  if (error && !job) return <Empty title={error.status === 404 ? "No such job" : "The job cannot be read"}>{error.message} <a href="#/lanes">Back to the lanes.</a></Empty>;
  if (!job) return <p class="loading" role="status">Reading the job…</p>;
  const failureCode = job.failure?.code ?? null;
  const raw = place.value.query.get("raw") === "1";
  const step = Math.min(events.length - 1, Number(place.value.query.get("step") ?? events.length - 1));
  return (
    <article class="job">
      <div class="tools">
        <div>
          <p class="crumbs"><a href="#/lanes">Lanes</a> <Icon of="arrow" /> <a href={link(["chat", job.chatId], job.tenant ? { tenant: job.tenant } : {})}><bdi>{job.chatId}</bdi></a></p>
          <h1>Job {job.chatSeq} <Badge tone={toneOf({ ...job, failureCode })}>{job.status === "failed" ? failureWord(failureCode) : job.status}</Badge></h1>
        </div>
        <div class="actions">
          {around.before ? <a class="button plain" href={link(["job", around.before])} rel="prev">Previous</a> : null}
          {around.after ? <a class="button plain" href={link(["job", around.after])} rel="next">Next</a> : null}
          <Copy label="Copy as curl" text={() => curlOf(job)} />
          <button type="button" class="button plain" aria-pressed={raw} onClick={() => adjust({ raw: raw ? "" : "1" })}>Raw JSON</button>
          {job.status === "failed" ? <Act label="Retry" tone="primary" run={() => call("POST", `/${job.id}/retry`)} done={() => "It waits again."} /> : null}
          {job.status === "pending" || job.status === "running" ? <Act label="Cancel" tone="danger" run={() => call("POST", `/${job.id}/cancel`)} done={() => "Cancel was asked for."} /> : null}
        </div>
      </div>
      {why ? <WhyNot why={why} job={job} /> : null}
      <dl class="facts">
        <Fact name="Id">{job.id}</Fact>
        <Fact name="Message"><bdi>{job.messageId}</bdi></Fact>
        <Fact name="Accepted"><When at={job.createdAt} /></Fact>
        <Fact name="Attempt">{job.attempt} of {job.maxAttempts}</Fact>
        <Fact name={job.status === "running" ? "Running for" : "Took"}>{job.status === "running" ? <Elapsed since={job.startedAt} /> : job.startedAt && job.completedAt ? duration(Date.parse(job.completedAt) - Date.parse(job.startedAt)) : "–"}</Fact>
        {job.priority === 0 ? null : <Fact name="Priority">{job.priority}</Fact>}
        {job.supersededBy ? <Fact name="Superseded by"><a href={link(["job", job.supersededBy])}>{job.supersededBy}</a></Fact> : null}
        {job.externals.length > 0 ? <Fact name="Externals">{job.externals.join(", ")}</Fact> : null}
      </dl>
      {raw ? <Raw job={job} /> : null}
      {job.error ? <Panel title="Error"><pre class="error" tabIndex={0} role="region" aria-label="Error">{job.error}</pre></Panel> : null}
      <Panel title="How it went">
        <Machine events={events} step={step} />
        <Waterfall job={job} />
      </Panel>
      <Source job={job} />
      {job.status === "completed" ? <Output result={job.result} /> : null}
    </article>
  );
}

/** What a job that moved tells of its place. */
const places = ({ data }: Told) => {
  const { queuePosition, estimatedWaitTime, estimatedWaitTimeP90 } = data as unknown as PendingJob;
  return { queuePosition, estimatedWaitTime, estimatedWaitTimeP90 };
};

const Fact = ({ name, children }: { name: string; children: preact.ComponentChildren }) => <div><dt>{name}</dt><dd>{children}</dd></div>;
export const Panel = ({ title, children, end }: { title: string; children: preact.ComponentChildren; end?: preact.ComponentChildren }) => (
  <section class="panel">
    <div class="panel-head"><h2>{title}</h2>{end}</div>
    {children}
  </section>
);

/** Cancelled or refused before it ran: no attempt was judged. */
const failedWaiting = (told: Told, before: Told | undefined): boolean => told.event === "job.failed" && before?.data.status === "pending";

function Machine({ events, step }: { events: Told[]; step: number }) {
  const current = events[step];
  const shown = current ? (failedWaiting(current, events[step - 1]) ? { active: ["failed"], moved: [] } : shows[current.event]) : undefined;
  const seen = [...new Set(events.slice(0, step + 1).flatMap((one, index) => [...(shows[one.event]?.active ?? []), ...(failedWaiting(one, events[index - 1]) ? [] : (shows[one.event]?.moved ?? []).flat())]))];
  return (
    <>
      <StateChart chart={jobChart as Chart} label="The job's statechart" active={shown?.active ?? []} seen={seen} moved={(shown?.moved ?? []) as [string, string][]} />
      {events.length > 0 ? (
        <div class="scrubber">
          <label>
            <span>Step {step + 1} of {events.length}</span>
            <input type="range" min="0" max={events.length - 1} value={step} onInput={(event) => adjust({ step: event.currentTarget.value })} aria-valuetext={current ? `${words[current.event]} at ${current.data.at}` : ""} />
          </label>
          <ol>
            {events.map((one, index) => (
              <li key={one.id}>
                <button type="button" aria-current={index === step ? "step" : undefined} onClick={() => adjust({ step: String(index) })}>
                  {words[one.event] ?? one.event} <small><When at={one.data.at} /></small>
                </button>
              </li>
            ))}
          </ol>
        </div>
      ) : null}
    </>
  );
}

function Source({ job }: { job: Job }) {
  const names: (string | null)[] = job.files ? Object.keys(job.files) : [null];
  const failing = job.failure?.diagnostics ?? [];
  const marks: Diagnostic[] = failing.length > 0 ? failing : job.warnings;
  const wanted = place.value.query.get("file");
  const first = marks.find((mark) => mark.file !== null && names.includes(mark.file))?.file ?? job.entry;
  const name = names.includes(wanted) ? wanted : (names.includes(first ?? null) ? (first ?? null) : (names[0] ?? null));
  const text = name === null ? (job.code ?? "") : (job.files?.[name] ?? "");
  return (
    <Panel title="Code" end={<span class="quiet-text">{bytes(new Blob([text]).size)}{job.warnings.length > 0 ? ` · ${job.warnings.length} warning${job.warnings.length === 1 ? "" : "s"}` : ""}</span>}>
      {names.length > 1 ? (
        <div class="tabs" role="group" aria-label="Files">
          {names.map((one) => <button key={one} type="button" aria-pressed={one === name} onClick={() => adjust({ file: one ?? "" })}>{one}</button>)}
        </div>
      ) : null}
      <Code text={text} language={languageOf(name, job.options.loader)} marks={marks.filter((mark) => name === null || mark.file === name)} tone={failing.length > 0 ? "bad" : "warn"} label="Submitted code" />
      {failing.length === 0 && job.warnings.length > 0 ? <ul class="warnings">{job.warnings.map((one, index) => <li key={index}><Icon of="note" /> {one.line ? `Line ${one.line}: ` : ""}{one.text}</li>)}</ul> : null}
    </Panel>
  );
}

function Output({ result }: { result: string }) {
  const shown = place.value.query.get("output") ?? "code";
  return (
    <Panel title="Output" end={
      <div class="tabs" role="group" aria-label="Output as">
        <button type="button" aria-pressed={shown === "code"} onClick={() => adjust({ output: "code" })}>Code</button>
        <button type="button" aria-pressed={shown === "preview"} onClick={() => adjust({ output: "preview" })}>Preview</button>
        <span class="quiet-text">{bytes(new Blob([result]).size)}</span>
      </div>
    }>
      {shown === "preview" ? <Preview code={result} /> : <Code text={result} language="typescript" label="Built output" />}
    </Panel>
  );
}

/** What the service answers about the job. It is shown here, for a link to it could not carry a key. */
function Raw({ job }: { job: Job }) {
  const text = useMemo(() => JSON.stringify(job, null, 2), [job]);
  return (
    <Panel title="Raw JSON" end={<Copy label="Copy" text={() => text} />}>
      <Code text={text} language="json" label="The job as JSON" />
    </Panel>
  );
}

/** Runs the output where it can reach nothing: a frame without an origin, a network, or this page. */
function Preview({ code }: { code: string }) {
  const frame = useRef<HTMLIFrameElement>(null);
  const [lines, say] = useState<string[]>([]);
  useEffect(() => {
    say([]);
    const hear = (event: MessageEvent) => {
      if (event.source !== frame.current?.contentWindow) return;
      if (event.data?.type === "ready") frame.current?.contentWindow?.postMessage({ code }, "*");
      else if (typeof event.data?.line === "string") say((was) => [...was, String(event.data.line).slice(0, 2000)].slice(-200));
    };
    addEventListener("message", hear);
    return () => removeEventListener("message", hear);
  }, [code]);
  return (
    <div class="preview">
      <iframe ref={frame} key={code} sandbox="allow-scripts" src={`${config.base}preview`} title="Live preview of the output" />
      <pre class="console" role="log" aria-label="Console of the preview" tabIndex={0}>{lines.length > 0 ? lines.join("\n") : "What the code prints is shown here."}</pre>
    </div>
  );
}

function curlOf(job: Job): string {
  const body = { chatId: job.chatId, messageId: job.messageId, ...(job.files ? { files: job.files, entry: job.entry } : { code: job.code }), ...(Object.keys(job.options).length > 0 ? { options: job.options } : {}) };
  return `curl -X POST ${new URL(config.api, location.href).href} -H 'content-type: application/json' -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`;
}
