/**
 * What is wrong with something that was sent, each with its place. A body can be wrong in as many places as it has room
 * for: the first are told, the others are only counted.
 */
import { issuesMax, validationFailed } from "./errors.js";
import type { BuildlaneError, Issue } from "./errors.js";

export type Path = readonly PropertyKey[];

/** Of a name that the sender chose: enough to find it. */
const nameCharsMax = 200;
const escaped = (name: string): string => (name.length > nameCharsMax ? `${name.slice(0, nameCharsMax)}…` : name).replaceAll("~", "~0").replaceAll("/", "~1");
const pointer = (path: Path): string => path.map((part) => `/${escaped(String(part))}`).join("");

export interface Issues {
  add(path: Path, message: string): void;
  /** Null when there are none. */
  error(): BuildlaneError | null;
  /** Throws it, if there is one. */
  refuse(): void;
}

/** `at` is the path, in what was sent, of what is looked at. */
export function collectIssues(at: Path = []): Issues {
  const told: Issue[] = [];
  let untold = 0;
  const error = () => (told.length === 0 ? null : validationFailed(told, untold));
  return {
    add(path, message) {
      if (told.length < issuesMax) told.push({ path: pointer([...at, ...path]), message });
      else untold++;
    },
    error,
    refuse() {
      const found = error();
      if (found) throw found;
    },
  };
}
