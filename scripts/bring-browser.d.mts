/** The file of a Chromium that can be run: the named one, or one in its usual places; null: none. */
export function findChromium(named?: string): string | null;
export function bringBrowser(parts?: { find?: () => string | null; apt?: string; isRoot?: boolean; listsMs?: number; installMs?: number }): Promise<{ status: 0 | 1 | 3; line: string }>;
