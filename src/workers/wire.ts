/**
 * The language of esbuild's service: packets of tagged values, little-endian, each with its length before it. It is not
 * documented; this follows lib/main.js of the pinned version, and test/workers/wire.test.ts holds the two together.
 */
export type Value = null | boolean | number | string | Uint8Array | Value[] | { [key: string]: Value };

export interface Packet {
  id: number;
  isRequest: boolean;
  value: Value;
}

/** What nobody reads: places' lines are taken from the submitted text. Of a bomb it is the largest part, so it is not even decoded. */
const skippedKeys = new Set(["lineText", "notes"]);

/** The packet with its length before it. Large byte arrays stay chunks of their own: nothing is copied. */
export function encodePacket({ id, isRequest, value }: Packet): Uint8Array[] {
  const out = writer();
  out.int((id << 1) | (isRequest ? 0 : 1));
  writeValue(out, value);
  const chunks = out.finish();
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32LE(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  return [length, ...chunks];
}

function writeValue(out: Writer, value: Value): void {
  if (value === null) out.byte(0);
  else if (typeof value === "boolean") out.byte(1), out.byte(value ? 1 : 0);
  else if (typeof value === "number") out.byte(2), out.int(value);
  else if (typeof value === "string") out.byte(3), out.text(value);
  else if (value instanceof Uint8Array) out.byte(4), out.bytes(value);
  else if (Array.isArray(value)) {
    out.byte(5);
    out.int(value.length);
    for (const one of value) writeValue(out, one);
  } else {
    const keys = Object.keys(value);
    out.byte(6);
    out.int(keys.length);
    for (const key of keys) out.text(key), writeValue(out, value[key] as Value);
  }
}

interface Writer {
  byte(value: number): void;
  int(value: number): void;
  text(value: string): void;
  bytes(value: Uint8Array): void;
  finish(): Uint8Array[];
}

const chunkBytes = 1024;
const copiedBytesMax = 16 * 1024;

function writer(): Writer {
  const done: Uint8Array[] = [];
  let buffer = Buffer.allocUnsafe(chunkBytes);
  let used = 0;
  const room = (bytes: number) => {
    if (used + bytes <= buffer.length) return;
    if (used > 0) done.push(buffer.subarray(0, used));
    buffer = Buffer.allocUnsafe(Math.max(chunkBytes, bytes));
    used = 0;
  };
  const int = (value: number) => {
    room(4);
    used = buffer.writeUInt32LE(value >>> 0, used);
  };
  return {
    byte(value) {
      room(1);
      buffer[used++] = value;
    },
    int,
    text(value) {
      const bytes = Buffer.byteLength(value);
      room(4 + bytes);
      used = buffer.writeUInt32LE(bytes, used);
      used += buffer.write(value, used);
    },
    bytes(value) {
      int(value.length);
      if (value.length <= copiedBytesMax) {
        room(value.length);
        buffer.set(value, used);
        used += value.length;
      } else {
        if (used > 0) done.push(buffer.subarray(0, used));
        done.push(value);
        buffer = Buffer.allocUnsafe(chunkBytes);
        used = 0;
      }
    },
    finish: () => (used > 0 ? [...done, buffer.subarray(0, used)] : done),
  };
}

/** Throws on anything malformed. Byte arrays are views into `bytes`. Objects have no prototype: a key may be `__proto__`. */
export function decodePacket(bytes: Buffer): Packet {
  let at = 0;
  const take = (count: number): number => {
    const from = at;
    at += count;
    if (at > bytes.length) throw new Error("The packet is cut off.");
    return from;
  };
  const int = () => bytes.readUInt32LE(take(4));
  const span = (): [number, number] => {
    const length = int();
    const from = take(length);
    return [from, from + length];
  };
  /** Each item has a byte at least, so a count beyond the rest is a lie. */
  const count = () => {
    const value = int();
    if (value > bytes.length - at) throw new Error("The packet is cut off.");
    return value;
  };
  const visit = (skip: boolean): Value => {
    switch (bytes[take(1)]) {
      case 0:
        return null;
      case 1:
        return bytes[take(1)] !== 0;
      case 2:
        return bytes.readInt32LE(take(4));
      case 3: {
        const [from, to] = span();
        return skip ? null : bytes.toString("utf8", from, to);
      }
      case 4: {
        const [from, to] = span();
        return bytes.subarray(from, to);
      }
      case 5: {
        const items: Value[] = [];
        for (let left = count(); left > 0; left--) items.push(visit(skip));
        return skip ? null : items;
      }
      case 6: {
        const object = Object.create(null) as { [key: string]: Value };
        for (let left = count(); left > 0; left--) {
          const [from, to] = span();
          const key = bytes.toString("latin1", from, to);
          const value = visit(skip || skippedKeys.has(key));
          if (!skip) object[key] = value;
        }
        return skip ? null : object;
      }
      default:
        throw new Error("The packet has a value of an unknown kind.");
    }
  };
  const head = int();
  const value = visit(false);
  if (at !== bytes.length) throw new Error("The packet goes on after its value.");
  return { id: head >>> 1, isRequest: (head & 1) === 0, value };
}

/** Cuts a stream into packets, each allocated once. A length over the bound is told before a byte of it is kept. */
export function splitPackets(bytesMax: number, { onPacket, onTooLarge }: { onPacket(bytes: Buffer): void; onTooLarge(bytes: number): void }): (chunk: Buffer) => void {
  const head = Buffer.allocUnsafe(4);
  let headUsed = 0;
  let packet: Buffer | null = null;
  let used = 0;
  let stopped = false;
  return (chunk) => {
    let at = 0;
    while (!stopped && at < chunk.length) {
      if (packet === null && headUsed === 0 && chunk.length - at >= 4) {
        // The common case: a small packet that came whole needs no copy.
        const length = chunk.readUInt32LE(at);
        if (length <= bytesMax && chunk.length - at - 4 >= length) {
          at += 4 + length;
          onPacket(chunk.subarray(at - length, at));
          continue;
        }
      }
      if (packet === null) {
        const taken = chunk.copy(head, headUsed, at, at + 4 - headUsed);
        headUsed += taken;
        at += taken;
        if (headUsed < 4) return;
        headUsed = 0;
        used = 0;
        const length = head.readUInt32LE();
        if (length > bytesMax) {
          stopped = true;
          return onTooLarge(length);
        }
        packet = Buffer.allocUnsafeSlow(length);
      }
      const taken = chunk.copy(packet, used, at, at + packet.length - used);
      used += taken;
      at += taken;
      if (used < packet.length) return;
      const whole: Buffer = packet;
      packet = null;
      onPacket(whole);
    }
  };
}
