/**
 * The page that hands the stream of `/inspect` to Stately's own inspector, which is the only thing from elsewhere. It
 * holds nothing by itself, and asks its reader for a key when the stream asks for one, as the dashboard does: a link
 * cannot carry one. The key goes to this service only, never to the frame.
 */
import { createHash } from "node:crypto";

/** `keyName` is the dashboard's, so that a reader who comes from there is not asked again. */
const script = `
const keyName = "buildlane-key", waitingMax = 5000;
const frame = document.querySelector("iframe"), [asks, again] = document.forms, input = document.querySelector("input"), said = document.querySelector("p");
const waiting = [];
let connected = false;
const hand = (event) => frame.contentWindow.postMessage(event, "https://stately.ai");
const say = (text) => { said.textContent = text; };
addEventListener("message", (event) => {
  if (event.source !== frame.contentWindow || event.origin !== "https://stately.ai" || event.data?.type !== "@statelyai.connected") return;
  connected = true;
  waiting.splice(0).forEach(hand);
});
const pressed = (form) => new Promise((resolve) => {
  form.hidden = false;
  form.querySelector("input, button").focus();
  form.onsubmit = (event) => {
    event.preventDefault();
    form.hidden = true;
    resolve();
  };
});
async function attach() {
  const key = sessionStorage.getItem(keyName);
  const response = await fetch("inspect" + location.search, { headers: { accept: "text/event-stream", ...(key ? { authorization: "Bearer " + key } : {}) } });
  if (!response.ok) {
    const told = await response.json().catch(() => null);
    say(response.status === 401 && !key ? "" : told?.message ?? "The service answered " + response.status + ".");
    if (response.status !== 401 && !(response.status === 403 && key)) return pressed(again);
    await pressed(asks);
    sessionStorage.setItem(keyName, input.value);
    input.value = "";
    return;
  }
  say("Attached.");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("over");
    const blocks = (rest + value).split("\\n\\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith("data: ")) continue;
      const event = JSON.parse(block.slice(6));
      if (connected) hand(event);
      else if (waiting.push(event) > waitingMax) waiting.shift();
    }
  }
}
(async () => {
  for (;;)
    await attach().catch(() => {
      say("Detached: the service is away, the key is over, or this page was too slow.");
      return pressed(again);
    });
})();`;
const style =
  ":root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}body{margin:0;display:grid;grid-template-rows:auto 1fr;height:100vh}header{display:flex;flex-wrap:wrap;gap:8px 16px;align-items:center;padding:8px 16px}h1{font-size:15px;margin:0}p{margin:0}form{display:flex;gap:8px;align-items:center}form[hidden]{display:none}input,button{font:inherit;padding:4px 8px}iframe{border:0;width:100%;height:100%;display:block}";
const hashOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

export const inspectorPage = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Buildlane in Stately's inspector</title><style>${style}</style><header><h1>Buildlane's actors</h1><form hidden><label>This queue asks for an admin's key <input type="password" autocomplete="off"></label><button>Use key</button></form><p role="status"></p><form hidden><button>Attach again</button></form></header><iframe src="https://stately.ai/inspect" title="Stately's inspector"></iframe><script>${script}</script></html>`;
export const inspectorPolicy = `default-src 'none'; script-src ${hashOf(script)}; style-src ${hashOf(style)}; connect-src 'self'; frame-src https://stately.ai; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`;
