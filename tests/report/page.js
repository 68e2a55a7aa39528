// A report in headless Chromium: opens without errors, sorts, filters, drills down, two branches side by side, by mouse
// and by keys, wide and narrow, light and dark and printed. Usage: node page.js CHROMIUM PAGE FOLDER, where playwright-core
// is found through NODE_PATH; screenshots go to FOLDER. Fails with what it expected.
"use strict";
const { chromium } = require("playwright-core");
const assert = require("node:assert/strict");
const path = require("node:path");

const [executablePath, file, folder] = process.argv.slice(2);
const address = "file://" + path.resolve(file);

const opened = async (browser, settings, work) => {
  const context = await browser.newContext(settings);
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) wrong.push(message.text()); });
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => { if (!/^(file|data|blob):/.test(request.url())) wrong.push("asked for " + request.url()); });
  await page.goto(address);
  await page.waitForSelector("html[data-ready]");
  await work(page);
  assert.deepEqual(wrong, [], "no errors, and nothing from a network");
  await context.close();
};

const shown = (page) => page.locator("#count").textContent();
const fits = async (page) => {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= window, `the page is ${wide} wide in a window of ${window}`);
};
const until = (page, test, value) => page.waitForFunction(test, value, { timeout: 10_000 });

const sorts = async (page) => {
  const names = () => page.locator("#headline tbody th").allTextContents();
  const heading = page.locator("#headline thead tr").nth(1).locator("th").first();
  await heading.locator("button").click();
  const down = await names();
  assert.equal(await heading.getAttribute("aria-sort"), "descending");
  await heading.locator("button").click();
  assert.deepEqual(await names(), [...down].reverse(), "the other way round");
  const score = page.locator("#headline thead tr").nth(1).locator("th").nth(1).locator("button");
  await score.click();
  const values = await page.locator("#headline tbody td:nth-child(2)").evaluateAll((cells) => cells.map((cell) => Number(cell.dataset.sort)));
  assert.deepEqual(values, [...values].sort((a, b) => b - a), "the largest first");
};

const filters = async (page) => {
  assert.equal(await shown(page), "8 of 8 judgments");
  await page.selectOption("#f-branch", "good");
  assert.equal(await shown(page), "4 of 8 judgments");
  const states = await page.locator("#f-state option").evaluateAll((options) => options.map((option) => option.value));
  assert.deepEqual(states, ["", "label wrong", "right reason", "spurious"]);
  await page.selectOption("#f-state", "right reason");
  assert.equal(await page.locator("#list tbody tr").count(), Number((await shown(page)).split(" ")[0]));
  await page.selectOption("#f-state", "");
  await page.selectOption("#f-branch", "");
  await page.fill("#f-text", "QUESTION 2");
  await until(page, () => document.getElementById("count").textContent.startsWith("2 of 8"));
  await page.fill("#f-text", "no such words");
  await until(page, () => document.getElementById("list").textContent.includes("Nothing matches"));
  await page.fill("#f-text", "");
  await until(page, () => document.getElementById("count").textContent.startsWith("8 of 8"));
};

const drills = async (page) => {
  await page.selectOption("#f-branch", "bad");
  await page.selectOption("#f-beside", "good");
  await page.locator("#list tbody button").first().click();
  const detail = page.locator("#detail");
  const text = await detail.textContent();
  for (const part of ["item-1", "question 1", "first answer to 1", "second answer to 1", "facts facts facts 1", "rambles"]) {
    assert.ok(text.includes(part), `the judgment shows ${part}: ${text}`);
  }
  assert.ok(text.includes("</script><img src=x onerror="), "what a judge wrote is text");
  assert.equal(await page.evaluate(() => window.broken), undefined, "and never ran");
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await detail.locator(".judged").count(), 2, "two branches side by side");
  assert.match(await detail.locator(".digest").first().textContent(), /^[0-9a-f]{64}$/);
  await page.check("#f-differ");
  assert.equal(await shown(page), "3 of 8 judgments");
  await page.uncheck("#f-differ");
};

const keys = async (page) => {
  const title = page.locator("#detail h3");
  await page.locator("#list tbody button").first().focus();
  await page.keyboard.press("Enter");
  assert.equal(await title.textContent(), "item-1");
  await page.keyboard.press("j");
  assert.equal(await title.textContent(), "item-2");
  await page.keyboard.press("k");
  assert.equal(await title.textContent(), "item-1");
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "f-text");
};

const named = async (page) => {
  const nameless = await page.evaluate(() => {
    const name = (one) => one.ariaLabel || one.textContent.trim() || (one.labels && [...one.labels].map((label) => label.textContent).join(""));
    return [...document.querySelectorAll("button, select, input, a, svg.chart")].filter((one) => !name(one)).map((one) => one.outerHTML);
  });
  assert.deepEqual(nameless, [], "everything that can be used has a name");
};

// WCAG's contrast of text with what is behind it.
const readable = async (page) => {
  const poor = await page.evaluate(() => {
    const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (one) => { for (; one; one = one.parentElement) { const colour = parts(getComputedStyle(one).backgroundColor); if (colour.length < 4 || colour[3] > 0) return colour; } return [255, 255, 255]; };
    const texts = [...document.querySelectorAll("h1, h2, p, th, td, a, .chip, .interval, figcaption, summary, label, h4")].filter((one) => one.textContent.trim() && one.checkVisibility());
    return texts.map((one) => { const [a, b] = [light(parts(getComputedStyle(one).color)), light(behind(one))]; return [one.className || one.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; }).filter(([, contrast]) => contrast < 4.5);
  });
  assert.deepEqual(poor, [], "text stands out from what is behind it");
};

const main = async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const picture = (page, name) => page.screenshot({ path: path.join(folder, name + ".png"), fullPage: true });
  await opened(browser, { viewport: { width: 1280, height: 900 }, colorScheme: "light" }, async (page) => {
    await fits(page); await sorts(page); await filters(page); await drills(page); await keys(page); await named(page); await readable(page);
    await picture(page, "wide");
    await page.emulateMedia({ media: "print" });
    assert.equal(await page.locator("#filters").isVisible(), false, "what cannot be used on paper is not printed");
    assert.equal(await page.locator("#headline table").isVisible(), true);
    await page.pdf({ path: path.join(folder, "print.pdf"), format: "A4" });
    await picture(page, "print");
  });
  await opened(browser, { viewport: { width: 400, height: 800 }, hasTouch: true }, async (page) => {
    await fits(page); await filters(page); await drills(page); await fits(page);
    await picture(page, "narrow");
  });
  await opened(browser, { viewport: { width: 1280, height: 900 }, colorScheme: "dark" }, async (page) => {
    const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await paper();
    await readable(page); await drills(page);
    await picture(page, "dark");
    await page.click("#theme");
    assert.notEqual(await paper(), dark, "the button changes to light");
  });
  await browser.close();
};

main().catch((error) => { console.error(error); process.exit(1); });
