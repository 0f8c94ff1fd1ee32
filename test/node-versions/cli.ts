/**
 * `npm run node-versions`: the packed package on every Node that is promised, a line each; ends with 1 when one failed.
 * `--fetch`: only fetches those Nodes, so that `npm test` asks them too; what cannot be fetched is told, and no failure.
 */
import { packProject } from "../support/packed.js";
import { fetchNode, versions } from "./nodes.js";
import { smoke } from "./smoke.js";

const onlyFetch = process.argv.includes("--fetch");
const fetched = await Promise.allSettled(versions.map(fetchNode));
for (const [index, one] of fetched.entries()) {
  if (one.status === "fulfilled") continue;
  console.error(`Node ${versions[index]} could not be fetched: ${String(one.reason).split("\n")[0]?.slice(0, 300)}`);
  if (!onlyFetch) process.exitCode = 1;
}
const nodes = fetched.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
if (!onlyFetch) {
  await using packed = await packProject();
  for (const node of nodes) {
    try {
      console.log(await smoke(node, packed));
    } catch (error) {
      console.error(String(error));
      process.exitCode = 1;
    }
  }
}
