/** How a command ends: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 timed out, 5 refused for lack of rights, 130 interrupted. */
import { ClientError } from "../client/index.js";
import { BuildlaneError, SettingsError } from "../errors.js";
import { messageOf } from "../report.js";

export const exitCodes = { ok: 0, failed: 1, usage: 2, unreachable: 3, timedOut: 4, auth: 5, interrupted: 130 } as const;

/** Ends the command with this code; the message, if any, is talk. */
export class Exit extends Error {
  override readonly name = "Exit";
  readonly code: number;
  constructor(code: number, message = "") {
    super(message);
    this.code = code;
  }
}

/** For whoever named a file that cannot be used. */
export const unusable = (file: string, how: "read" | "written") => ({ code }: NodeJS.ErrnoException): Promise<never> => Promise.reject(new Exit(exitCodes.usage, `${file} cannot be ${how} (${code}).`));

/** The exit code of an error, and what is said about it. */
export function exitOf(error: unknown): { code: number; message: string } {
  if (error instanceof Exit) return { code: error.code, message: error.message };
  if (error instanceof SettingsError) return { code: exitCodes.usage, message: error.message };
  // Of a command that opens the database itself: whoever runs it can mend that.
  if (error instanceof BuildlaneError && error.code === "database_unavailable") return { code: exitCodes.failed, message: `The database cannot be reached (${reasonOf(error.cause)}). Check DATABASE_URL, and that the database runs.` };
  if (error instanceof BuildlaneError && error.code === "validation_failed") return { code: exitCodes.usage, message: error.message };
  if (!(error instanceof ClientError)) return { code: exitCodes.failed, message: messageOf(error) };
  const { message } = error;
  if (error.code === "unreachable" || error.code === "not_buildlane") return { code: exitCodes.unreachable, message };
  if (error.code === "timed_out") return { code: exitCodes.timedOut, message };
  if (error.statusCode === 401 || error.statusCode === 403) return { code: exitCodes.auth, message: `${message}${error.code === "unauthorized" ? " Set BUILDLANE_API_KEY or --api-key." : ""}` };
  return { code: error.statusCode === 400 ? exitCodes.usage : exitCodes.failed, message };
}

/** A code where there is one: of several addresses that were tried, the message is empty. */
const reasonOf = (cause: unknown): string => (cause as { code?: string } | undefined)?.code ?? messageOf(cause);
