/** Watches the runs of a workload while it is measured: order in each chat, one at a time, never more than the slots. */
export function createJudge(total, slots) {
  const latest = new Map();
  const busy = new Set();
  let running = 0;
  let left = total;
  const broken = { overtaken: 0, overlapped: 0, overBudget: 0, runningMost: 0 };
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  return {
    broken,
    finished,
    /** Wraps the work of one job; `seq` counts from 1 in each chat. */
    async run(chat, seq, work) {
      if ((latest.get(chat) ?? 0) !== seq - 1) broken.overtaken++;
      if (busy.has(chat)) broken.overlapped++;
      if (++running > slots) broken.overBudget++;
      broken.runningMost = Math.max(broken.runningMost, running);
      latest.set(chat, seq);
      busy.add(chat);
      try {
        return work ? await work() : "ok";
      } finally {
        busy.delete(chat);
        running--;
        if (--left === 0) finish();
      }
    },
  };
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
export const percentile = (values, part) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))];
