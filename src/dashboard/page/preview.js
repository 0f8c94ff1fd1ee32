// Inside the frame without an origin: runs the code it is given, and tells what it prints.
const say = (line) => parent.postMessage({ line }, "*");
const show = (value) => (typeof value === "string" ? value : value instanceof Error ? String(value) : (JSON.stringify(value) ?? String(value)));
for (const level of ["log", "info", "warn", "error"]) console[level] = (...values) => say(values.map(show).join(" "));
addEventListener("error", (event) => say(String(event.message)));
addEventListener("unhandledrejection", (event) => say(String(event.reason)));
addEventListener("message", async (event) => {
  if (event.source !== parent) return;
  const url = URL.createObjectURL(new Blob([event.data.code], { type: "text/javascript" }));
  try {
    const module = await import(url);
    const names = Object.keys(module);
    if (names.length > 0) say(`exports ${names.join(", ")}`);
  } catch (error) {
    say(`It does not run here: ${error}`);
  }
});
parent.postMessage({ type: "ready" }, "*");
