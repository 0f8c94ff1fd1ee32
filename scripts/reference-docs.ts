/** Reference pages made from the code: settings and error codes. */
import { errorShapes, issuesMax } from "../src/errors.js";
import { failureCodes } from "../src/job.js";
import { flagOf, settings } from "../src/options.js";
import type { SettingName } from "../src/options.js";

export const settingsDocs = (): string =>
  [
    "# Settings",
    "",
    "Made from `src/options.ts` by `npm run docs`; a test compares. Flags go before the environment, the environment before defaults. The flag of a setting that is true or false says true when it stands alone.",
    "The module takes the same names in camelCase, except those marked *service*. An unknown `BUILDLANE_*` name or a bad value stops the start.",
    "What Kubernetes injects is ignored: `BUILDLANE_PORT_*`, `BUILDLANE_SERVICE_*`, and `BUILDLANE_PORT` when it holds an address (`tcp://…`); with a number it stops the start, for who set it meant `PORT` and would be served on another port.",
    "",
    "| variable | flag | option | default | meaning |",
    "| --- | --- | --- | --- | --- |",
    ...Object.entries(settings).map(([name, { env, default: fallback, meaning, ...rest }]) => `| \`${env}\` | \`${flagOf(name as SettingName)}\` | \`${name}\`${"service" in rest ? " *service*" : ""} | ${fallback === undefined ? "unset" : `\`${fallback}\``} | ${meaning} |`),
    "",
  ].join("\n");

/** What each code means to a caller; a missing one does not compile. */
const errorMeanings: Record<keyof typeof errorShapes, string> = {
  validation_failed: `A field is missing, unknown or out of its limits; \`issues\` names each with its path: the first ${issuesMax}, and in one more how many there are beside them.`,
  invalid_json: "The body is not JSON.",
  unauthorized: "No valid API key: missing, unknown, expired or revoked.",
  read_only: "The service only shows the queue (`BUILDLANE_READ_ONLY`).",
  forbidden: "The key may not do this: it lacks the scope, or is the key of one tenant.",
  forbidden_host: "The `Host` header is not one that the service answers to (protection against DNS rebinding).",
  cross_site_refused: "A browser sent this from another site.",
  not_found: "There is no such route.",
  key_not_found: "There is no such API key, or it is another tenant's.",
  not_quarantined: "No code with this hash is quarantined; it may have been lifted already.",
  job_not_found: "There is no such job; it may have been removed by the retention.",
  method_not_allowed: "The path exists, but not with this method; `Allow` lists those it has.",
  not_acceptable: "The route cannot answer in a type that `Accept` allows.",
  already_final: "The job has ended; it cannot be cancelled.",
  not_failed: "Only a failed job can be retried.",
  no_output: "The job has no output (yet).",
  no_backup: "Only the embedded database is backed up so; a PostgreSQL has its own tools.",
  chat_stopping: "The chat's running job could not be stopped in time to erase the chat; try again.",
  payload_too_large: "The body or the code is larger than its limit.",
  unsupported_media_type: "Send `application/json`, in UTF-8 and without a content coding such as gzip (for that, `Accept-Encoding: identity` is answered).",
  idempotency_conflict: "The idempotency key was used for another request.",
  batch_too_large: "The batch is larger than a limit allows at any time.",
  chat_queue_full: "The chat has as many pending jobs as it may; `Retry-After` estimates when one will have gone (a minute while the chat or the queue is paused, for nobody knows).",
  rate_limited: "The chat submits faster than allowed; `Retry-After` says when it fits again.",
  too_many_streams: "As many event streams are open as the service keeps.",
  queue_full: "The whole queue is full; `Retry-After` as of a full chat.",
  database_unavailable: "The database cannot be reached; nothing was accepted. When the connection broke before the answer came, the message says so: then look, or try again with an `Idempotency-Key`.",
  chat_busy: "Another transaction (of an application that enqueues within its own, say) has held the chat for too long; nothing was accepted.",
  database_busy: "A transaction of the embedding application holds the embedded database's only connection; nothing was done.",
  overloaded: "This node's event loop lags; reads go on.",
  draining: "This node is stopping.",
  internal_error: "A fault of the service; its log has the request id.",
};
const failureMeanings: Record<(typeof failureCodes)[number], string> = {
  build_failed: "The code does not build; `failure.diagnostics` has every place. Not tried again.",
  import_refused: "It imports something that a build may not use. Not tried again.",
  timed_out: "Longer than its time limit; tried once more.",
  worker_crashed: "The worker died; tried again up to `maxAttempts`. Code that crashes two workers is quarantined.",
  out_of_memory: "Over the memory cap; tried once more, and counts as a crash.",
  output_too_large: "The output is larger than its limit. Not tried again.",
  cancelled: "A person cancelled it. Not a dead letter.",
  superseded: "A newer job of the chat took its place. Not a dead letter.",
  node_lost: "The nodes that ran it were lost too often.",
  run_failed: "The embedder's own `run` threw; tried again up to `maxAttempts` unless the error says `retryable: false`.",
};

export const errorDocs = (): string =>
  [
    "# Error and failure codes",
    "",
    "Made from `src/errors.ts` and `src/job.ts` by `npm run docs`; a test compares.",
    "",
    "## Errors of a request",
    "",
    "Every error has one shape, whatever its status: `{ ok: false, statusCode, code, message, retryable, requestId, issues? }`; with `Accept: application/problem+json` the same facts as RFC 9457.",
    "",
    "| code | status | worth trying again | meaning |",
    "| --- | --- | --- | --- |",
    ...Object.entries(errorShapes).map(([code, { status, retryable }]) => `| \`${code}\` | ${status} | ${retryable ? "yes" : "no"} | ${errorMeanings[code as keyof typeof errorShapes]} |`),
    "",
    "## Failures of a job",
    "",
    "`failure.code` of a failed job.",
    "",
    "| code | meaning |",
    "| --- | --- |",
    ...failureCodes.map((code) => `| \`${code}\` | ${failureMeanings[code]} |`),
    "",
  ].join("\n");
