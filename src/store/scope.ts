/**
 * Tenants. A tenant's chat is a lane of its own: in the store its key is the tenant, U+001F and the chat id (the default
 * tenant's is the plain chat id), so two tenants' chats of one name share nothing. Everything on the side of the work
 * (accepting, turns, claims, hints, actors) names lanes by that key and calls it `chatId`; everything on the side of
 * people (reads, cancels, redrives, pauses) takes a Scope and the plain chat id, and sees nothing outside the scope.
 */

/** Whose jobs a call may see and touch. `everyone` is the operator, for whom a plain chat id is the default tenant's. */
export type Scope = { readonly tenant: string; /** Only this chat, and only to read. */ readonly chatId?: string | undefined } | "everyone";

/** No keys, or keys without a tenant. */
export const defaultTenant = "";
const separator = "\u001f";

/** Names are refused that hold control characters, so a key reads in one way only. */
export const isTenantName = (name: unknown): name is string => typeof name === "string" && /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/.test(name);

/** Where a submission within the scope goes. */
export const tenantIn = (scope: Scope): string => (scope === "everyone" ? defaultTenant : scope.tenant);

export const laneKey = (scope: Scope, chatId: string): string => {
  const tenant = tenantIn(scope);
  if (scope !== "everyone" && scope.chatId !== undefined && scope.chatId !== chatId) throw new Error("a scope of one chat was asked for another");
  return tenant === defaultTenant ? chatId : `${tenant}${separator}${chatId}`;
};

export function ofLane(key: string): { tenant: string; chatId: string } {
  const at = key.indexOf(separator);
  return at < 0 ? { tenant: defaultTenant, chatId: key } : { tenant: key.slice(0, at), chatId: key.slice(at + 1) };
}

/** What a job or an event shows of its lane. */
export function shownLane(key: string): { chatId: string; tenant?: string } {
  const { tenant, chatId } = ofLane(key);
  return tenant === defaultTenant ? { chatId } : { chatId, tenant };
}

/** The lane of something that is shown. */
export const laneOfShown = ({ chatId, tenant = defaultTenant }: { chatId: string; tenant?: string | undefined }): string => laneKey({ tenant }, chatId);

export const isWithin = (scope: Scope, key: string): boolean => scope === "everyone" || (scope.chatId === undefined ? ofLane(key).tenant === scope.tenant : key === laneKey(scope, scope.chatId));

/** For SQL that looks no further than the tenant: null is everyone. Throws for a scope of one chat, which only reads. */
export function tenantArg(scope: Scope): string | null {
  if (scope === "everyone") return null;
  if (scope.chatId !== undefined) throw new Error("a scope of one chat reads that chat and nothing else");
  return scope.tenant;
}

/** Which of the functions that there are for each form of scope, since each reads indexes of its own. */
export function formOf(scope: Scope): "all" | "tenant" | "default" {
  const tenant = tenantArg(scope);
  return tenant === null ? "all" : tenant === "" ? "default" : "tenant";
}
