/** The figures at a glance, the way around, and how the connection stands. */
import { sampledMax } from "../../store/reading.js";
import { call, forgetKey, hasKey } from "./api.js";
import { clockTime, duration, Act, Badge } from "./parts.js";
import { connection, link, place, readStats, samples, stats } from "./state.js";
import type { Sample } from "./state.js";

const pages = [["lanes", "Lanes"], ["failures", "Failures"], ["supervisor", "Supervisor"], ["submit", "Submit"]] as const;

export function Header() {
  const here = place.value.path[0] ?? "lanes";
  return (
    <header class="top">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>Skip to content</a>
      <div class="bar">
        <a class="brand" href="#/lanes">
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M3 6h11M3 12h18M3 18h7" /><circle cx="18" cy="6" r="2" /><circle cx="14" cy="18" r="2" /></svg>
          <span class="brand-name">Buildlane</span>
        </a>
        <nav aria-label="Pages">
          {pages.map(([name, label]) => (
            <a key={name} href={link([name])} aria-current={here === name || (here === "job" && name === "lanes") ? "page" : undefined}>
              {label}
              {name === "failures" && (stats.value?.deadLetters ?? 0) > 0 ? <span class="count">{stats.value?.deadLetters}</span> : null}
            </a>
          ))}
        </nav>
        <div class="bar-end">
          <Connection />
          {hasKey.value ? <button type="button" class="button plain" onClick={forgetKey}>Change key</button> : null}
          <Pause />
        </div>
      </div>
      <Figures />
    </header>
  );
}

function Connection() {
  const { state, since } = connection.value;
  const tone = state === "live" ? "good" : state === "stale" ? "bad" : "warn";
  return (
    <span role="status" class="connection" data-state={state}>
      <Badge tone={tone}>{state === "stale" ? `stale since ${clockTime(since)}` : state === "connecting" ? "connecting" : state}</Badge>
    </span>
  );
}

function Pause() {
  const paused = stats.value?.queuePaused ?? false;
  return <Act label={paused ? "Resume queue" : "Pause queue"} tone={paused ? "primary" : "plain"} run={async () => (await call("POST", paused ? "/resume" : "/pause"), readStats())} />;
}

function Figures() {
  const found = stats.value;
  const slots = found?.nodes.filter((node) => node.alive && !node.draining).reduce((sum, node) => sum + node.slots, 0) ?? 0;
  const cap = found?.clusterCap ?? slots;
  const room = Math.min(slots, cap);
  const rate = found?.successRate === null || found?.successRate === undefined ? "–" : `${((1 - found.successRate) * 100).toFixed(1)} %`;
  return (
    <dl class="figures">
      <Figure name="Queued" value={found ? String(found.totalQueued) : "–"} note={found?.queuePaused ? "the queue is paused" : found?.oldestWaitMs ? `oldest ${duration(found.oldestWaitMs)}` : found?.totalQueued ? "all behind another, delayed or held" : "nothing waits"} />
      <Figure name="Running" value={found ? `${found.totalRunning}` : "–"} unit={`of ${room} ${cap < slots ? "(cluster cap)" : "slots"}`} meter={room > 0 ? Math.min(1, (found?.totalRunning ?? 0) / room) : 0} />
      <Figure name="Builds a minute" value={found ? String(found.finishedLastMinute) : "–"} line={samples.value.map((sample) => sample.perMinute)} />
      <Spread name="Wait" of={found?.waiting} p50="wait50" p95="wait95" />
      <Spread name="Build" of={found?.processing} p50="build50" p95="build95" />
      <Figure name="Failure rate" value={rate} note={`of the latest ${sampledMax}`} />
    </dl>
  );
}

function Figure({ name, value, unit, note, meter, line }: { name: string; value: string; unit?: string; note?: string; meter?: number; line?: (number | null)[] }) {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd>
        <span class="value">{value}</span> {unit ? <span class="unit">{unit}</span> : null}
        {note ? <span class="note">{note}</span> : null}
        {meter === undefined ? null : <svg class="meter" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect class="rail" width="100" height="4" rx="2" /><rect width={meter * 100} height="4" rx="2" /></svg>}
        {line ? <Spark lines={[line]} /> : null}
      </dd>
    </div>
  );
}

function Spread({ name, of, p50, p95 }: { name: string; of: { p50: number | null; p95: number | null } | undefined; p50: keyof Sample; p95: keyof Sample }) {
  return (
    <div class="figure">
      <dt>{name} <span class="unit">p50 · p95</span></dt>
      <dd>
        <span class="value">{duration(of?.p50)}</span> <span class="unit">· {duration(of?.p95)}</span>
        <Spark lines={[samples.value.map((sample) => sample[p95]), samples.value.map((sample) => sample[p50])]} />
      </dd>
    </div>
  );
}

function Spark({ lines }: { lines: (number | null)[][] }) {
  const top = Math.max(1, ...lines.flat().map((value) => value ?? 0));
  const path = (values: (number | null)[]) => {
    const step = 100 / Math.max(1, values.length - 1);
    return values.flatMap((value, index) => (value === null ? [] : [`${(index * step).toFixed(1)},${(22 - (value / top) * 20).toFixed(1)}`])).join(" ");
  };
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
      {lines.map((values, index) => <polyline key={index} class={index === lines.length - 1 ? "main" : "faint"} points={path(values)} />)}
    </svg>
  );
}
