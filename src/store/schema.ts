/**
 * The tables that are read through Drizzle, as it sees them; the others only SQL knows. `migrations/` is the truth, and
 * test/store/schema.test.ts compares the two: every column, its type, whether it may be null, its default. What the
 * columns mean is told at the head of migrations/0001_tables.sql.
 */
import type { BuildOptions, Diagnostic, EventType, Failure, FailureCode, JobStatus } from "../job.js";
import { bigint, boolean, integer, jsonb, pgTable, primaryKey, smallint, text, timestamp } from "./drizzle.js";
import type { ChatPolicy } from "./operating.js";

const number = (name: string) => bigint(name, { mode: "number" });
const time = (name: string) => timestamp(name, { withTimezone: true, mode: "date" });

export const chatLanes = pgTable("chat_lanes", {
  chatId: text("chat_id").primaryKey(),
  tenant: text("tenant").notNull(),
  tail: number("tail").notNull().default(0),
  placeTail: number("place_tail").notNull().default(0),
  eventTail: number("event_tail").notNull().default(0),
  eventFloor: number("event_floor").notNull().default(0),
  pending: integer("pending").notNull().default(0),
  completed: number("completed").notNull().default(0),
  failed: number("failed").notNull().default(0),
  mixed: boolean("mixed").notNull().default(false),
  acceptedAt: time("accepted_at").notNull(),
  settledAt: time("settled_at"),
  rateAt: time("rate_at"),
  pausedAt: time("paused_at"),
  state: text("state").$type<"idle" | "ready" | "delayed" | "paused" | "running">().notNull().default("idle"),
  headId: text("head_id"),
  headRank: time("head_rank"),
  readyAt: time("ready_at"),
  turnAt: time("turn_at"),
  owner: text("owner"),
  fence: number("fence").notNull().default(0),
  claimId: text("claim_id"),
  takenUntil: time("taken_until"),
  takenClaim: text("taken_claim"),
  whileRetrying: text("while_retrying").$type<ChatPolicy["whileRetrying"]>().notNull().default("block"),
  afterFailure: text("after_failure").$type<ChatPolicy["afterFailure"]>().notNull().default("skip"),
  heldBy: text("held_by"),
});

export const buildJobs = pgTable("build_jobs", {
  id: text("id").primaryKey(),
  chatId: text("chat_id").notNull(),
  tenant: text("tenant").notNull(),
  chatSeq: number("chat_seq").notNull(),
  place: number("place").notNull(),
  rank: time("rank").notNull(),
  messageId: text("message_id").notNull(),
  code: text("code"),
  files: jsonb("files").$type<Record<string, string>>(),
  entry: text("entry"),
  options: jsonb("options").$type<BuildOptions>().notNull(),
  codeHash: text("code_hash").notNull(),
  priority: smallint("priority").notNull(),
  status: text("status").$type<JobStatus>().notNull().default("pending"),
  attempt: integer("attempt").notNull().default(0),
  spent: integer("spent").notNull().default(0),
  strikes: integer("strikes").notNull().default(0),
  nodeLosses: integer("node_losses").notNull().default(0),
  maxAttempts: integer("max_attempts").notNull(),
  timeoutMs: integer("timeout_ms").notNull(),
  traceparent: text("traceparent"),
  runAt: time("run_at").notNull(),
  createdAt: time("created_at").notNull(),
  startedAt: time("started_at"),
  completedAt: time("completed_at"),
  cancelRequestedAt: time("cancel_requested_at"),
  discardedAt: time("discarded_at"),
  owner: text("owner"),
  fence: number("fence"),
  claimId: text("claim_id"),
  result: text("result"),
  sourceMap: text("source_map"),
  warnings: jsonb("warnings").$type<Diagnostic[]>(),
  externals: jsonb("externals").$type<string[]>(),
  error: text("error"),
  failure: jsonb("failure").$type<Failure>(),
  failureCode: text("failure_code").$type<FailureCode>(),
  supersededBy: text("superseded_by"),
  stamp: text("stamp"),
  copiedFrom: text("copied_from"),
});

export const jobEvents = pgTable(
  "job_events",
  {
    chatId: text("chat_id").notNull(),
    number: number("number").notNull(),
    type: text("type").$type<EventType>().notNull(),
    jobId: text("job_id"),
    chatSeq: number("chat_seq"),
    status: text("status").$type<JobStatus>(),
    attempt: integer("attempt"),
    at: time("at").notNull(),
    data: jsonb("data").$type<Record<string, unknown>>().notNull().default({}),
  },
  (table) => [primaryKey({ columns: [table.chatId, table.number] })],
);

export const apiKeys = pgTable("api_keys", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  tenant: text("tenant").notNull(),
  scopes: text("scopes").array().notNull(),
  hash: text("hash").notNull(),
  createdAt: time("created_at").notNull(),
  expiresAt: time("expires_at"),
  revokedAt: time("revoked_at"),
});

export const serviceSecrets = pgTable("service_secrets", {
  name: text("name").primaryKey(),
  secret: text("secret").notNull(),
  createdAt: time("created_at").notNull(),
});

export const operatorActions = pgTable("operator_actions", {
  id: bigint("id", { mode: "number" }).generatedAlwaysAsIdentity().primaryKey(),
  at: time("at").notNull(),
  actor: text("actor").notNull(),
  tenant: text("tenant").notNull(),
  action: text("action").notNull(),
  target: text("target"),
  reason: text("reason"),
  data: jsonb("data").$type<Record<string, unknown>>().notNull().default({}),
});
