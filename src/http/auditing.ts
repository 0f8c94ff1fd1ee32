/** Writes what operators do: every route whose schema names an action is recorded when it has succeeded, before the answer goes out. */
import type { FastifyInstance } from "fastify";
import { messageOf } from "../report.js";
import type { Audit } from "../audit.js";
import type { Access } from "./access.js";

/** An optional reason, for requests whose body has none. */
export const reasonHeader = "buildlane-reason";
const reasonCharsMax = 500;
const dataCharsMax = 4000;

export function writeAudit(app: FastifyInstance, audit: Audit, access: Pick<Access, "principal">): void {
  app.addHook("onRoute", (route) => {
    const action = (route.schema as { "x-audit"?: string } | undefined)?.["x-audit"];
    if (action === undefined) return;
    const before = route.onSend === undefined ? [] : [route.onSend].flat();
    route.onSend = [
      ...before,
      async (request, reply) => {
        const body = (request.body ?? {}) as { reason?: unknown; dryRun?: unknown };
        if (reply.statusCode >= 400 || body.dryRun === true) return;
        const { tenant = "", name = "unnamed" } = access.principal(request);
        const { id, chatId, keyId, hash } = request.params as { id?: string; chatId?: string; keyId?: string; hash?: string };
        const header = request.headers[reasonHeader];
        const reason = typeof body.reason === "string" ? body.reason : typeof header === "string" ? headerText(header) : null;
        try {
          await audit.record({ actor: name, tenant, action, target: id ?? chatId ?? keyId ?? hash ?? null, reason: reason?.slice(0, reasonCharsMax).replaceAll("\0", "") ?? null, data: dataOf(body) });
        } catch (error) {
          // It is done and cannot be undone: the log keeps what the table could not.
          request.log.error({ event: "audit.failed", requestId: request.id, actor: name, action, error: messageOf(error) }, "an action could not be recorded");
        }
      },
    ];
  });
}

/** Clients send UTF-8, of which Node makes Latin-1. */
function headerText(header: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(header, "latin1"));
  } catch {
    return header;
  }
}

/** What was asked for, without the reason; only its size when it is large. */
function dataOf({ reason: _reason, ...body }: Record<string, unknown>): Record<string, unknown> {
  const text = JSON.stringify(body);
  return text.length <= dataCharsMax ? body : { bodyBytes: Buffer.byteLength(text) };
}
