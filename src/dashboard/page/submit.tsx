/** To try it out: submits code to a chat, and goes to the job. */
import { useState } from "preact/hooks";
import { call, config } from "./api.js";
import { Act, Empty } from "./parts.js";
import { link, place } from "./state.js";

const example = `type Greeting = { name: string };

export function greet({ name }: Greeting): string {
  return \`Hello, \${name}!\`;
}

console.log(greet({ name: "Buildlane" }));
`;

export function Submit() {
  const [code, setCode] = useState(example);
  const [chatId, setChat] = useState(place.value.query.get("chat") ?? "demo");
  const [count, setCount] = useState(1);
  if (config.readOnly) return <Empty title="Read-only">This page may not submit anything.</Empty>;
  const submit = async () => {
    const jobs = Array.from({ length: count }, (_, index) => ({ chatId, messageId: `try-${Date.now().toString(36)}-${index + 1}`, code }));
    const { data } = await call<{ jobs: { id: string }[] }>("POST", "/batch", { jobs });
    location.hash = count === 1 ? link(["job", data.jobs[0]?.id ?? ""]) : link(["chat", chatId]);
  };
  return (
    <>
      <div class="tools"><h1>Submit</h1></div>
      <form class="panel form" onSubmit={(event) => event.preventDefault()}>
        <div class="fields">
          <label>Chat<input value={chatId} onInput={(event) => setChat(event.currentTarget.value)} autocomplete="off" /></label>
          <label>How often<input type="number" min="1" max="100" value={count} onInput={(event) => setCount(Math.max(1, Math.min(100, Number(event.currentTarget.value) || 1)))} /></label>
        </div>
        <label>Code (TypeScript with JSX)<textarea rows={16} spellcheck={false} value={code} onInput={(event) => setCode(event.currentTarget.value)} /></label>
        <Act label={count === 1 ? "Build it" : `Build it ${count} times`} tone="primary" run={submit} />
      </form>
    </>
  );
}
