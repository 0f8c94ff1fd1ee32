import { readFileSync, readdirSync } from "node:fs";
import { transform } from "esbuild";
import * as xstate from "xstate";
import type { AnyStateMachine, AnyStateNode } from "xstate";
import { describe, expect, it } from "vitest";
import * as machines from "../../machines/index.js";

const folder = new URL("../../machines/", import.meta.url);
const files = readdirSync(folder).filter((file) => file.endsWith(".machine.ts"));
const all: AnyStateMachine[] = Object.values(machines);
const nodes = (node: AnyStateNode): AnyStateNode[] => [node, ...Object.values(node.states).flatMap(nodes)];

/** What a visual tool does: strip the types, drop the import of xstate, run the rest, and catch what is made. */
async function evaluateAlone(file: string): Promise<{ imports: string[]; made: AnyStateMachine[] }> {
  const { code } = await transform(readFileSync(new URL(file, folder), "utf8"), { loader: "ts", format: "esm", tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } } });
  const imports = [...code.matchAll(/from\s+"([^"]+)"/g)].map((match) => match[1] as string);
  const body = code.replaceAll(/^import .*$/gm, "").replaceAll(/^export \{[\s\S]*?\};?$/gm, "").replaceAll(/^export /gm, "");
  const made: AnyStateMachine[] = [];
  const catching = { ...xstate, setup: (config: never) => ({ createMachine: (definition: never) => made[made.push((xstate.setup(config) as { createMachine(one: never): AnyStateMachine }).createMachine(definition)) - 1] }) };
  new Function(...Object.keys(catching), body)(...Object.values(catching));
  return { imports, made };
}

describe.each(files)("%s", (file) => {
  it("evaluates alone, with xstate as its only value import, and makes one machine", async () => {
    const { imports, made } = await evaluateAlone(file);
    expect(imports).toEqual(["xstate"]);
    expect(made).toHaveLength(1);
    expect(made[0]?.id).toBe(file.replace(".machine.ts", ""));
  });
});

describe.each(all.map((machine) => [machine.id, machine] as const))("the %s machine", (_, machine) => {
  it("describes every state", () => {
    expect(nodes(machine.root).filter((node) => !(node === machine.root ? machine.config.description : node.description)).map((node) => node.id)).toEqual([]);
  });

  it("says of every transition what it means", () => {
    const transitions = nodes(machine.root).flatMap((node) => [...node.transitions.values()].flat().concat(node.always ?? []));
    expect(transitions.filter(({ description }) => !description).map(({ source, eventType }) => `${source.id}: ${eventType}`)).toEqual([]);
  });

  it("listens to every event that it declares", () => {
    const declared = [...readFileSync(new URL(`${machine.id}.machine.ts`, folder), "utf8").matchAll(/^ {2}\| \{ type: "([\w.]+)"/gm)].map(([, type]) => type);
    expect(declared.length).toBeGreaterThan(4);
    expect(declared.filter((type) => !machine.events.includes(type))).toEqual([]);
  });

  it("names everything: no inline action or guard, and every delay exists", () => {
    const transitions = nodes(machine.root).flatMap((node) => [...node.transitions.values()].flat().concat(node.always ?? []));
    const unnamed = transitions.filter((one) => typeof one.guard === "function" || one.actions.some((action) => typeof action === "function" && !("type" in action)));
    expect(unnamed).toEqual([]);
    const delays = nodes(machine.root).flatMap((node) => Object.keys(node.config.after ?? {}));
    expect(delays.filter((delay) => !(delay in machine.implementations.delays))).toEqual([]);
  });
});
