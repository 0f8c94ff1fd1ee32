/** What a build may use beside what was submitted: packages, of a folder or by addresses. */
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

export const noPackages: PackageAccess = { define: {}, resolve: () => null, load: async () => "There is no package folder.", urlOf: () => null };
