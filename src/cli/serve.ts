/** `buildlane serve`: settings → queue → HTTP server, until a signal; then drain, close, and let the process end. */
import { Command } from "commander";
import { systemClock } from "../clock.js";
import { SettingsError } from "../errors.js";
import { buildServer } from "../http/server.js";
import { createLogger, logReports } from "../log.js";
import { readSettings } from "../options.js";
import type { Settings } from "../options.js";
import { createBuildQueue } from "../queue.js";
import { anyKeys } from "../store/open.js";
import { embeddedBanner } from "../store/embedded.js";
import { onOrphaned } from "./orphan.js";
import { withSettings } from "./settings-flags.js";

const loopback = /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/;
/** A second signal within this time is the same one: npm forwards what the terminal sends to both. */
const sameSignalMs = 1000;

const say = (line: string): void => void process.stderr.write(`${line}\n`);

export function serveCommand(): Command {
  return withSettings(new Command("serve").description("Run the service.")).action(async (flags: Record<string, unknown>) => {
    await serve(readSettings(process.env, flags));
  });
}

async function serve(settings: Settings): Promise<void> {
  if (!loopback.test(settings.host) && !settings.insecure && settings.apiKeys === undefined && !(await anyKeys({ ...settings, clock: systemClock })))
    throw new SettingsError(`Refusing to listen on ${settings.host}: anybody who reaches it could submit code, and there is no API key to ask for. Set BUILDLANE_API_KEYS, make one with \`buildlane keys create\`, listen on 127.0.0.1, or say --insecure (BUILDLANE_INSECURE=true).`);
  const logger = createLogger(settings.logLevel);
  const queue = await createBuildQueue({ ...queueOptions(settings), onReport: logReports(logger), onProgress: say });
  const app = await buildServer({ queue, settings, logger, clock: systemClock });
  try {
    await app.listen({ port: settings.port, host: settings.host });
  } catch (error) {
    await queue.stop();
    if ((error as { code?: string }).code === "EADDRINUSE") throw new SettingsError(`Port ${settings.port} on ${settings.host} is taken. Choose another with PORT, or 0 for a free one.`);
    throw error;
  }
  const address = app.server.address();
  const port = typeof address === "object" && address !== null ? address.port : settings.port;
  const url = `http://${settings.host.includes(":") ? `[${settings.host}]` : settings.host}:${port}`;
  say(`Buildlane listens on ${url} (dashboard ${url}/, API ${url}/api/builds, docs ${url}/docs)`);
  say(settings.databaseUrl === undefined ? embeddedBanner : "database: PostgreSQL");

  let signalledAt: number | null = null;
  const onSignal = (signal: string) => {
    const now = systemClock.monotonic();
    if (signalledAt !== null) {
      if (now - signalledAt < sameSignalMs) return;
      say("Stopping at once; what runs is rescued at the next start.");
      process.exit(1);
    }
    signalledAt = now;
    logger.info({ event: "signal", signal }, "stopping");
    // Readiness fails first and reads still work while builds finish; then the streams and the listener; then the store.
    queue
      .drain()
      .then(() => app.close())
      .then(() => queue.stop())
      .then(
        () => process.exit(0),
        (error: unknown) => {
          logger.error({ event: "stop.failed", error: String(error) }, "stop failed");
          process.exit(1);
        },
      );
  };
  process.on("SIGTERM", () => onSignal("SIGTERM"));
  process.on("SIGINT", () => onSignal("SIGINT"));
  onOrphaned(systemClock, process.env, () => onSignal("none: the parent process is gone"));
}

/** The module takes texts where the service has parsed values. */
function queueOptions(settings: Settings) {
  const { rateLimit, retention, cache, tenantWeights, port: _port, host: _host, logLevel: _level, allowedHosts: _hosts, insecure: _insecure, readOnly: _readOnly, apiKeys: _keys, corsOrigins: _origins, keyRateLimit: _keyRate, keyFailureLimit: _failureRate, maxLoopDelayMs: _delay, ...plain } = settings;
  return { ...plain, retention: retention.text, cache: cache.text, tenantWeights: tenantWeights.text, ...(rateLimit ? { rateLimit: rateLimit.text } : {}) };
}
