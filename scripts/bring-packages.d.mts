/** The file of a Chromium that can be run: the named one, or one in its usual places; null: none. */
export function findChromium(named?: string): string | null;
/** Likewise of a PgBouncer. */
export function findPgbouncer(named?: string): string | null;

interface Wanted {
  /** In `BUILDLANE_TEST_REQUIRED`. */
  name: string;
  /** The Debian packages that will do, best first. */
  offers: string[];
  what: string;
  tests: string;
  find: () => string | null;
}
export const packages: Wanted[];
export function bring(wanted: Wanted, parts?: { apt?: string; isRoot?: boolean; listsMs?: number; installMs?: number }): Promise<{ isRequired: boolean; line: string }>;
