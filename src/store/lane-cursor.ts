/** Where a page of lanes ends: its last lane's group and chat. Opaque to callers. */
import { validationFailed } from "../errors.js";

/** Lower groups first: paused, delayed, at work or in line, idle. */
export type LanePlace = [group: number, chatId: string];

export const encodeLanePlace = (place: LanePlace): string => Buffer.from(JSON.stringify(place)).toString("base64url");

export function decodeLanePlace(cursor: string): LanePlace {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString());
    if (Array.isArray(parsed) && parsed.length === 2 && [0, 1, 2, 3].includes(parsed[0] as number) && typeof parsed[1] === "string" && parsed[1].isWellFormed() && !parsed[1].includes("\0")) return parsed as LanePlace;
  } catch {
    // Falls through to the same answer as a well-formed cursor of something else.
  }
  throw validationFailed([{ path: "/cursor", message: "Expected a cursor from the page before." }]);
}
