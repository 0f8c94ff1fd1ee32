/**
 * Requests and answers over the wire, both ways: we ask esbuild's service for builds, it asks us what imports mean. The
 * first packet is its version, and another one than ours ends the talk: a protocol that nobody promises is spoken with
 * the one version that it was read from, or not at all.
 */
import { decodePacket, encodePacket, splitPackets } from "./wire.js";
import type { Packet, Value } from "./wire.js";

/** The version in package.json, exactly. */
export const engineVersion = "0.28.2";

export type Fields = { [key: string]: Value };

export interface Channel {
  /** Feed it all that the service writes. */
  read(chunk: Buffer): void;
  /** Never settles when the service dies: whoever owns the process settles what was asked of it. */
  request(value: Fields, onQuestion?: Answerer): Promise<Fields>;
}

/** What the service asks during a build. */
export type Answerer = (question: Fields) => Fields | Promise<Fields>;

export interface ChannelNeeds {
  write(chunks: Uint8Array[]): void;
  /** Of one packet. */
  bytesMax: number;
  /** The service said what it must not say; nothing more is read. */
  onBroken(why: "too_large" | "malformed" | "other_version"): void;
}

export function openChannel({ write, bytesMax, onBroken }: ChannelNeeds): Channel {
  const waiting = new Map<number, (value: Fields) => void>();
  const answerers = new Map<number, Answerer>();
  let nextId = 0;
  let greeted = false;
  let broken = false;

  const fail = (why: Parameters<ChannelNeeds["onBroken"]>[0]) => {
    if (broken) return;
    broken = true;
    onBroken(why);
  };
  const answer = (id: number, value: Fields) => void (broken || write(encodePacket({ id, isRequest: false, value })));

  function hear({ id, isRequest, value }: Packet): void {
    if (!isFields(value)) return fail("malformed");
    if (!isRequest) {
      const settle = waiting.get(id);
      waiting.delete(id);
      return settle ? settle(value) : fail("malformed");
    }
    if (value["command"] === "ping") return answer(id, {});
    const answerer = typeof value["key"] === "number" ? answerers.get(value["key"]) : undefined;
    // A question about a build that has ended already: nobody waits for what it says.
    if (!answerer) return answer(id, {});
    const said = answerer(value);
    if (said instanceof Promise) said.then((later) => answer(id, later), () => fail("malformed"));
    else answer(id, said);
  }

  const read = splitPackets(bytesMax, {
    onTooLarge: () => fail("too_large"),
    onPacket(bytes) {
      if (broken) return;
      if (!greeted) {
        greeted = true;
        return bytes.toString("latin1") === engineVersion ? undefined : fail("other_version");
      }
      let packet: Packet;
      try {
        packet = decodePacket(bytes);
      } catch {
        return fail("malformed");
      }
      hear(packet);
    },
  });

  return {
    read: (chunk) => void (broken || read(chunk)),
    request: (value, onQuestion) =>
      new Promise((resolve) => {
        const id = nextId++;
        if (onQuestion) answerers.set(id, onQuestion);
        waiting.set(id, (said) => {
          answerers.delete(id);
          resolve(said);
        });
        if (!broken) write(encodePacket({ id, isRequest: true, value: { ...value, key: id } }));
      }),
  };
}

const isFields = (value: Value): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
