/** What a page of somebody else's may not do to a service on this machine: reach it under a name of its own, or change something. */
import { expect, test } from "vitest";
import { controlledQueue, request, server } from "./support.js";

const url = "/api/builds";
const foreign = ["evil.example", "evil.example:3001", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example#localhost"];
const ours = ["localhost", "localhost:3001", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:3001", "[::1]:3001"];

test("on a loopback bind only this machine's names are answered, so that no name of another's leads here; probes always are", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const status = async (path: string, host: string) => (await app.inject({ url: path, headers: { host } })).statusCode;
  for (const host of ours) expect([host, await status(`${url}/stats`, host)]).toEqual([host, 200]);
  for (const host of foreign) {
    const refused = await app.inject({ method: "POST", url, headers: { host }, payload: request() });
    expect([host, refused.statusCode, refused.json().code]).toEqual([host, 403, "forbidden_host"]);
    for (const path of [`${url}/stats`, `${url}/nope`, "/", "/docs/", "/metrics", "/openapi.json"]) expect([host, path, await status(path, host)]).toEqual([host, path, 403]);
    for (const path of ["/livez", "/readyz"]) expect([host, path, await status(path, host)]).toEqual([host, path, 200]);
  }
  expect((await control.queue.stats()).totalCompleted + (await control.queue.stats()).totalQueued).toBe(0);
});

test("names that the operator allows are answered, beside this machine's; on another bind any is, unless there is a list", async () => {
  await using control = await controlledQueue();
  const status = async (settings: Parameters<typeof server>[1], host: string) => {
    await using app = await server(control.queue, settings);
    return (await app.inject({ url: `${url}/stats`, headers: { host } })).statusCode;
  };
  const list = ["builds.example", "other.example:8443"];
  for (const host of ["builds.example", "Builds.Example:9000", "other.example:8443", "localhost:3001"]) expect([host, await status({ allowedHosts: list }, host)]).toEqual([host, 200]);
  for (const host of ["other.example", "other.example:1", "x.builds.example"]) expect([host, await status({ allowedHosts: list }, host)]).toEqual([host, 403]);
  expect([await status({ host: "0.0.0.0" }, "any.example"), await status({ host: "0.0.0.0", allowedHosts: list }, "any.example"), await status({ host: "0.0.0.0", allowedHosts: list }, "builds.example")]).toEqual([200, 403, 200]);
});

test("a page of another site, or of a sibling, may change nothing; it may read what any page may, and this site's own may do all", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const changes = [["POST", url], ["POST", `${url}/batch`], ["POST", `${url}/pause`], ["POST", `${url}/chat/c/cancel`], ["PUT", `${url}/chat/c/policy`], ["DELETE", `${url}/chat/c`], ["POST", `${url}/keys`]] as const;
  for (const [method, path] of changes)
    for (const site of ["cross-site", "same-site"]) {
      const answer = await app.inject({ method, url: path, headers: { "sec-fetch-site": site }, payload: request() });
      expect([method, path, site, answer.statusCode, answer.json().code]).toEqual([method, path, site, 403, "cross_site_refused"]);
    }
  expect((await app.inject({ url: `${url}/stats`, headers: { "sec-fetch-site": "cross-site" } })).json().data).toMatchObject({ queuePaused: false, totalCompleted: 0 });
  for (const site of ["same-origin", "none", undefined]) expect((await app.inject({ method: "POST", url, headers: site ? { "sec-fetch-site": site } : {}, payload: request() })).statusCode).toBe(202);
});

test("a browser that says only the page's origin, as to a name that is not loopback without TLS, may change nothing from another's page", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue, { allowedHosts: ["builds.internal"], corsOrigins: ["http://app.internal"] });
  const pause = async (origin: string | undefined, host = "builds.internal", more: Record<string, string> = {}) =>
    (await app.inject({ method: "POST", url: `${url}/pause`, headers: { host, ...(origin === undefined ? {} : { origin }), ...more } })).json().code ?? "allowed";
  for (const origin of ["http://evil.example", "http://builds.internal.evil.example", "http://builds.internal:8080", "http://user@evil.example", "null", "file://", "", "builds.internal"]) {
    expect([origin, await pause(origin)]).toEqual([origin, "cross_site_refused"]);
    // Nobody says who forwards, and a page cannot take the key of another.
    expect([origin, await pause(origin, "builds.internal", { "x-forwarded-host": "evil.example", authorization: "Bearer x" })]).toEqual([origin, "cross_site_refused"]);
  }
  expect((await app.inject({ url: `${url}/stats`, headers: { host: "builds.internal", origin: "http://evil.example" } })).json().data).toMatchObject({ queuePaused: false });
  const own: [string | undefined, string][] = [["http://builds.internal", "builds.internal"], ["http://builds.internal", "BUILDS.internal:80"], ["http://builds.internal:3001", "builds.internal:3001"], ["https://builds.internal", "builds.internal:443"], ["http://[::1]:3001", "[::1]:3001"], ["http://app.internal", "builds.internal"], [undefined, "builds.internal"]];
  for (const [origin, host] of own) expect([origin, host, await pause(origin, host)]).toEqual([origin, host, "allowed"]);
  // A proxy with TLS may have another name than the service; then the browser says more, and no page can.
  expect(await pause("https://builds.example", "builds.internal", { "sec-fetch-site": "same-origin" })).toBe("allowed");
  expect(await pause("http://builds.internal", "builds.internal", { "sec-fetch-site": "same-site" })).toBe("cross_site_refused");
});
