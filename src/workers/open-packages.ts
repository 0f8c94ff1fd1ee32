/** The two sources of packages put together: the folder first, then the import map. */
import type { Clock } from "../clock.js";
import { readImportMap } from "./import-map.js";
import { openPackageFolder } from "./package-folder.js";
import { noPackages } from "./packages.js";
import type { Packages } from "./packages.js";

/** Throws SettingsError when the folder or the map cannot be used. */
export async function openPackages({ packagesDir, importMap, clock }: { packagesDir?: string | undefined; importMap?: string | undefined; clock: Clock }): Promise<Packages> {
  const folder = packagesDir === undefined ? null : await openPackageFolder(packagesDir, clock);
  const map = importMap === undefined ? null : await readImportMap(importMap);
  return {
    forBuild: () => ({ ...(folder?.forBuild() ?? noPackages), urlOf: map?.urlOf ?? noPackages.urlOf }),
    version: async () => `${folder ? await folder.version() : ""}/${map?.version ?? ""}`,
  };
}
