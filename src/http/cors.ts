/** No other origin's page may read anything, unless the operator named it. Keys travel in a header, so no cookie is ever sent along. */
import cors from "@fastify/cors";
import type { FastifyInstance } from "fastify";

export const isAllowedOrigin = (origins: readonly string[] | undefined, origin: string | undefined): boolean => origin !== undefined && (origins?.includes(origin) ?? false);

export async function allowOrigins(app: FastifyInstance, origins: string[] | undefined): Promise<void> {
  if (origins === undefined) return;
  await app.register(cors, {
    origin: origins,
    credentials: false,
    methods: ["GET", "HEAD", "POST", "PUT", "DELETE"],
    allowedHeaders: ["authorization", "content-type", "idempotency-key", "prefer", "last-event-id", "if-none-match", "buildlane-reason", "x-request-id"],
    exposedHeaders: ["location", "retry-after", "ratelimit", "ratelimit-policy", "idempotent-replayed", "preference-applied", "etag", "x-request-id"],
    maxAge: 600,
  });
}
