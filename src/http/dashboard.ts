/**
 * The dashboard as a plugin for any Fastify application: a page, its script and its style sheet, and a frame for previews.
 * It asks nobody but the queue's own routes for anything, and its policy lets it do nothing else.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import type { FastifyInstance } from "fastify";
import { BuildlaneError } from "../errors.js";
import { handleError, sendError } from "./errors.js";

export interface DashboardOptions {
  /** Where the page is, such as `/queue`; the root unless said. */
  prefix?: string | undefined;
  /** Where the queue's routes are, as the browser reaches them. */
  api?: string | undefined;
  /** Shows no buttons. It does not refuse anything by itself: give `readOnly` to the routes, or keys that may only read. */
  readOnly?: boolean | undefined;
}

interface Asset {
  type: string;
  content: Buffer;
  gzip: Buffer;
}
interface Assets {
  script: string;
  style: string;
  files: Map<string, Asset>;
  preview: string;
  previewPolicy: string;
}

/** The build's folder, or that of a checkout whose page was bundled for tests. */
const folders = [new URL("../../dashboard/", import.meta.url), new URL("../../.cache/dashboard/", import.meta.url)];

/* No inline script or style, no other host, no frame but the preview's, nobody's frame around it. */
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

function readAssets(): Assets {
  const folder = folders.find((one) => existsSync(fileURLToPath(new URL("manifest.json", one))));
  if (!folder) throw new BuildlaneError("not_found", "The dashboard is not part of this build, as its packages are for development only. Install them (`npm ci`, without --omit=dev) and start again, or use the packed package, which holds it. The API is there all the same, and documented at /docs.");
  const file = (name: string) => readFileSync(new URL(name, folder));
  const { script, style } = JSON.parse(file("manifest.json").toString()) as { script: string; style: string };
  const asset = (name: string, type: string): [string, Asset] => [name, { type: `${type}; charset=utf-8`, content: file(name), gzip: gzipSync(file(name)) }];
  const code = file("preview.js").toString();
  const hash = createHash("sha256").update(code).digest("base64");
  return {
    script, style,
    files: new Map([asset(script, "text/javascript"), asset(style, "text/css")]),
    preview: `<!doctype html><html lang="en"><meta charset="utf-8"><title>Preview</title><body><div id="root"></div><script type="module">${code}</script></body></html>`,
    // Somebody's built code runs here: without an origin, a network, forms, or anything of ours.
    previewPolicy: `sandbox allow-scripts; default-src 'none'; script-src 'sha256-${hash}' blob: 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'`,
  };
}

const page = ({ script, style }: Assets, base: string, config: object): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Buildlane</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%232b5bd7' stroke-width='3' stroke-linecap='round'%3E%3Cpath d='M3 6h11M3 12h18M3 18h7'/%3E%3C/svg%3E">
<link rel="stylesheet" href="${base}assets/${style}">
<script type="application/json" id="config">${JSON.stringify(config).replaceAll("<", "\\u003c")}</script>
<script type="module" src="${base}assets/${script}"></script>
</head>
<body><div id="app"></div><noscript>The dashboard needs JavaScript. The queue's API is documented at /docs.</noscript></body>
</html>
`;

/** Unless by `q=0` (RFC 9110, 12.5.3). */
const takesGzip = (accepted: string | string[] | undefined): boolean => String(accepted ?? "").split(",").some((one) => /^\s*gzip\s*(;|$)/i.test(one) && !/;\s*q=0(\.0*)?\s*$/i.test(one));

/** `await app.register(dashboard, { prefix: "/queue", api: "/api/builds" })`. */
export async function dashboard(app: FastifyInstance, { api = "/api/builds", readOnly = false }: DashboardOptions = {}): Promise<void> {
  const base = `${app.prefix.replace(/\/$/, "")}/`;
  let assets: Assets | undefined;
  const load = (): Assets => (assets ??= readAssets());
  app.setErrorHandler(handleError);

  const open = { schema: { hide: true }, exposeHeadRoute: true } as const;
  app.get("/", open, (_request, reply) =>
    reply
      .headers({ "content-security-policy": policy, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin", "cache-control": "no-cache" })
      .type("text/html; charset=utf-8")
      .send(page(load(), base, { api, base, readOnly })),
  );
  app.get("/preview", open, (_request, reply) => reply.headers({ "content-security-policy": load().previewPolicy, "x-content-type-options": "nosniff", "cache-control": "no-cache" }).type("text/html; charset=utf-8").send(load().preview));
  app.get<{ Params: { name: string } }>("/assets/:name", open, (request, reply) => {
    const file = load().files.get(request.params.name);
    if (!file) return sendError(new BuildlaneError("not_found", "There is no such file of the dashboard."), request, reply);
    // The name is made from the content.
    reply.headers({ "cache-control": "public, max-age=31536000, immutable", vary: "accept-encoding", "x-content-type-options": "nosniff" }).type(file.type);
    return takesGzip(request.headers["accept-encoding"]) ? reply.header("content-encoding", "gzip").send(file.gzip) : reply.send(file.content);
  });
}
