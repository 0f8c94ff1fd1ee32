/**
 * A vitest reporter: the run in one line, `123 passed, 0 failed, 2 skipped`, the last that is printed. Under CI a skip
 * fails the run unless it is listed here with its reason.
 */

/** @type {{ test: RegExp, reason: string }[]} `test` matches `file > group > test`. */
const allowedSkips = [{ test: /\(not here: .+?\)(?= > |$)/, reason: "its caller says why and has printed it: a store that cannot do it, or a package or a Node that .ci/run could not bring" }];

export const closingLine = ({ passed, failed, skipped }) => `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;

/** @param {{ passed: number, failed: number, skips: string[] }} run */
export function summarize({ passed, failed, skips }, inCi, allowed = allowedSkips) {
  const refused = inCi ? skips.filter((name) => !allowed.some(({ test }) => test.test(name))) : [];
  return { passed, failed: failed + refused.length, skipped: skips.length - refused.length, refused };
}

export default class ClosingReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const run = { passed: 0, failed: unhandledErrors.length, skips: [] };
    for (const module of modules) {
      // A file that could not be loaded, or a hook outside a test that threw, has no failed test to show for it.
      run.failed += module.errors().length;
      for (const suite of module.children.allSuites()) run.failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === "passed") run.passed += 1;
        else if (state === "skipped") run.skips.push(`${module.relativeModuleId} > ${test.fullName}`);
        else run.failed += 1;
      }
    }
    const summary = summarize(run, Boolean(process.env.CI));
    if (summary.failed > 0) process.exitCode = 1;
    // scripts/test.mjs prints it after everything else; without that, this process does when it ends.
    if (process.send) process.send({ summary });
    else process.once("exit", () => print(summary));
  }
}

export function print(summary) {
  for (const name of summary.refused) process.stdout.write(`Skipped, and not on the list in scripts/closing-reporter.mjs: ${name}\n`);
  process.stdout.write(`${closingLine(summary)}\n`);
}
