// Drives the page of the service `files` in Chromium: node files_browser.mjs URL USER PASSWORD
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { chromium } = createRequire(new URL("../../../webui/package.json", import.meta.url))("playwright-core");
const [url, username, password] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const dir = await mkdtemp(join(tmpdir(), "cell-files-"));
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const context = await browser.newContext({ httpCredentials: { username, password }, acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  const status = (text) => page.getByRole("status").filter({ hasText: text }).waitFor();
  const row = (name) => page.getByRole("row").filter({ hasText: name });

  await page.goto(url);
  await page.getByText("Nothing is here yet.").waitFor();
  assert.equal(await page.locator("#who").textContent(), username);

  // A folder, into it, and files, one with a name that would be markup.
  await page.getByRole("button", { name: "New folder" }).click();
  await page.getByRole("textbox").fill("Holiday");
  await page.getByRole("button", { name: "OK" }).click();
  await status("Making Holiday: done");
  await page.getByRole("link", { name: "Holiday/" }).click();
  await page.getByText("Nothing is here yet.").waitFor();
  const first = join(dir, "first.txt");
  const markup = join(dir, "<img src=x onerror=alert(1)> %41#.txt");
  await writeFile(first, "hello");
  await writeFile(markup, "<script>document.title = 'taken'</script>");
  await page.locator("#chosen").setInputFiles([first, markup]);
  await row("first.txt").waitFor();
  await row("onerror").waitFor();
  assert.match(await row("first.txt").innerText(), /5 bytes/);

  // Replaced only when said so.
  await writeFile(first, "hello again");
  await page.locator("#chosen").setInputFiles([first]);
  await page.getByText("Replace first.txt?").waitFor();
  await page.getByRole("button", { name: "OK" }).click();
  await page.getByText("11 bytes").waitFor();

  // Renamed, read back, the other deleted.
  await page.getByRole("button", { name: "Rename first.txt" }).click();
  await page.getByRole("textbox").fill("second.txt");
  await page.getByRole("button", { name: "OK" }).click();
  await status("Renaming first.txt: done");
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "second.txt" }).click(),
  ]);
  assert.equal(await readFile(await download.path(), "utf8"), "hello again");
  await page.getByRole("button", { name: /^Delete .*onerror/ }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await row("onerror").waitFor();
  await page.getByRole("button", { name: /^Delete .*onerror/ }).click();
  await page.getByRole("button", { name: "OK" }).click();
  await status(": done");
  await row("onerror").waitFor({ state: "detached" });

  // Back by the path, and what was uploaded gets no origin of ours.
  await page.getByRole("navigation").getByRole("link", { name: username }).click();
  await page.getByRole("link", { name: "Holiday/" }).waitFor();
  const policy = (await context.request.get(`${url}dav/${username}/Holiday/second.txt`)).headers();
  assert.match(policy["content-security-policy"], /^sandbox;/);
  assert.deepEqual(faults, []);
  console.log("the page works");
} finally {
  await browser.close();
  await rm(dir, { recursive: true });
}
