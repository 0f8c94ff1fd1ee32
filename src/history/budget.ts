/**
 * Counts what runs, by node and over all (P6). Only attempts that surely ran to their recorded end count. What was rescued
 * or given back may have ended long before the record says so (a dead node runs nothing), and so may what was recorded long
 * after its start: when a node loses its lease its slots are free, and the outcomes of builds that had ended already are
 * offered later.
 */
import { timeOf } from "./check.js";
import type { CheckedEvent, Violation } from "./check.js";

/** More sure attempts at once than allowed, unless one of them turns out to have ended early. */
interface Suspicion {
  nodeId: string;
  max: number;
  at: string;
  open: Set<string>;
  sure: number;
  first: { chatId: string; jobId: string; number: number };
}

const everyNode = "";

export function createBudget(sureMsMax = Number.POSITIVE_INFINITY, found: (violation: Violation) => void, ran: (running: number) => void) {
  const open = new Map<string, { nodeId: string; chatId: string; number: number; at: string; atMs: number }>();
  const perNode = new Map<string, { max: number | undefined; jobs: Set<string> }>();
  let suspicions: Suspicion[] = [];
  /** Nodes with a start in this moment. */
  const grown = new Set<string>();

  function suspect(nodeId: string, max: number, jobs: Iterable<string>): void {
    const members = new Set(jobs);
    const [first] = [...members].slice(-1) as [string];
    const event = open.get(first) as { chatId: string; number: number; at: string };
    suspicions.push({ nodeId, max, at: event.at, open: members, sure: 0, first: { chatId: event.chatId, jobId: first, number: event.number } });
  }

  return {
    start(event: CheckedEvent, nodeId: string, max: number | undefined): void {
      const { jobId, chatId, number, at } = event;
      open.set(jobId ?? "", { nodeId, chatId, number, at, atMs: timeOf(event) });
      const node = perNode.get(nodeId) ?? { max, jobs: new Set<string>() };
      perNode.set(nodeId, node);
      node.max = max ?? node.max;
      node.jobs.add(jobId ?? "");
      grown.add(nodeId);
    },
    end(event: CheckedEvent, how: "sure" | "unsure"): void {
      const id = event.jobId ?? "";
      const attempt = open.get(id);
      if (!attempt) return;
      open.delete(id);
      const node = perNode.get(attempt.nodeId);
      node?.jobs.delete(id);
      if (node?.jobs.size === 0) perNode.delete(attempt.nodeId);
      suspicions = suspicions.filter((one) => {
        if (!one.open.delete(id)) return true;
        if (how === "sure" && timeOf(event) - attempt.atMs <= sureMsMax) one.sure++;
        if (one.sure > one.max) {
          const whose = one.nodeId === everyNode ? "all nodes together" : `node ${one.nodeId}`;
          found({ kind: "overBudget", chatId: one.first.chatId, jobId: one.first.jobId, events: [one.first.number], message: `At ${one.at} more than ${one.max} attempts ran on ${whose}: job ${one.first.jobId} was one too many.` });
          return false;
        }
        return one.open.size + one.sure > one.max;
      });
    },
    /** When a moment is over: what started and ended within it never ran beside one another for sure. */
    check(slots: ReadonlyMap<string, number> | undefined, clusterMax: number | undefined): void {
      for (const nodeId of grown) {
        const node = perNode.get(nodeId);
        const max = node?.max ?? slots?.get(nodeId);
        if (node && max !== undefined && node.jobs.size > max) suspect(nodeId, max, node.jobs);
      }
      if (grown.size > 0) {
        ran(open.size);
        if (clusterMax !== undefined && open.size > clusterMax) suspect(everyNode, clusterMax, open.keys());
      }
      grown.clear();
    },
  };
}
