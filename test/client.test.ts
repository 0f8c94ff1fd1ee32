/** The client alone, against answers of the test's own; with a service it stands in http/events.test.ts and cli/client.test.ts. */
import { expect, test } from "vitest";
import { createClient } from "../src/client/index.js";

const answer = (status: number, body: unknown, headers: Record<string, string> = {}) => () => new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers });
const refusal = (status: number, code: string, headers?: Record<string, string>) => answer(status, { ok: false, code, message: code, retryable: true }, headers);
const accepted = answer(202, { ok: true, data: { id: "j1" } });
const gateway = answer(502, "<h1>Bad gateway</h1>");
const nobody = () => {
  throw new TypeError("fetch failed", { cause: { code: "ECONNREFUSED" } });
};
const build = { chatId: "c", messageId: "m", code: "1" };

/** Gives these answers, one after another; whom it asked with which idempotency key, and when. */
function clientOf(answers: (() => Response)[]) {
  const keys: (string | null)[] = [];
  const times: number[] = [];
  const client = createClient({
    url: "http://127.0.0.1:1",
    fetch: async (_, init) => {
      keys.push(new Headers(init?.headers).get("idempotency-key"));
      times.push(performance.now());
      return (answers.shift() as () => Response)();
    },
  });
  return { client, keys, times };
}

test("a submission is offered again, with its key, while nobody says whether it was accepted", async () => {
  for (const troubles of [[nobody, gateway], [refusal(503, "draining"), refusal(503, "database_unavailable")], [refusal(503, "database_busy"), refusal(503, "chat_busy")]]) {
    const { client, keys } = clientOf([...troubles, accepted]);
    expect(await client.submit(build)).toEqual({ id: "j1" });
    expect([keys.length, new Set(keys).size, keys[0]]).toEqual([3, 1, expect.any(String)]);
  }
  const { client } = clientOf([nobody, nobody, nobody, nobody, accepted]);
  await expect(client.submit(build)).rejects.toMatchObject({ code: "unreachable" });
});

test("a limit that is met, and a wrong address, are told at once", async () => {
  for (const [first, code] of [[refusal(429, "rate_limited"), "rate_limited"], [refusal(503, "queue_full"), "queue_full"], [answer(404, "<h1>Not here</h1>"), "not_buildlane"]] as const) {
    const { client, keys } = clientOf([first, accepted]);
    await expect(client.submit(build)).rejects.toMatchObject({ code });
    expect(keys).toHaveLength(1);
  }
});

test("an id that no address can hold is refused before anything is asked: it would mean another", async () => {
  const { client, keys } = clientOf([accepted]);
  const refused = expect.objectContaining({ code: "validation_failed", retryable: false });
  for (const id of [".", ".."]) {
    for (const call of [client.pauseChat(id), client.eraseChat(id), client.get(id), client.keys.revoke(id), client.waitFor(id)]) await expect(call).rejects.toEqual(refused);
    await expect(client.events({ chatId: id })[Symbol.asyncIterator]().next()).rejects.toEqual(refused);
  }
  expect(keys).toEqual([]);
});

test("whoever aborts waits for no further offer", async () => {
  const controller = new AbortController();
  const { client, keys } = clientOf([
    () => {
      controller.abort(new Error("enough"));
      return gateway();
    },
    accepted,
  ]);
  await expect(client.submit(build, { signal: controller.signal })).rejects.toThrow("enough");
  expect(keys).toHaveLength(1);
});

test("a stream that was cut comes back no sooner than the service asks for", async () => {
  const events = answer(200, 'id: 1\nevent: job.accepted\ndata: {}\n\n', { "content-type": "text/event-stream" });
  const { client, times } = clientOf([events, refusal(429, "too_many_streams", { "retry-after": "1" }), () => new Response(null, { status: 204 })]);
  const told: (number | null)[] = [];
  for await (const { number } of client.events({ jobId: "j1" })) told.push(number);
  expect(told).toEqual([1]);
  expect((times[2] as number) - (times[1] as number)).toBeGreaterThan(990);
});

test("an address in the place of the options is told from one", () => {
  expect(() => createClient("http://127.0.0.1:3001" as never)).toThrow('Expected options such as { url: "http://127.0.0.1:3001" }, got "http://127.0.0.1:3001".');
  expect(() => createClient({ url: "127.0.0.1" })).toThrow('got "127.0.0.1"');
});
