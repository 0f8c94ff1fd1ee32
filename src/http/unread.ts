/**
 * Refusals that come before their request's body has been read. To close the connection then, with bytes unread, resets it,
 * and a client that still sends often hears of that instead of the answer. So the answer goes out, and its end waits until
 * the body has arrived: for a bounded time and length, beyond which the connection is cut.
 */
import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import type { FastifyInstance } from "fastify";
import type { Clock } from "../clock.js";

/** What is read on at most: this many times the body that is allowed, and for so long, milliseconds. */
const timesMax = 2;
const readOnMs = 2000;

export function readOnWhenRefused(app: FastifyInstance, clock: Clock): void {
  app.addHook("onSend", (request, reply, payload, done) => {
    const { raw } = request;
    if (reply.statusCode < 400 || typeof payload !== "string" || !isUnread(raw) || raw.method === "HEAD") return done(null, payload);
    const bytesMax = timesMax * (request.routeOptions.bodyLimit ?? 0);
    async function* text(): AsyncGenerator<string, void, undefined> {
      yield payload as string;
      if (!(await readOn(raw, bytesMax, clock))) reply.raw.once("finish", () => raw.destroy());
    }
    reply.header("content-length", Buffer.byteLength(payload));
    done(null, Readable.from(text()));
  });
}

/** HTTP/2 ends a stream by itself, and the connection stays. */
const isUnread = ({ headers, httpVersionMajor, readableEnded }: IncomingMessage): boolean =>
  !readableEnded && httpVersionMajor === 1 && (headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0);

/** False when there is more than that. */
function readOn(request: IncomingMessage, bytesMax: number, clock: Clock): Promise<boolean> {
  return new Promise((resolve) => {
    let bytes = 0;
    const end = (isWhole: boolean) => {
      timer.cancel();
      request.off("data", count);
      resolve(isWhole);
    };
    const count = ({ length }: Buffer) => {
      bytes += length;
      if (bytes > bytesMax) end(false);
    };
    const timer = clock.after(readOnMs, () => end(false));
    request.on("data", count).once("end", () => end(true)).once("close", () => end(true));
    if (request.destroyed) end(true);
    request.resume();
  });
}
