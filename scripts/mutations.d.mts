interface Edit {
  file: string;
  find: string;
  replace: string;
}
export const runs: Record<string, string[]>;
export const mutations: (Edit & { name: string; promise: string; run: string; also?: Edit })[];
