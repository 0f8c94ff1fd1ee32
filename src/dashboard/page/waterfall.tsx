/** Attempts in time: what each waited for, how long its run took, and how long its end took to be recorded. */
import type { Attempt, Job } from "../../job.js";
import { duration, failureWord } from "./parts.js";
import { now } from "./state.js";

interface Span {
  attempt: Attempt;
  /** Milliseconds since 1970. */
  waitFrom: number;
  from: number;
  /** The run is over, and its end is being recorded. */
  settleFrom: number;
  to: number;
}

/** What is narrower than this part of the whole, in percent, is drawn so wide. */
const partMin = 0.6;

function spansOf(job: Job, at: number): Span[] {
  let waitFrom = Date.parse(job.createdAt);
  return job.attempts.map((attempt) => {
    const from = Date.parse(attempt.startedAt);
    const to = Math.max(from, attempt.endedAt === null ? at : Date.parse(attempt.endedAt));
    const span = { attempt, waitFrom, from, settleFrom: attempt.runMs === null ? to : Math.min(to, from + attempt.runMs), to };
    waitFrom = to;
    return span;
  });
}

export function Waterfall({ job }: { job: Job }) {
  const from = Date.parse(job.createdAt);
  const ended = job.attempts.at(-1)?.endedAt;
  // One that waits again grows at its right end, like one that runs.
  const until = job.completedAt ? Date.parse(job.completedAt) : Math.max(now.value, from + 1);
  const spans = spansOf(job, until);
  if (spans.length === 0) return <p class="quiet-text">{job.status === "pending" ? "It has not started yet." : "It never started."}</p>;
  const whole = Math.max(1, until - from);
  const at = (ms: number): number => Math.min(100, Math.max(0, ((ms - from) / whole) * 100));
  const waitsSince = job.status === "pending" && ended ? Date.parse(ended) : null;
  return (
    <>
      <ul class="legend" aria-hidden="true"><li class="wait">Waiting</li><li class="work">Building</li><li class="settle">Settling</li></ul>
      <table class="waterfall">
        <caption class="hidden">Attempts in time</caption>
        <thead class="hidden"><tr><th scope="col">Attempt</th><th scope="col">In time</th><th scope="col">How long</th></tr></thead>
        <tbody>
          {spans.map((span, index) => <Row key={span.attempt.attempt} span={span} at={at} again={index > 0} />)}
          {waitsSince === null ? null : (
            <tr>
              <th scope="row">Attempt {job.attempt + 1} <small>{job.attempts.at(-1)?.outcome === "retrying" ? "backs off" : "waits"}</small></th>
              <td class="bars"><Bars><rect class="wait" x={at(waitsSince)} width={100 - at(waitsSince)} y="3" height="4" /></Bars></td>
              <td class="times">{duration(until - waitsSince)} waiting</td>
            </tr>
          )}
        </tbody>
      </table>
    </>
  );
}

const Bars = ({ children }: { children: preact.ComponentChildren }) => <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{children}</svg>;

function Row({ span: { attempt, waitFrom, from, settleFrom, to }, at, again }: { span: Span; at(ms: number): number; again: boolean }) {
  const { outcome } = attempt;
  const runs = attempt.endedAt === null;
  const settles = attempt.runMs !== null;
  // Never out of the picture on the right, however narrow it is.
  const settleAt = settles ? Math.min(at(settleFrom), 100 - partMin) : at(to);
  const workAt = Math.min(at(from), settleAt - partMin);
  return (
    <tr data-attempt={attempt.attempt}>
      <th scope="row">Attempt {attempt.attempt} <small>{outcome === "failed" || outcome === "retrying" ? failureWord(attempt.failureCode) : outcome}</small></th>
      <td class="bars">
        <Bars>
          <rect class="wait" x={at(waitFrom)} width={Math.max(0, workAt - at(waitFrom))} y="3" height="4" />
          <rect class={`work ${outcome}`} x={workAt} width={Math.max(partMin, settleAt - workAt)} y="1" height="8" />
          {settles ? <rect class={`settle ${outcome}`} x={settleAt} width={Math.max(partMin, at(to) - settleAt)} y="1" height="8" /> : null}
        </Bars>
      </td>
      <td class="times">
        {duration(from - waitFrom)} waiting{again ? " again" : ""} · {duration(settleFrom - from)} building{runs ? " so far" : ""}{settles ? ` · ${duration(to - settleFrom)} settling` : ""}
      </td>
    </tr>
  );
}
