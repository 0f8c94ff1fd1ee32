/** Writes docs/machines.md from the machines themselves: a diagram of each, and what its states and moves mean. `npm run docs`. */
import type { AnyStateMachine, AnyStateNode } from "xstate";
import { chatMachine, jobMachine, supervisorMachine } from "../machines/index.js";

const short = (node: AnyStateNode): string => node.path.join("_") || node.key;

/** `xstate.after.timeLimit.job.running.building` → `after timeLimit`. */
function eventName(type: string): string {
  const after = /^xstate\.after\.([^.]+)\./.exec(type);
  if (after) return `after ${after[1]}`;
  const ended = /^xstate\.(done|error)\.actor\.(.+)$/.exec(type);
  if (ended) return `${ended[2]} ${ended[1] === "done" ? "is done" : "crashes"}`;
  return type;
}

const nameOf = (one: unknown): string => (typeof one === "string" ? one : ((one as { type?: string } | undefined)?.type ?? ""));

export interface Edge {
  from: AnyStateNode;
  to: AnyStateNode | null;
  label: string;
  meaning: string;
}

export function edges(node: AnyStateNode): Edge[] {
  const own = [...node.transitions.values()].flat().concat(node.always ?? []);
  return [
    ...own.map((transition): Edge => {
      const guard = nameOf(transition.guard);
      const event = transition.eventType === "" ? "" : eventName(transition.eventType);
      return { from: node, to: transition.target?.[0] ?? null, label: `${event}${guard ? ` [${guard}]` : ""}`.trim(), meaning: transition.description ?? "" };
    }),
    ...Object.values(node.states).flatMap(edges),
  ];
}

function nested(node: AnyStateNode, indent: string): string[] {
  const children = Object.values(node.states);
  const initial = node.initial?.target?.[0];
  return [
    ...(initial ? [`${indent}[*] --> ${short(initial)}`] : []),
    ...children.flatMap((child) =>
      Object.keys(child.states).length > 0
        ? [`${indent}state "${child.key}" as ${short(child)} {`, ...nested(child, `${indent}  `), `${indent}}`]
        : [`${indent}state "${child.key}" as ${short(child)}`, ...(child.type === "final" ? [`${indent}${short(child)} --> [*]`] : [])],
    ),
  ];
}

function diagram(machine: AnyStateMachine): string {
  const moves = edges(machine.root).filter((edge) => edge.to !== null && edge.from !== machine.root);
  return ["stateDiagram-v2", ...nested(machine.root, "  "), ...moves.map(({ from, to, label }) => `  ${short(from)} --> ${short(to as AnyStateNode)}${label ? `: ${label}` : ""}`)].join("\n");
}

function table(node: AnyStateNode): string[] {
  return Object.values(node.states).flatMap((child) => [`| \`${child.path.join(".")}\` | ${child.tags.join(", ")} | ${child.description ?? ""} |`, ...table(child)]);
}

/** Where it goes; `stays` where it only does something. */
const moveRow = (machine: AnyStateMachine, { from, to, label, meaning }: Edge): string =>
  `| ${from === machine.root ? "every state" : `\`${from.path.join(".")}\``} | ${label === "" ? "else" : `\`${label}\``} | ${to === null ? "stays" : `\`${to.path.join(".")}\``} | ${meaning} |`;

function section(machine: AnyStateMachine): string {
  return [
    `## ${machine.id}`, "", machine.config.description ?? "", "", "```mermaid", diagram(machine), "```", "",
    "| state | tags | meaning |", "| --- | --- | --- |", ...table(machine.root), "",
    "| in | when | goes to | meaning |", "| --- | --- | --- | --- |", ...edges(machine.root).map((edge) => moveRow(machine, edge)), "",
  ].join("\n");
}

export const machineDocs = (): string =>
  [
    "# The machines",
    "",
    "Made from `machines/` by `npm run docs`; a test compares. Each file opens by itself in Stately's editor: paste it there, or import it from the repository.",
    "",
    section(supervisorMachine),
    section(chatMachine),
    section(jobMachine),
  ].join("\n");
