/**
 * What a build may use beside what was submitted: packages of a folder that the operator installed, else by addresses of
 * an import map; what is in neither is left to the page.
 */
export interface PackageFile {
  contents: Uint8Array;
  loader: string;
}

export interface ResolvedPackageFile {
  path: string;
  namespace: string;
  sideEffects?: boolean;
}

/** One build's way to packages. */
export interface PackageAccess {
  /** What esbuild replaces in all code, such as `process.env.NODE_ENV`. */
  readonly define: Record<string, string>;
  /** `importer`: a package's file as `resolve` named it, or null for submitted ones. Null, now or later: not found here. */
  resolve(specifier: string, importer: string | null, kind: string): Promise<ResolvedPackageFile | null> | null;
  /** A file that `resolve` named, or a sentence why it cannot be part of a build. */
  load(path: string): Promise<PackageFile | string>;
  /** The address that the import map gives a package, its sub-paths included. */
  urlOf(specifier: string): string | null;
}

export interface Packages {
  /** Each build has limits of its own. */
  forBuild(): PackageAccess;
  /** Changes when the same code may build to something else. */
  version(): Promise<string>;
}

/** Files of packages have this namespace; submitted ones have none, so that messages name them as they were submitted. */
export const packageNamespace = "package";

export const noPackages: PackageAccess = { define: {}, resolve: () => null, load: async () => "There is no package folder.", urlOf: () => null };
