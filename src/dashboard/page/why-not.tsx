/** Why a job is not running, and what ends that. */
import type { Job, PendingJob } from "../../job.js";
import type { Why } from "../../why.js";
import { laneKey, laneOf, version } from "./lanes-state.js";
import { clockTime, duration, Icon } from "./parts.js";
import { link, now, stats } from "./state.js";

export function WhyNot({ why, job }: { why: Why; job: Job }) {
  const isHeld = /_(paused|held)$/.test(why.reason);
  version.value;
  const heldBy = why.reasons.includes("chat_held") ? laneOf(laneKey(job))?.heldBy : null;
  const tone = isHeld ? "held" : why.reason === "backing_off" || why.reason === "delayed" ? "warn" : "waiting";
  return (
    <p class={`notice ${tone}`} data-why={why.reason}>
      <Icon of={why.reason === "delayed" ? "waiting" : tone} />
      <span>
        <strong>{inLocalTime(why.message)}</strong> {why.unblocks}{why.behind ? <> <a href={link(["job", why.behind.id])}>See job {why.behind.chatSeq}.</a></> : null}{heldBy ? <> <a href={link(["job", heldBy])}>See the job that failed.</a></> : null} {job.status === "pending" ? `Position ${job.queuePosition} in its chat${isOverdue(job) ? "" : starts(job)}.` : ""}
      </span>
    </p>
  );
}

/** Whether what runs in front has taken longer than nine of ten do: how long it still will is not known. */
function isOverdue(job: Job): boolean {
  version.value;
  const front = laneOf(laneKey(job))?.jobs.find(({ status }) => status === "running");
  const late = stats.value?.processing.p90 ?? null;
  return late !== null && front !== undefined && front.startedAt !== null && now.value - Date.parse(front.startedAt) > late;
}

/** While something is paused, nobody can say when. */
const starts = ({ estimatedWaitTime: median, estimatedWaitTimeP90: late }: PendingJob): string =>
  median === null || late === null ? "" : duration(median) === duration(late) ? `; starts in about ${duration(median)}` : `; starts in about ${duration(median)}, nine times of ten within ${duration(late)}`;

/** The service speaks in UTC; a person reads their own clock. */
const inLocalTime = (text: string): string => text.replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (iso) => clockTime(iso));
