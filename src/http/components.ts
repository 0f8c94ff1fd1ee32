/**
 * What the API's documents name: schemas with an id become components, others get their description from here. A
 * registry of our own, since zod's global one belongs to whoever embeds the routes.
 */
import { z } from "zod";

export interface Documented {
  [key: string]: unknown;
  id?: string | undefined;
  description?: string | undefined;
  examples?: unknown[] | undefined;
}

export const components = z.registry<Documented>();

/** The schema, described. */
export const says = <S extends z.ZodType>(schema: S, description: string, more: Documented = {}): S => {
  components.add(schema, { description, ...more });
  return schema;
};

/** The schema as a component of the document. */
export const named = <S extends z.ZodType>(id: string, schema: S, description: string, more: Documented = {}): S => says(schema, description, { id, ...more });

/** ISO 8601 in UTC; not checked again on the way out. */
export const time = (description: string) => says(z.string(), description, { format: "date-time" });
export const timeOrNull = (description: string) => says(z.string().nullable(), description, { format: "date-time" });
export const milliseconds = (description: string) => says(z.number().nullable(), `${description} Milliseconds.`);

/** A response's headers, for the document. */
export const withHeaders = (headers: Record<string, string>): Documented => ({ headers: Object.fromEntries(Object.entries(headers).map(([name, description]) => [name, { type: "string", description }])) });

/** A number in a query, which comes as text; one message says all that is wrong with another. */
export const integerText = (min: number, max: number) => {
  const expected = `Expected an integer from ${min} to ${max}.`;
  return z.coerce.number(expected).int(expected).min(min, expected).max(max, expected);
};
