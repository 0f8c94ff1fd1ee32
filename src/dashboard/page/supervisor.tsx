/** The node that serves this page: its supervisor's statechart and living actors; and the other nodes, the quarantine and the settings. */
import { useEffect, useState } from "preact/hooks";
import type { NodeView } from "../../queue-api.js";
import chatChart from "../charts/chat.json";
import supervisorChart from "../charts/supervisor.json";
import { ApiError, config, read } from "./api.js";
import { StateChart } from "./chart.js";
import type { Chart } from "./chart.js";
import { Panel } from "./job.js";
import { laneKey } from "./lanes-state.js";
import { Badge, Elapsed, Icon, When } from "./parts.js";
import { adjust, link, onEvent, place, stats } from "./state.js";

export function Supervisor() {
  const [node, set] = useState<NodeView | null>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    const controller = new AbortController();
    let timer = 0;
    const look = () => {
      timer = 0;
      void read<NodeView>("/node", controller.signal).then((found) => (set(found), setError(null)), (reason: unknown) => !controller.signal.aborted && setError(reason instanceof ApiError ? reason.message : String(reason)));
    };
    look();
    const stop = onEvent(() => (timer ||= window.setTimeout(look, 150)));
    const every = setInterval(look, 2000);
    return () => {
      stop();
      controller.abort();
      clearTimeout(timer);
      clearInterval(every);
    };
  }, []);
  if (!node) return error ? <p class="notice bad" role="alert"><Icon of="bad" /> {error}</p> : <p class="loading" role="status">Reading the node…</p>;
  const busy = (chat: NodeView["chats"][number]) => (chat.states.includes("serving.working") ? 0 : chat.job ? 1 : 2);
  node.chats.sort((a, b) => busy(a) - busy(b));
  const picked = node.chats.find((chat) => laneKey(chat) === place.value.query.get("chat")) ?? node.chats[0];
  const taken = node.slots.held.length;
  return (
    <>
      <div class="tools"><h1>Supervisor <Badge tone={node.state === "claiming" ? "good" : node.state === "paused" ? "held" : "warn"}>{node.state}</Badge></h1><span class="quiet-text">node {node.nodeId}</span>
        {node.settings["inspect"] === true ? <div class="actions"><a class="button plain" href={`${config.api}/inspector`}>Stately's inspector</a></div> : null}
      </div>
      {error ? <p class="notice bad" role="alert"><Icon of="bad" /> {error}</p> : null}
      <Panel title="Statechart"><StateChart chart={supervisorChart as Chart} label="The supervisor's statechart" active={[node.state]} /></Panel>
      <Panel title="Slots" end={<span class="quiet-text">{taken} of {node.slots.total} taken</span>}>
        <ol class="slots">
          {Array.from({ length: Math.min(node.slots.total, 200) }, (_, index) => {
            const held = node.slots.held[index];
            return <li key={index} class={held ? "slot taken" : "slot"}>{held ? <><a href={link(["job", held.jobId])}><bdi>{held.chatId}</bdi> #{held.chatSeq}</a> <small><Elapsed since={held.startedAt} /></small></> : <span class="quiet-text">free</span>}</li>;
          })}
        </ol>
      </Panel>
      <Panel title="Chat actors" end={<span class="quiet-text">{node.actors} alive, {node.chats.length} shown</span>}>
        {node.chats.length === 0 ? <p class="quiet-text">No chat is at work here. A chat that nobody works on is only a row.</p> : (
          <>
            <ul class="actors">
              {node.chats.map((chat) => (
                <li key={laneKey(chat)}>
                  <button type="button" aria-pressed={chat === picked} onClick={() => adjust({ chat: laneKey(chat) })}><bdi>{chat.chatId}</bdi> <small>{chat.tenant ? `${chat.tenant} · ` : ""}{chat.states.at(-1)}{chat.job ? ` · job ${chat.job.states.at(-1)}` : ""}</small></button>
                </li>
              ))}
            </ul>
            {picked ? <StateChart chart={chatChart as Chart} label={`The statechart of chat ${picked.chatId}`} active={picked.states} /> : null}
          </>
        )}
      </Panel>
      <Panel title="Nodes">
        <ul class="rows">
          {(stats.value?.nodes ?? []).map((one) => (
            <li key={one.id} class="row"><span class="row-main">{one.id}</span><Badge tone={!one.alive ? "bad" : one.draining ? "warn" : "good"}>{!one.alive ? "lease over" : one.draining ? "draining" : "alive"}</Badge><span class="quiet-text">{one.running} of {one.slots} slots, since <When at={one.startedAt} /></span></li>
          ))}
        </ul>
      </Panel>
      <Panel title="Quarantine" end={<span class="quiet-text">{node.quarantine.length}</span>}>
        {node.quarantine.length === 0 ? <p class="quiet-text">No code is quarantined.</p> : (
          <ul class="rows">{node.quarantine.map((one) => <li key={one.codeHash} class="row"><code class="row-main">{one.codeHash.slice(0, 16)}…</code><Badge tone="bad">{one.cause}</Badge><span class="quiet-text">{one.crashes} crashes, since <When at={one.quarantinedAt} /></span></li>)}</ul>
        )}
      </Panel>
      <Panel title="Settings">
        <dl class="settings">{Object.entries(node.settings).map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{String(value)}</dd></div>)}</dl>
      </Panel>
    </>
  );
}
