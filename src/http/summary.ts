/** A job in a list: large fields only when they were asked for. */
import type { z } from "zod";
import type { Job } from "../job.js";
import type { jobSummary } from "./schemas.js";

export function summary(job: Job, include: { code: boolean; result: boolean }): z.output<typeof jobSummary> {
  const { code, files, result, ...rest } = job;
  return { ...rest, ...(include.code ? { code, files } : {}), ...(include.result ? { result } : {}) };
}
