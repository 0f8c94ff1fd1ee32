/** A machine's statechart, laid out when Buildlane was built: here only classes change. */
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

export interface Chart {
  machine: string;
  width: number;
  height: number;
  nodes: { id: string; kind: string; label?: string; about?: string; x: number; y: number; w: number; h: number }[];
  edges: { from: string; to: string; points: number[][]; labels?: string[]; x?: number; y?: number }[];
}

/** `active`: states that are entered; `seen`: those that were; `moved`: the latest steps, as pairs. */
/** A chart that is wider than its place is made smaller, down to this, and scrolls beyond. */
const scaleMin = 0.8;

export function StateChart({ chart, active, seen = [], moved = [], label }: { chart: Chart; active: string[]; seen?: string[]; moved?: [string, string][]; label: string }): JSX.Element {
  const isMoved = (from: string, to: string) => moved.some(([a, b]) => a === from && b === to);
  const nameOf = (id: string) => `${active.includes(id) ? "active" : ""} ${seen.includes(id) ? "seen" : ""}`;
  const scroll = useRef<HTMLDivElement>(null);
  const at = active.at(-1);
  useEffect(() => {
    const box = scroll.current;
    const node = chart.nodes.find((one) => one.id === at);
    if (!box || !node) return;
    const scale = box.scrollWidth / chart.width;
    if (box.scrollWidth > box.clientWidth) box.scrollLeft = (node.x + node.w / 2) * scale - box.clientWidth / 2;
  }, [at, chart]);
  return (
    <div class="chart-scroll" ref={scroll} tabIndex={0} role="group" aria-label={`${label}. Active: ${active.join(", ") || "none"}.`}>
      <svg class="chart" viewBox={`0 0 ${chart.width} ${chart.height}`} style={{ width: "100%", maxWidth: `${chart.width}px`, minWidth: `${Math.round(chart.width * scaleMin)}px` }} data-active={active.join(" ")} aria-hidden="true">
        <defs>
          <marker id={`head-${chart.machine}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0.8L7 4L0 7.2z" /></marker>
        </defs>
        {chart.nodes.filter((node) => node.kind === "group").map((node) => (
          <g key={node.id} class={`state group ${nameOf(node.id)}`}>
            <title>{node.about}</title>
            <rect x={node.x} y={node.y} width={node.w} height={node.h} rx="10" />
            <text x={node.x + 14} y={node.y + 22}>{node.label}</text>
          </g>
        ))}
        {chart.edges.map((edge, index) => (
          <g key={index} class={`edge ${isMoved(edge.from, edge.to) ? "moved" : ""}`}>
            <path d={`M${edge.points.map((point) => point.join(" ")).join("L")}`} marker-end={`url(#head-${chart.machine})`} />
            {edge.labels?.map((text, line) => <text key={text} x={edge.x} y={(edge.y ?? 0) + 11 + line * 15}>{text}</text>)}
          </g>
        ))}
        {chart.nodes.filter((node) => node.kind !== "group").map((node) =>
          node.kind === "start" ? <circle key={node.id} class="start" cx={node.x + 5} cy={node.y + 5} r="4" /> : (
            <g key={node.id} class={`state ${node.kind} ${nameOf(node.id)}`}>
              <title>{node.about}</title>
              <rect x={node.x} y={node.y} width={node.w} height={node.h} rx="8" />
              {node.kind === "final" ? <rect class="inner" x={node.x + 3} y={node.y + 3} width={node.w - 6} height={node.h - 6} rx="5" /> : null}
              <text x={node.x + node.w / 2} y={node.y + node.h / 2 + 4}>{node.label}</text>
            </g>
          ),
        )}
      </svg>
    </div>
  );
}
