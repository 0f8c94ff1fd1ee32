/** What is known of code by its hash, over SQL. */
import type { Diagnostic, Failure } from "../../job.js";
import { ownFailures } from "../code.js";
import type { CodeAnswer, CodeQuestion, CodeStore } from "../code.js";
import { coalesce } from "../coalesce.js";
import { reaching } from "./database.js";
import type { Database } from "./database.js";

/** Jobs of which their claim told that no other has their code. Claims tell it once somebody has asked about any code. */
export interface Novelties {
  readonly areAsked: boolean;
  add(jobId: string): void;
  /** Told once. */
  take(jobId: string): boolean;
}

/** Those that nobody asks about, since they never began, leave when others come. */
const noveltiesMax = 1000;

export function createNovelties(): Novelties {
  const jobIds = new Set<string>();
  let areAsked = false;
  return {
    get areAsked() {
      return areAsked;
    },
    add(jobId) {
      jobIds.add(jobId);
      if (jobIds.size > noveltiesMax) jobIds.delete(jobIds.keys().next().value as string);
    },
    take(jobId) {
      areAsked = true;
      return jobIds.delete(jobId);
    },
  };
}

const askSql = "select buildlane_known($1::text::json, $2::text::text[], $3) as answer";
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

type Row = KnownRow | Exclude<CodeAnswer, { kind: "known" }>;

function answerOf(answer: Row, stamp: string): CodeAnswer {
  if (answer.kind !== "known") return answer;
  const origin = { stamp, from: answer.from ?? answer.id };
  if (answer.result !== null) return { kind: "known", outcome: { kind: "built", result: answer.result, sourceMap: answer.sourceMap, warnings: answer.warnings ?? [], externals: answer.externals ?? [], origin } };
  return { kind: "known", outcome: { kind: "failed", failure: answer.failure as Failure, error: answer.error ?? "", origin } };
}

/** Questions of one statement: each answer may carry a whole build. */
const askedTogetherMax = 50;

export function sqlCode(database: Database, novelties: Novelties): CodeStore {
  const call = <T>(statement: string, args: unknown[]): Promise<T> => reaching(() => database.call<T>(statement, args, "apart"));
  async function askAll(asked: CodeQuestion[], now?: number): Promise<CodeAnswer[]> {
    const rows = await call<Row[]>(askSql, [JSON.stringify(asked.map(({ codeHash, stamp, jobId, ageMs }) => ({ hash: codeHash, stamp, job: jobId, age_ms: ageMs }))), `{${ownFailures.join(",")}}`, now ?? null]);
    return rows.map((row, index) => answerOf(row, (asked[index] as CodeQuestion).stamp));
  }
  // Jobs that start together, as those of one turn do, ask together.
  const asking = coalesce<CodeQuestion, CodeAnswer>({ send: (asked) => askAll(asked), lanesOf: () => [], weightOf: () => 1, weightMax: askedTogetherMax });
  return {
    lift: (hash) => call<boolean>(liftSql, [hash]),
    async ask(question, now) {
      if (now !== undefined) return (await askAll([question], now))[0] as CodeAnswer;
      return novelties.take(question.jobId) && !question.isBuiltHere ? { kind: "unknown" } : asking.add(question);
    },
  };
}
