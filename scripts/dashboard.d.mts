export function bundleDashboard(into: string): Promise<void>;
export const devFolder: string;
