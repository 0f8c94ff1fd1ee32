/** Settings as flags: what each takes, and what it leaves to the next. */
import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { withSettings } from "../../src/cli/settings-flags.js";
import { flagOf, readSettings, settings } from "../../src/options.js";
import type { SettingName } from "../../src/options.js";

const read = (...args: string[]) => readSettings({}, withSettings(new Command("serve").exitOverride()).parse(args, { from: "user" }).opts());
const booleans = Object.entries(settings).filter(([, { default: fallback }]) => fallback === "true" || fallback === "false").map(([name]) => name);

describe("settings as flags", () => {
  it.each(booleans)("%s alone is true, takes true or false, and leaves the next flag alone", (name) => {
    const flag = flagOf(name as SettingName);
    expect(read(flag, "--port", "4000")).toMatchObject({ [name]: true, port: 4000 });
    for (const [text, value] of [["true", true], ["false", false]] as const) {
      expect(read(flag, text, "--port", "4000")).toMatchObject({ [name]: value, port: 4000 });
      expect(read(`${flag}=${text}`)).toMatchObject({ [name]: value });
    }
    expect(() => read(flag, "perhaps")).toThrow("true or false");
  });
});
