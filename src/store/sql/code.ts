/** What is known of code by its hash, over SQL. */
import type { Diagnostic, Failure } from "../../job.js";
import { ownFailures } from "../code.js";
import type { CodeAnswer, CodeStore } from "../code.js";
import { reaching } from "./database.js";
import type { Database } from "./database.js";

const askSql = "select buildlane_known($1, $2, $3, $4, $5::text::text[], $6) as answer";
const liftSql = "with lifted as (delete from code_crashes where code_hash = $1 and quarantined_at is not null returning code_hash) select count(*) > 0 as answer from lifted";

interface KnownRow {
  kind: "known";
  id: string;
  result: string | null;
  sourceMap: string | null;
  warnings: Diagnostic[] | null;
  externals: string[] | null;
  failure: Failure | null;
  error: string | null;
  from: string | null;
}

export function sqlCode(database: Database): CodeStore {
  const call = <T>(statement: string, args: unknown[]): Promise<T> => reaching(() => database.call<T>(statement, args, "apart"));
  return {
    lift: (hash) => call<boolean>(liftSql, [hash]),
    async ask({ codeHash, stamp, ageMs, jobId }, now): Promise<CodeAnswer> {
      const answer = await call<KnownRow | Exclude<CodeAnswer, { kind: "known" }>>(askSql, [codeHash, stamp, ageMs, jobId, `{${ownFailures.join(",")}}`, now ?? null]);
      if (answer.kind !== "known") return answer;
      const origin = { stamp, from: answer.from ?? answer.id };
      if (answer.result !== null) return { kind: "known", outcome: { kind: "built", result: answer.result, sourceMap: answer.sourceMap, warnings: answer.warnings ?? [], externals: answer.externals ?? [], origin } };
      return { kind: "known", outcome: { kind: "failed", failure: answer.failure as Failure, error: answer.error ?? "", origin } };
    },
  };
}
