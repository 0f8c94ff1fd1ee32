/** BUILDLANE_IMPORT_MAP: a JSON file of package names to addresses, as browsers know it (`imports`) or the plain object alone. Sub-paths follow. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { SettingsError } from "../errors.js";

export interface ImportMap {
  urlOf(specifier: string): string | null;
  version: string;
}

const mapBytesMax = 1024 * 1024;

export async function readImportMap(file: string): Promise<ImportMap> {
  const text = await readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new SettingsError(`Expected importMap (BUILDLANE_IMPORT_MAP) to name a JSON file, but it cannot be read (${cause.code ?? "unknown"}).`, { cause });
  });
  if (text.length > mapBytesMax) throw new SettingsError(`Expected importMap (BUILDLANE_IMPORT_MAP) to name a file of at most ${mapBytesMax} bytes.`);
  const imports = new Map(Object.entries(entriesOf(text)).map(([name, url]) => [name, checked(name, url)]));
  return {
    version: createHash("sha256").update(text).digest("hex").slice(0, 16),
    urlOf(specifier) {
      const exact = imports.get(specifier);
      if (exact !== undefined) return exact;
      // The longest name that the specifier continues after a slash.
      for (let end = specifier.lastIndexOf("/"); end > 0; end = specifier.lastIndexOf("/", end - 1)) {
        const prefix = imports.get(specifier.slice(0, end + 1));
        if (prefix !== undefined) return prefix + specifier.slice(end + 1);
        const name = imports.get(specifier.slice(0, end));
        if (name !== undefined) return withSubPath(name, specifier.slice(end));
      }
      return null;
    },
  };
}

function entriesOf(text: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new SettingsError("Expected importMap (BUILDLANE_IMPORT_MAP) to name a JSON file, and its text is no JSON.", { cause });
  }
  const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
  const imports = isObject(parsed) && isObject(parsed["imports"]) ? parsed["imports"] : parsed;
  if (!isObject(imports)) throw new SettingsError('Expected importMap (BUILDLANE_IMPORT_MAP) to hold an object of names to addresses, such as {"react": "https://esm.sh/react@19"}.');
  return imports;
}

function checked(name: string, url: unknown): string {
  const isAddress = typeof url === "string" && (/^https?:\/\/[^\s]+$/.test(url) || /^\/(?!\/)[^\s]*$/.test(url));
  if (!isAddress) throw new SettingsError(`Expected importMap (BUILDLANE_IMPORT_MAP) to give "${name}" an http(s) address or a path that starts with "/".`);
  if (name.endsWith("/") && !url.endsWith("/")) throw new SettingsError(`Expected importMap (BUILDLANE_IMPORT_MAP) to give "${name}" an address that ends with "/" too.`);
  return url;
}

/** Before a query or fragment: `https://host/react@19?dev` and `/jsx-runtime` make `https://host/react@19/jsx-runtime?dev`. */
const withSubPath = (url: string, subPath: string): string => {
  const [, head = "", tail = ""] = /^([^?#]*)(.*)$/.exec(url) ?? [];
  return head.replace(/\/$/, "") + subPath + tail;
};
