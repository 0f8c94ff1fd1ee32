/** Asks one address as fast as 50 connections can, each request for one of a thousand chats; prints figures as JSON. */
import autocannon from "autocannon";

const [url, seconds] = process.argv.slice(2);
const requests = Array.from({ length: 1000 }, (_, index) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ chatId: `chat${index}`, messageId: `m${index}`, code: "export default 1" }) }));
await autocannon({ url, connections: 50, duration: 2, requests });
const result = await autocannon({ url, connections: 50, duration: Number(seconds), requests });
process.stdout.write(JSON.stringify({ requestsPerSecond: result.requests.average, p50Ms: result.latency.p50, p99Ms: result.latency.p99, refused: result.non2xx, failed: result.errors }));
