/** The dashboard: one stream, one snapshot, and a page for each way to look at the queue. */
import { render } from "preact";
import type { ComponentChildren } from "preact";
import { useEffect, useErrorBoundary, useRef, useState } from "preact/hooks";
import { locked, setKey } from "./api.js";
import { ChatPage } from "./chat.js";
import { Failures } from "./failures.js";
import { Header } from "./header.js";
import { JobPage } from "./job.js";
import { Lanes } from "./lanes.js";
import { Empty, said } from "./parts.js";
import { connect, place } from "./state.js";
import { Submit } from "./submit.js";
import { Supervisor } from "./supervisor.js";

function Page() {
  const [name = "lanes", id = ""] = place.value.path;
  switch (name) {
    case "lanes":
      return <Lanes />;
    case "job":
      return <JobPage key={id} id={id} />;
    case "chat":
      return <ChatPage key={id} chatId={id} />;
    case "failures":
      return <Failures />;
    case "supervisor":
      return <Supervisor />;
    case "submit":
      return <Submit />;
    default:
      return <Empty title="There is no such page"><a href="#/lanes">Go to the lanes.</a></Empty>;
  }
}

const titles: Record<string, string> = { lanes: "Lanes", job: "Job", chat: "Chat", failures: "Failures", supervisor: "Supervisor", submit: "Submit" };

function App() {
  const [name = "lanes", id] = place.value.path;
  const where = place.value.path.join("/");
  const isFirst = useRef(true);
  useEffect(() => {
    // A job's own title comes when it is read.
    document.title = name === "chat" && id ? `${id} · Buildlane` : `${titles[name] ?? "Buildlane"} · Buildlane`;
    // Whoever followed a link by keyboard goes on in the new page, and hears that it is one.
    if (!isFirst.current) document.getElementById("main")?.focus({ preventScroll: true });
    isFirst.current = false;
  }, [where]);
  return (
    <>
      <Header />
      {locked.value !== null ? <Locked why={locked.value} /> : null}
      <main id="main" tabIndex={-1}><Guarded key={where}><Page /></Guarded></main>
      <p class="hidden" role="status">{said.value}</p>
    </>
  );
}

/** A page that breaks leaves the way to the others. */
function Guarded({ children }: { children: ComponentChildren }) {
  const [error] = useErrorBoundary((reason) => console.error(reason));
  return error ? <Empty title="This page broke">{String(error)} Load it again, or <a href="#/lanes">go to the lanes</a>.</Empty> : <>{children}</>;
}

function Locked({ why }: { why: string }) {
  const [key, set] = useState("");
  return (
    <form class="locked" onSubmit={(event) => { event.preventDefault(); setKey(key); }}>
      <label>This queue asks for a key<input type="password" value={key} autocomplete="off" onInput={(event) => set(event.currentTarget.value)} /></label>
      <button type="submit" class="button primary">Use key</button>
      <p role="alert">{why}</p>
    </form>
  );
}

render(<App />, document.getElementById("app") as HTMLElement);
void connect();
