/** Asks one address as fast as so many connections can, each request for one of a thousand chats; prints a line when it is warm, and then figures as JSON. */
import autocannon from "autocannon";

const [url, seconds, connections = "50"] = process.argv.slice(2);
const requests = Array.from({ length: 1000 }, (_, index) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ chatId: `chat${index}`, messageId: `m${index}`, code: "export default 1" }) }));
await autocannon({ url, connections: Number(connections), duration: 2, requests });
process.stdout.write("warm\n");
const cpu = process.cpuUsage();
const result = await autocannon({ url, connections: Number(connections), duration: Number(seconds), requests });
const { user, system } = process.cpuUsage(cpu);
process.stdout.write(`${JSON.stringify({ requestsPerSecond: result.requests.average, p50Ms: result.latency.p50, p99Ms: result.latency.p99, refused: result.non2xx, failed: result.errors, requests: result.requests.total, askingUs: user + system })}\n`);
