/** What is told while one waits for a job: position, estimate and time, on one line that is rewritten, or on lines of their own where nobody looks. */
import type { AcceptedJob, StreamEvent } from "../client/index.js";
import { systemClock } from "../clock.js";
import { paint, say, seconds } from "./talk.js";

const redrawMs = 100;

export interface Progress {
  event(event: StreamEvent): void;
  end(): void;
}

/** `each`: every event gets a line too. */
export function showProgress(job: Pick<AcceptedJob, "queuePosition" | "estimatedWaitTime">, { each, clock = systemClock }: { each: boolean; clock?: typeof systemClock }): Progress {
  const from = clock.monotonic();
  const live = process.stderr.isTTY === true;
  let state = waiting(job.queuePosition, job.estimatedWaitTime);
  let told = "";
  let timer = clock.after(redrawMs, tick);

  function draw(): void {
    if (live) process.stderr.write(`\r\u001b[K${state} · ${seconds(clock.monotonic() - from)}`);
    else if (state !== told && !each) say(`${state} · ${seconds(clock.monotonic() - from)}`);
    told = state;
  }
  function tick(): void {
    draw();
    timer = clock.after(redrawMs, tick);
  }
  draw();
  return {
    event({ type, data }) {
      if (each) {
        if (live) process.stderr.write("\r\u001b[K");
        say(paint(process.stderr, "dim", describe(type, data)));
      }
      if (type === "job.moved") state = waiting(Number(data["queuePosition"]), data["estimatedWaitTime"] as number | null);
      if (type === "job.started") state = `running, attempt ${data.attempt}`;
      if (type === "job.retrying") state = `trying again at ${String(data["runAt"])}`;
      if (type === "job.rescued" || type === "job.released") state = "in line again";
      draw();
    },
    end() {
      timer.cancel();
      if (live) process.stderr.write("\r\u001b[K");
    },
  };
}

const waiting = (position: number, estimate: number | null): string => `pending, position ${position}${estimate === null ? ", paused" : `, about ${seconds(estimate)}`}`;

/** One event as a line. */
export function describe(type: string, data: StreamEvent["data"]): string {
  const { jobId, chatId, chatSeq, status: _status, attempt, at, tenant: _tenant, ...more } = data;
  const facts = Object.entries(more).filter(([, value]) => value !== null && typeof value !== "object").map(([name, value]) => `${name}=${String(value).split("\n")[0]}`);
  return [at ?? "", type, ...(chatId ? [`${chatId}${chatSeq ? `#${chatSeq}` : ""}`] : []), ...(jobId ? [jobId] : []), ...(attempt ? [`attempt ${attempt}`] : []), ...facts].join("  ");
}
