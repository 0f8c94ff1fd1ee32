/** A folder that does not outlive this process, however that ends. `dispose` ends it sooner. */
export function contain(prefix: string): { folder: string; dispose(): void };
