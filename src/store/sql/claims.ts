/** How a claim and its times read as the database writes them; turns claim, and so do acceptances that start what they accept. */
import type { Source } from "../../job.js";
import type { Claim } from "../store.js";

/** The database prints microseconds and its session's zone; callers get ISO with milliseconds. */
export const iso = (text: string): string => new Date(text).toISOString();

const sourceOf = (code: string | null, files: Record<string, string> | null, entry: string | null): Source =>
  files !== null && entry !== null ? { files, entry } : { code: code ?? "" };

/** What has its usual value is left out: it is not worth its parsing. */
export type ClaimRow = Omit<Claim["job"], "code" | "files" | "entry"> & { code: string | null; files: Record<string, string> | null; entry: string | null } & Pick<Claim, "spent" | "strikes" | "fence" | "startedAt">;
export const claimOf = ({ spent, strikes, fence, startedAt, code, files, entry, ...job }: ClaimRow, claimId: string): Claim => ({ job: { ...job, ...sourceOf(code, files, entry) }, spent, strikes, fence, claimId, startedAt: startedAt && iso(startedAt) });
