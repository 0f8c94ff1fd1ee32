/**
 * The whole schema as one text, in migrations/schema.txt: what all migrations together make, on both databases. Who changes
 * a migration sees here what becomes of it; `npx vitest run test/store/schema.test.ts -u` writes the file anew. And the same
 * file beside the tables of src/store/schema.ts.
 */
import { readFileSync } from "node:fs";
import { is } from "drizzle-orm";
import { getTableConfig, PgTable } from "drizzle-orm/pg-core";
import { afterAll, describe, expect, it } from "vitest";
import * as tables from "../../src/store/schema.js";
import type { Database } from "../../src/store/sql/database.js";
import { describePostgres } from "../support/postgres.js";
import { openPglite, openPostgres } from "./stores.js";
import type { OpenStore } from "./stores.js";

const file = "../../migrations/schema.txt";
const open: OpenStore[] = [];
afterAll(() => Promise.all(open.map((one) => one.close())));

const parts = [
  // Domains; columns, then constraints, then indexes of each table; then functions by what they take and give.
  `select 1 as part, c.relname || ' ' || lpad(a.attnum::text, 3) as key, c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
      || case when a.attcollation <> 0 and a.attcollation <> 100 then ' collate ' || (select quote_ident(collname) from pg_collation where oid = a.attcollation) else '' end
      || case when a.attnotnull then ' not null' else '' end || case a.attidentity when 'a' then ' generated always as identity' else '' end
      || coalesce(case when a.attgenerated <> '' then ' generated as ' else ' default ' end || pg_get_expr(d.adbin, d.adrelid), '') as line
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'c')`,
  `select 2, conrelid::regclass || ' ' || conname, conrelid::regclass || ': ' || conname || ' ' || pg_get_constraintdef(oid) from pg_constraint where connamespace = 'public'::regnamespace and conrelid <> 0 and contype <> 'n'`,
  `select 0, typname, typname || ' ' || format_type(t.typbasetype, t.typtypmod) || coalesce((select ' ' || string_agg(pg_get_constraintdef(k.oid), ' ' order by conname) from pg_constraint k where k.contypid = t.oid and contype <> 'n'), '')
    from pg_type t where typnamespace = 'public'::regnamespace and typtype = 'd'`,
  `select 3, tablename || ' ' || indexname, indexdef from pg_indexes where schemaname = 'public'`,
  `select 4, proname || ' ' || pg_get_function_identity_arguments(oid), proname || '(' || pg_get_function_arguments(oid) || ') returns ' || pg_get_function_result(oid) || coalesce(' set ' || array_to_string(proconfig, ', '), '')
    from pg_proc where pronamespace = 'public'::regnamespace`,
];

async function schemaOf(database: Database | null): Promise<string> {
  if (!database) throw new Error("no database");
  const rows = await database.transaction((tx) => tx.rows<{ part: number; line: string }>(`select part, line from (${parts.join(" union all ")}) all_parts order by part, key collate "C"`));
  return ["domains", "columns", "constraints", "indexes", "functions"].map((name, index) => `${name}\n\n${rows.filter(({ part }) => part === index).map(({ line }) => line).join("\n")}\n`).join("\n");
}

const isTheFile = (make: () => Promise<OpenStore>) => async () => {
  const one = await make();
  open.push(one);
  const schema = await schemaOf(one.database);
  expect(schema.split("\n").length).toBeGreaterThan(200);
  await expect(schema).toMatchFileSnapshot(file);
};

describe("the schema that the migrations make on PGlite", () => {
  it("is the one of migrations/schema.txt", isTheFile(openPglite), 120_000);
});
describePostgres("the schema that the migrations make on PostgreSQL", () => {
  it("is the one of migrations/schema.txt", isTheFile(openPostgres), 120_000);
});

it.each(Object.values(tables).filter((table) => is(table, PgTable)).map((table) => [getTableConfig(table).name, getTableConfig(table).columns] as const))("src/store/schema.ts sees %s as the migrations make it", (table, columns) => {
  const [domains = "", made = ""] = readFileSync(new URL(file, import.meta.url), "utf8").split(/^(?:columns|constraints)$/m);
  const bases = new Map([...domains.matchAll(/^(buildlane_\w+) (\w+)/gm)].map(([, name, base]) => [name, base]));
  const lines = [...made.matchAll(/^(\w+)\.(\w+) (.+?)( collate "C")?( not null)?( default .+| generated .+)?$/gm)].filter(([, name]) => name === table);
  expect(lines.length).toBeGreaterThan(0);
  expect(columns.map((column) => [column.name, column.getSQLType(), column.notNull, column.hasDefault])).toEqual(
    lines.map(([, , name, type, , notNull, given]) => [name, bases.get(type) ?? type, notNull !== undefined, given !== undefined]),
  );
});
