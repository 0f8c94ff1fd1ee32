import { describe, expect, test } from "vitest";
import { cut, failedBuild } from "../../src/workers/diagnostics.js";
import { unwrapFence } from "../../src/workers/fence.js";
import { frame } from "../../src/workers/frame.js";

const limits = { outputBytesMax: 100, diagnosticsMax: 2, diagnosticTextCharsMax: 30, diagnosticLineCharsMax: 20, errorCharsMax: 400 };

describe("a fence", () => {
  test.each([
    ["```tsx\na\n```", "\na", "tsx"],
    ["```\na\n```", "\na", null],
    ["\n\n  ~~~ts title=x\na\nb\n~~~\nafter", "\n\n\na\nb", "ts"],
    ["````js\n```\n````", "\n```", "js"],
    ["```typescript\r\na\r\n```\r\n", "\r\na", "ts"],
    ["```tsx\ncut off", "\ncut off", "tsx"],
    ["```", "", null],
    ["```constructor\na\n```", "\na", null],
    ["\r\n \r\n\uFEFF~~~ \tcss `\n".replace("`", "x") + "a{}", "\r\n\r\n\na{}", "css"],
  ])("around %j is emptied", (text, code, loader) => {
    expect(unwrapFence(text)).toMatchObject({ code, loader });
  });

  test.each(["a\n```\nb\n```", "const s = `\n```tsx\n`", "`x`", "", "\n\n"])("is not seen in %j", (text) => {
    expect(unwrapFence(text)).toBeNull();
  });

  test("is looked for in linear time", () => {
    const blank = ["\n", "\r\n", "\r", " \r\n", "\uFEFF\n"].flatMap((one) => [one.repeat(300_000), `${one.repeat(300_000)}x`]);
    const openings = ["`", " ", "\t", "a", "`a", "~", "~ "].flatMap((one) => [`\`\`\`${one.repeat(100_000)}\``, `~~~${one.repeat(100_000)}\``, `\`\`\`\n\`\`\`${one.repeat(100_000)}x`]);
    for (const text of [...blank, ...openings, "\n".repeat(300_000), " ".repeat(300_000), "`".repeat(300_000), `\`\`\`${"\n".repeat(300_000)}`, `\`\`\`\n${"``` ".repeat(100_000)}`]) unwrapFence(text);
  }, 2_000);
});

describe("a frame", () => {
  const place = { severity: "error" as const, text: "No", file: "a.ts", line: 12, length: 2 };

  test("puts the caret under its character, behind tabs and wide characters too", () => {
    expect(frame({ ...place, column: 4, lineText: "\t𝄞xy" })).toBe("a.ts:12:4: error: No\n\n  12 | \t𝄞xy\n     | \t ^~");
  });

  test("shows the part of a long line that is meant", () => {
    const text = frame({ ...place, column: 5001, lineText: `${"a".repeat(5000)}XY${"b".repeat(5000)}` });
    const [, , line, caret] = text.split("\n");
    expect(line!.length).toBeLessThan(140);
    expect(line!.slice(caret!.indexOf("^"), caret!.indexOf("^") + 2)).toBe("XY");
    expect(caret!.endsWith("^~")).toBe(true);
  });
});

describe("messages", () => {
  const linesOf = (file: string) => (file === "a.ts" ? { lines: ["secretless line, longer than allowed"], last: 1 } : null);

  test("about files that were not submitted lose their text and place", () => {
    const outcome = failedBuild([{ text: 'Expected ";" but found "root"', location: { file: "../etc/passwd", line: 1, column: 0, length: 4 } }], linesOf, limits);
    expect(JSON.stringify(outcome)).not.toMatch(/root|passwd/);
  });

  test("without a place lose their text, and count only when alone", () => {
    const nowhere = { text: "Cannot read directory: too many open files", location: null };
    expect(failedBuild([nowhere], linesOf, limits)).toMatchObject({ failure: { message: "The build failed for a reason that has no place in the code." } });
    expect(failedBuild([nowhere, { text: "x", location: { file: "a.ts", line: 1, column: 0, length: 1 } }], linesOf, limits)).toMatchObject({ failure: { diagnostics: [{ text: "x" }] } });
  });

  test("are cut, and their lines", () => {
    const message = { text: "y".repeat(99), location: { file: "a.ts", line: 1, column: 0, length: 1 } };
    const outcome = failedBuild([message, message, message], linesOf, limits);
    if (outcome.kind !== "failed") throw new Error("built");
    expect(outcome.failure.diagnostics).toHaveLength(2);
    expect(outcome.failure.diagnostics[0]!.text).toHaveLength(30);
    expect(outcome.failure.diagnostics[0]!.lineText).toHaveLength(20);
    expect(outcome.error).toContain("1 more error is not shown");
    expect(cut("ab𝄞c", 4)).toBe("ab…");
  });
});
