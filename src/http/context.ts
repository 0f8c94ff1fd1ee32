/** What every group of routes is given. */
import type { ZodTypeProvider } from "@fastify/type-provider-zod";
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from "fastify";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../clock.js";
import type { QueueSettings } from "../options.js";
import type { BuildQueue } from "../queue-api.js";
import type { Rates } from "./rate.js";
import type { Access } from "./access.js";
import type { Stays } from "./stays.js";

export type Api = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, ZodTypeProvider>;

export interface RouteContext extends Access {
  keys: BuildQueue["keys"];
  chatTokens: BuildQueue["chatTokens"];
  audit: BuildQueue["audit"];
  settings: QueueSettings;
  rates: Rates;
  clock: Clock;
  stays: Stays;
  streamsMax: number;
  /** The node is going away: nothing that lasts begins any more. */
  isDraining(): boolean;
}
