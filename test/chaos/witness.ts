/**
 * What the runs themselves saw, apart from all that is recorded: each appended a line when it began and when it ended, and
 * so did whoever learnt that a job's end is on record, or that a node's process is gone. Judged by the lines' order alone.
 */

/** A job's row at the end. `result` is what the recorded run gave, or the message it failed with. */
export interface WitnessedJob {
  id: string;
  chatId: string;
  status: string;
  failureCode: string | null;
  result: string | null;
}

export interface Testimony {
  runs: number;
  /** Runs beyond a job's first: tried again, cut off, given back, refused. */
  again: number;
  /** How often each was reported by the nodes. */
  reports: Record<string, number>;
  /** Sentences; empty when the runs saw every promise kept. */
  broken: string[];
}

interface Run {
  name: string;
  node: string;
  chatId: string;
  chatSeq: number;
  jobId: string;
  end: "built" | "failed" | "stopped" | "cut off" | null;
  /** Its process was frozen meanwhile for longer than its lease: another may run beside it until it knows, and its end may be refused. */
  wasFrozen: boolean;
}

/** Ends that a person or a newer job decided: a node that had the job in hand may hear of it after its run has begun. */
const byOthers: (string | null)[] = ["cancelled", "superseded"];

/** `cap`: of runs over all nodes. `isOrdered`: the chat's jobs have no priorities, so they run in the order of their numbers. */
export function judgeWitness(lines: Iterable<string>, jobs: readonly WitnessedJob[], { slots, cap, isOrdered }: { slots: number; cap: number; isOrdered(chatId: string): boolean }): Testimony {
  const runs = new Map<string, Run>();
  const lastOf = new Map<string, Run>();
  /** What runs now, by chat and by node. */
  const inChat = new Map<string, Run>();
  const onNode = new Map<string, Set<Run>>();
  const latestSeq = new Map<string, number>();
  const recorded = new Set<string>();
  const stands = new Set<string>();
  const told: Testimony = { runs: 0, again: 0, reports: {}, broken: [] };
  const complain = (sentence: string): void => void told.broken.push(sentence);

  function begin(run: Run): void {
    const { name, node, chatId, chatSeq, jobId } = run;
    told.runs++;
    if (lastOf.has(jobId)) told.again++;
    lastOf.set(jobId, run);
    runs.set(name, run);
    // What it begins first when it goes on may have looked at its clock before.
    run.wasFrozen = stands.delete(node);
    if (run.wasFrozen) return;
    const other = inChat.get(chatId);
    if (other) complain(`overlap: run ${name} of job ${jobId} began while ${other.name} of job ${other.jobId} ran in chat ${chatId}`);
    if (isOrdered(chatId) && chatSeq < (latestSeq.get(chatId) ?? 0)) complain(`order: run ${name} of job ${jobId}, number ${chatSeq} of chat ${chatId}, began after one of number ${latestSeq.get(chatId)}`);
    if (recorded.has(jobId)) complain(`again: run ${name} of job ${jobId} began although the job's end was on record`);
    const beside = onNode.get(node) ?? new Set();
    if (beside.size >= slots) complain(`budget: run ${name} began on node ${node} while ${beside.size} others ran there`);
    onNode.set(node, beside.add(run));
    const inAll = [...onNode.values()].reduce((sum, { size }) => sum + size, 0);
    if (inAll > cap) complain(`cap: run ${name} began on node ${node} as one of ${inAll}`);
    inChat.set(chatId, run);
    latestSeq.set(chatId, Math.max(chatSeq, latestSeq.get(chatId) ?? 0));
  }
  /** It runs no more, or nobody waits for its end. */
  function forget(run: Run): void {
    onNode.get(run.node)?.delete(run);
    if (inChat.get(run.chatId) === run) inChat.delete(run.chatId);
  }
  function end(run: Run, how: Run["end"]): void {
    run.end ??= how;
    forget(run);
  }

  for (const line of lines) {
    const [what, name = "", ...rest] = line.split(" ");
    switch (what) {
      case "began": {
        const [chatId = "", chatSeq, jobId = ""] = rest;
        begin({ name, node: name.split(".")[0] ?? "", chatId, chatSeq: Number(chatSeq), jobId, end: null, wasFrozen: false });
        break;
      }
      case "built":
      case "failed":
      case "stopped": {
        const run = runs.get(name);
        if (run) end(run, what);
        break;
      }
      case "recorded":
        recorded.add(name);
        break;
      case "report":
        told.reports[name] = (told.reports[name] ?? 0) + 1;
        break;
      // Its process stands still.
      case "frozen":
        stands.add(name);
        for (const run of onNode.get(name) ?? []) {
          run.wasFrozen = true;
          forget(run);
        }
        break;
      // Its process is gone: `left` by itself, or `killed`.
      case "left":
      case "killed":
        for (const run of onNode.get(name) ?? []) {
          if (what === "left") complain(`left behind: run ${run.name} of job ${run.jobId} had not ended when its node had stopped cleanly`);
          end(run, "cut off");
        }
        break;
    }
  }
  for (const { id, status, failureCode, result } of jobs) {
    if (status !== "completed" && (status !== "failed" || byOthers.includes(failureCode))) continue;
    const last = lastOf.get(id);
    const wanted = status === "completed" ? "built" : "failed";
    if (!last) complain(`never ran: job ${id} is ${status}, and no run of it was seen`);
    else if ((last.name !== result || last.end !== wanted) && !last.wasFrozen && !runs.get(result ?? "")?.wasFrozen) complain(`outcome: job ${id} is ${status} by run ${result}, and its last run ${last.name} ${last.end ?? "never ended"}`);
  }
  return told;
}
