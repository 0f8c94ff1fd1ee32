/** Dead letters, those that failed alike together, as the service groups them; one, a group, or all that match are redriven or let go, with the count first. */
import { useEffect, useState } from "preact/hooks";
import { failureCodes } from "../../job.js";
import type { Job } from "../../job.js";
import type { DeadLetterGroup } from "../../store/store.js";
import { ApiError, call, read } from "./api.js";
import { Bulk } from "./bulk.js";
import { Act, Badge, Empty, failureWord, Icon, isQuietEnd, When } from "./parts.js";
import { adjust, link, onEvent, place, readStats } from "./state.js";

/** As many as one answer has. */
const groupsMax = 200;
/** Groups that are open unless the address says which. */
const openFirst = 3;
const rowsFirst = 6;
const rowsMore = 50;
/** News comes in bursts; the groups are counted anew at most this often, milliseconds. */
const lookGapMs = 500;

export interface Filter {
  chatId?: string;
  failureCode?: string;
  fingerprint?: string;
}

export function Failures() {
  const [groups, set] = useState<DeadLetterGroup[] | null>(null);
  const [error, setError] = useState<string | null>(null);
  /** Grows with every look, for the groups' own lists. */
  const [looked, count] = useState(0);
  const { query } = place.value;
  const chatId = query.get("chat") ?? "";
  const failureCode = query.get("code") ?? "";
  const filter: Filter = { ...(chatId ? { chatId } : {}), ...(failureCode ? { failureCode } : {}) };

  const look = async (signal?: AbortSignal) => {
    try {
      const found = await read<DeadLetterGroup[]>(`/dead-letters/groups?${new URLSearchParams({ limit: String(groupsMax), ...filter })}`, signal);
      set(found);
      count((was) => was + 1);
      setError(null);
    } catch (reason) {
      if (!signal?.aborted && reason instanceof ApiError) setError(reason.message);
    }
  };
  useEffect(() => {
    const controller = new AbortController();
    let timer = 0;
    set(null);
    void look(controller.signal);
    const stop = onEvent((told) => {
      if (["job.failed", "job.redriven", "chat.erased", "reset"].includes(told.event)) timer ||= window.setTimeout(() => ((timer = 0), void look(controller.signal)), lookGapMs);
    });
    return () => {
      stop();
      controller.abort();
      clearTimeout(timer);
    };
  }, [chatId, failureCode]);

  const after = async () => {
    await look();
    await readStats();
  };
  const opened = query.get("open")?.split(",") ?? (groups ?? []).slice(0, openFirst).map(({ fingerprint }) => fingerprint);
  const total = (groups ?? []).reduce((sum, group) => sum + group.count, 0);
  const toggle = (fingerprint: string) => adjust({ open: (opened.includes(fingerprint) ? opened.filter((one) => one !== fingerprint) : [...opened, fingerprint]).join(",") || "none" });
  return (
    <>
      <div class="tools">
        <h1>Failures</h1>
        <label class="search"><span class="hidden">Only chat</span><input type="search" placeholder="Only this chat" value={chatId} onChange={(event) => adjust({ chat: event.currentTarget.value, open: "" })} /></label>
        <label class="pick"><span class="hidden">Only failure code</span>
          <select value={failureCode} onChange={(event) => adjust({ code: event.currentTarget.value, open: "" })}>
            <option value="">Every failure</option>
            {failureCodes.filter((code) => !isQuietEnd(code)).map((code) => <option key={code} value={code}>{failureWord(code)}</option>)}
          </select>
        </label>
        {total > 0 ? <div class="actions"><Bulk what={chatId || failureCode ? "all that match" : "all"} filter={filter} after={after} /></div> : null}
      </div>
      {error ? <p class="notice bad" role="alert"><Icon of="bad" /> {error}</p> : null}
      {groups === null && !error ? <p class="loading" role="status">Reading the dead letters…</p> : null}
      {groups?.length === 0 ? (
        chatId || failureCode ? <Empty title="No failure matches">Change the filter, or <a href="#/failures">see every failure</a>.</Empty>
          : <Empty title="Nothing failed for good">Jobs that cannot be healed by another attempt wait here for you to redrive or discard them.</Empty>
      ) : null}
      {groups?.map((group) => (
        <Group key={group.fingerprint} group={group} filter={filter} open={opened.includes(group.fingerprint)} toggle={() => toggle(group.fingerprint)} looked={looked} after={after} />
      ))}
      {groups?.length === groupsMax ? <p class="quiet-text">The {groupsMax} largest groups are shown. What is done to all is done to the others, too.</p> : null}
    </>
  );
}

function Group({ group, filter, open, toggle, looked, after }: { group: DeadLetterGroup; filter: Filter; open: boolean; toggle: () => void; looked: number; after: () => Promise<void> }) {
  const { fingerprint, failureCode, message, count, chats, firstAt, latestAt } = group;
  const [text = ""] = message.split("\n");
  return (
    <section class="panel group" data-fingerprint={fingerprint} aria-label={`${failureWord(failureCode)}: ${text}`}>
      <div class="panel-head">
        <h2><Badge tone="bad">{failureWord(failureCode)}</Badge> <span class="group-text">{text}</span></h2>
        <div class="actions"><Bulk what={count === 1 ? "this one" : `these ${count}`} filter={{ ...filter, fingerprint }} after={after} /></div>
      </div>
      <p class="group-facts">
        <span><strong>{count}</strong> {count === 1 ? "job" : "jobs"} of {chats} {chats === 1 ? "chat" : "chats"}</span>
        <span>{count === 1 ? <>at <When at={latestAt} /></> : <><When at={firstAt} /> to <When at={latestAt} /></>}</span>
        <button type="button" class="button plain" aria-expanded={open} onClick={toggle}>{open ? "Hide" : "Show"} {count === 1 ? "it" : "them"}</button>
      </p>
      {open ? <Letters filter={{ ...filter, fingerprint }} looked={looked} count={count} after={after} /> : null}
    </section>
  );
}

function Letters({ filter, looked, count, after }: { filter: Filter; looked: number; count: number; after: () => Promise<void> }) {
  const [letters, set] = useState<Job[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  const page = async (limit: number, from: string | null, signal?: AbortSignal) => call<Job[]>("GET", `/dead-letters?${new URLSearchParams({ ...filter, limit: String(limit), ...(from === null ? {} : { cursor: from }) })}`, undefined, signal);
  useEffect(() => {
    const controller = new AbortController();
    // As many as were shown, so that a look does not fold the list.
    page(Math.min(200, Math.max(rowsFirst, letters.length)), null, controller.signal).then(
      ({ data, meta }) => {
        set(data);
        setCursor(meta?.nextCursor ?? null);
      },
      () => undefined,
    );
    return () => controller.abort();
  }, [looked, filter.fingerprint]);
  const more = async () => {
    const { data, meta } = await page(rowsMore, cursor);
    set((was) => [...was, ...data]);
    setCursor(meta?.nextCursor ?? null);
  };
  return (
    <>
      <ul class="rows">
        {letters.map((job) => {
          const [first] = job.failure?.diagnostics ?? [];
          return (
            <li key={job.id} class="row">
              <a class="row-main" href={link(["job", job.id])}><bdi>{job.chatId}</bdi> <span class="quiet-text">#{job.chatSeq}{job.tenant ? ` of ${job.tenant}` : ""}</span></a>
              <span class="quiet-text grow">{first?.text ?? job.failure?.message}{first?.line ? ` (${first.file ? `${first.file} ` : ""}line ${first.line})` : ""}</span>
              <span class="quiet-text"><When at={job.completedAt ?? job.createdAt} /></span>
              <span class="actions">
                <Act label="Redrive" title={`Redrive job ${job.chatSeq} of ${job.chatId}`} run={async () => (await call("POST", `/${encodeURIComponent(job.id)}/retry`), after())} />
                <Act label="Discard" title={`Discard job ${job.chatSeq} of ${job.chatId}`} run={async () => (await call("POST", "/dead-letters/discard", { ids: [job.id] }), after())} />
              </span>
            </li>
          );
        })}
      </ul>
      {cursor === null ? null : <More left={count - letters.length} run={more} />}
    </>
  );
}

/** Not an action on the queue, so it is there in read-only mode, too. */
function More({ left, run }: { left: number; run: () => Promise<void> }) {
  const [error, say] = useState("");
  return (
    <p class="more-rows">
      <button type="button" class="button plain" onClick={() => run().then(() => say(""), (reason: unknown) => say(reason instanceof ApiError ? reason.message : String(reason)))}>Show {left > 0 ? Math.min(rowsMore, left) : ""} more</button>
      {error ? <span role="alert" class="act-error">{error}</span> : null}
    </p>
  );
}
