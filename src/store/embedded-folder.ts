/** Where in a data folder the embedded database is: in a folder of its major version, which another one cannot open. */
import path from "node:path";

/** PGlite 0.5 is PostgreSQL 18; a test compares. */
export const embeddedMajor = 18;

export const databaseFolder = (dataDir: string): string => path.join(path.resolve(dataDir), `pg${embeddedMajor}`);
