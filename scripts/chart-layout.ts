/**
 * Lays out the machines' statecharts, once, from the machines themselves: `npm run docs` writes one small JSON each, and
 * the dashboard draws it. The browser gets coordinates and changes classes; the layout engine stays here.
 */
import ElkModule from "elkjs/lib/elk.bundled.js";
import type { ELK, ElkExtendedEdge, ElkNode } from "elkjs/lib/elk-api.js";
import type { AnyStateMachine, AnyStateNode } from "xstate";
import { chatMachine, jobMachine, supervisorMachine } from "../machines/index.js";
import { edges } from "./machine-docs.js";

const Elk = ElkModule as unknown as new () => ELK;

/** Of the dashboard's 12 px font, about. */
const charWidth = 6.9;
const lineHeight = 15;
const labelMax = 26;

const idOf = (node: AnyStateNode): string => node.path.join(".") || node.key;
const cut = (text: string): string => (text.length > labelMax ? `${text.slice(0, labelMax - 1)}…` : text);

interface Move {
  from: string;
  to: string;
  labels: string[];
}

/** One line for each pair of states, whatever leads from one to the other. */
function moves(machine: AnyStateMachine): Move[] {
  const found = new Map<string, Move>();
  for (const { from, to, label } of edges(machine.root)) {
    if (to === null || from === machine.root) continue;
    const key = `${idOf(from)}>${idOf(to)}`;
    const move = found.get(key) ?? { from: idOf(from), to: idOf(to), labels: [] };
    found.set(key, move);
    // What is always tried says when by its guard alone; where the others say it by an event, guards would only be long.
    const text = cut(label.replace(/ ?\[.*\]$/, ""));
    if (text !== "" && !move.labels.includes(text)) move.labels.push(text);
  }
  return [...found.values()];
}

function box(node: AnyStateNode): ElkNode {
  const children = Object.values(node.states);
  const initial = node.initial?.target?.[0];
  const width = Math.max(72, Math.round(node.key.length * charWidth) + 28);
  if (children.length === 0) return { id: idOf(node), width, height: 34 };
  return {
    id: idOf(node),
    layoutOptions: { "elk.padding": "[top=40,left=16,bottom=16,right=16]", "elk.nodeSize.constraints": "MINIMUM_SIZE", "elk.nodeSize.minimum": `(${width + 16}, 60)` },
    children: [...(initial ? [{ id: `${idOf(node)}:start`, width: 10, height: 10 }] : []), ...children.map(box)],
  };
}

const starts = (node: AnyStateNode): Move[] => {
  const initial = node.initial?.target?.[0];
  return [...(initial ? [{ from: `${idOf(node)}:start`, to: idOf(initial), labels: [] }] : []), ...Object.values(node.states).flatMap(starts)];
};

const round = (value: number | undefined): number => Math.round(value ?? 0);

async function layout(machine: AnyStateMachine): Promise<string> {
  const all = [...starts(machine.root), ...moves(machine)];
  const root = box(machine.root);
  const graph: ElkNode = {
    ...root,
    layoutOptions: {
      "elk.algorithm": "layered", "elk.direction": "RIGHT", "elk.hierarchyHandling": "INCLUDE_CHILDREN", "elk.edgeRouting": "ORTHOGONAL", "elk.padding": "[top=8,left=8,bottom=8,right=8]",
      "elk.json.edgeCoords": "ROOT", "elk.json.shapeCoords": "ROOT", "elk.spacing.nodeNode": "26", "elk.layered.spacing.nodeNodeBetweenLayers": "22", "elk.spacing.edgeLabel": "3",
      "elk.spacing.edgeNode": "14", "elk.spacing.edgeEdge": "10", "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES", "elk.edgeLabels.placement": "CENTER",
    },
    edges: all.map(({ from, to, labels }, index): ElkExtendedEdge => ({
      id: `e${index}`, sources: [from], targets: [to],
      labels: labels.length === 0 ? [] : [{ text: labels.join("\n"), width: Math.max(...labels.map((text) => text.length)) * 6.1 + 6, height: labels.length * lineHeight }],
    })),
  };
  const done = await new Elk().layout(graph);
  const nodes: unknown[] = [];
  const byId = new Map<string, AnyStateNode>();
  const index = (node: AnyStateNode): void => {
    byId.set(idOf(node), node);
    Object.values(node.states).forEach(index);
  };
  index(machine.root);
  const collect = (node: ElkNode): void => {
    for (const child of node.children ?? []) {
      const state = byId.get(child.id);
      const place = { x: round(child.x), y: round(child.y), w: round(child.width), h: round(child.height) };
      if (!state) nodes.push({ id: child.id, kind: "start", ...place });
      else nodes.push({ id: child.id, kind: state.type === "final" ? "final" : child.children ? "group" : "state", label: state.key, about: state.description ?? "", ...place });
      collect(child);
    }
  };
  collect(done);
  const lines = (done.edges ?? []).map((edge, at) => {
    const { from, to, labels } = all[at] as Move;
    const [section] = edge.sections ?? [];
    const points = section ? [section.startPoint, ...(section.bendPoints ?? []), section.endPoint].map(({ x, y }) => [round(x), round(y)]) : [];
    const [label] = edge.labels ?? [];
    return { from, to, points, ...(label ? { labels, x: round((label.x ?? 0) + (label.width ?? 0) / 2), y: round(label.y) } : {}) };
  });
  return `${JSON.stringify({ machine: machine.id, width: round(done.width), height: round(done.height), nodes, edges: lines })}\n`;
}

export const charts: Record<string, () => Promise<string>> = {
  "src/dashboard/charts/job.json": () => layout(jobMachine),
  "src/dashboard/charts/chat.json": () => layout(chatMachine),
  "src/dashboard/charts/supervisor.json": () => layout(supervisorMachine),
};
