import { expect, test } from "vitest";
import { describeBrowser, openBrowser } from "./browser.js";

describeBrowser("a browser", () => {
  test("shows a page, and reaches nothing beyond this machine", async () => {
    await using browser = await openBrowser();
    const page = await browser.newPage();
    await page.setContent("<title>here</title>");
    expect(await page.title()).toBe("here");
    await expect(page.goto("http://example.org/", { timeout: 10_000 })).rejects.toThrow("ERR_NAME_NOT_RESOLVED");
  });
});
