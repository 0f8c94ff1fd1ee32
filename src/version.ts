/** Buildlane's own version, from its package.json wherever it is installed. */
import { createRequire } from "node:module";

export const version = (createRequire(import.meta.url)("buildlane/package.json") as { version: string }).version;
