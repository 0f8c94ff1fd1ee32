/**
 * A page's own code: submit, follow, show. It needs `buildlane/client` only, which brings no server code along; bundle it
 * with your page (`esbuild --bundle --format=esm`). Give it a token for the page's chat, never an API key.
 */
import { createClient, ClientError } from "buildlane/client";

export interface Page {
  url: string;
  chatId: string;
  token?: string;
  show(line: string): void;
}

export async function build({ url, chatId, token, show }: Page, code: string): Promise<string | null> {
  const client = createClient({ url, ...(token === undefined ? {} : { apiKey: token }) });
  try {
    // What the page asked for before is not wanted any more.
    const job = await client.submit({ chatId, messageId: "editor", code, supersede: "running" });
    const done = await client.waitFor(job.id, { onEvent: ({ type }) => show(type) });
    if (done.status === "completed") return done.result;
    show(done.error);
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    show(`${error.code}: ${error.message}`);
  }
  return null;
}
