/**
 * The builds of a simulated node, and a watch on what really runs: never two of one chat on nodes that are awake, never
 * more than a node's slots, nor over all nodes more than the cluster's cap. What a job's builds do is said by its code, so that a replay does the same.
 */
import type { Failure, Outcome, RunnableJob, Runner } from "../../src/job.js";
import type { SimulatedProcess } from "./process.js";

/** One attempt: how long it takes, how it ends, and how long it goes on after it was told to stop. */
export interface AttemptPlan {
  ms: number;
  end: "built" | "build_failed" | "run_failed" | "worker_crashed" | "out_of_memory" | "broken" | "never";
  lingerMs: number;
}

interface Running {
  process: SimulatedProcess;
  nodeId: string;
  /** The process's thaws when it began. */
  thaws: number;
}

export interface Watch {
  readonly running: Map<string, Running>;
  readonly perNode: Map<string, number>;
  violations: string[];
}

export const createWatch = (): Watch => ({ running: new Map(), perNode: new Map(), violations: [] });

const failed = (code: Failure["code"], retryable: boolean): Outcome => ({ kind: "failed", failure: { code, message: code, retryable, diagnostics: [] }, error: code });

function outcomeOf(end: AttemptPlan["end"]): Outcome {
  switch (end) {
    case "built":
      return { kind: "built", result: "ok", sourceMap: null, warnings: [], externals: [] };
    case "build_failed":
      return failed(end, false);
    case "run_failed":
    case "worker_crashed":
    case "out_of_memory":
      return failed(end, true);
    case "broken":
    case "never":
      throw new Error(end);
    default:
      return end satisfies never;
  }
}

/** `clusterMax`: a cap that all nodes were given; undefined: none. */
export function createRunner(process: SimulatedProcess, nodeId: string, slots: number, watch: Watch, clusterMax?: number): Runner {
  /** A dead node runs nothing; one that was frozen may be fenced by now, and needs a moment to see it and kill. */
  const surelyOurs = ({ process: holder, thaws }: Running): boolean => holder.state === "up" && holder.thaws === thaws;

  function begin(chatId: string): () => void {
    const other = watch.running.get(chatId);
    if (other && surelyOurs(other)) watch.violations.push(`Two builds of chat ${chatId} ran at once, on ${other.nodeId} and ${nodeId}.`);
    const mine = { process, nodeId, thaws: process.thaws };
    watch.running.set(chatId, mine);
    const inAll = [...watch.running.values()].filter(surelyOurs).length;
    if (clusterMax !== undefined && inAll > clusterMax) watch.violations.push(`${inAll} builds ran at once over all nodes, with a cap of ${clusterMax}.`);
    const count = (watch.perNode.get(nodeId) ?? 0) + 1;
    watch.perNode.set(nodeId, count);
    if (count > slots) watch.violations.push(`Node ${nodeId} ran ${count} builds with ${slots} slots.`);
    return () => {
      if (watch.running.get(chatId) === mine) watch.running.delete(chatId);
      watch.perNode.set(nodeId, (watch.perNode.get(nodeId) ?? 0) - 1);
    };
  }

  return {
    start: async () => undefined,
    stop: async () => undefined,
    run(job: RunnableJob, { signal, attempt }) {
      const plans = JSON.parse(job.code ?? "[]") as AttemptPlan[];
      const plan = plans[Math.min(attempt, plans.length) - 1] as AttemptPlan;
      const end = begin(job.chatId);
      return new Promise<Outcome>((resolve, reject) => {
        const finish = (work: () => Outcome): void => {
          end();
          try {
            resolve(work());
          } catch (error) {
            reject(error);
          }
        };
        const timer = plan.end === "never" ? null : process.clock.after(plan.ms, () => finish(() => outcomeOf(plan.end)));
        signal.addEventListener("abort", () => {
          timer?.cancel();
          if (plan.lingerMs === 0) finish(() => outcomeOf("broken"));
          else process.clock.after(plan.lingerMs, () => finish(() => outcomeOf("broken")));
        });
      });
    },
  };
}
