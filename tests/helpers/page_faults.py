"""What a browser finds wrong with a page at a width, light or dark."""

from __future__ import annotations

from typing import Any

WIDTHS = (400, 1400)
SCHEMES = ("light", "dark")

FAULTS = """
const faults = [], still = document.createElement("style");
still.textContent = "*, *::before, *::after { transition: none !important }";
document.head.append(still);  // colours are those that a reader ends up with
const root = document.documentElement, width = root.clientWidth;
if (root.scrollWidth > width + 1) faults.push(`the page is ${root.scrollWidth} pixels wide`);
for (const image of document.images)
  if (image.complete && !image.naturalWidth) faults.push(`no picture: ${image.src.slice(0, 80)}`);

// WCAG 2: relative luminance, and 4.5 between text and what is behind it (3 where it is large).
const numbers = colour => {
  const found = colour.match(/^rgba?\\(([^)]+)\\)$/);
  return found && found[1].split(/[ ,/]+/).map(Number);
};
const over = (front, back) => {
  const alpha = front[3] ?? 1;
  return [0, 1, 2].map(i => alpha * front[i] + (1 - alpha) * back[i]);
};
const luminance = colour => {
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = colour.map(v => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const dark = matchMedia("(prefers-color-scheme: dark)").matches
  && getComputedStyle(root).colorScheme.includes("dark");
const behind = element => {
  if (!element) return dark ? [18, 18, 18] : [255, 255, 255];
  const own = numbers(getComputedStyle(element).backgroundColor);
  const below = behind(element.parentElement);
  return own && own[3] !== 0 ? over(own, below) : below;
};
if (matchMedia("(prefers-color-scheme: dark)").matches && luminance(behind(document.body)) > 0.4)
  faults.push("bright in the dark");
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = new Set();
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
  if (!text || seen.has(element) || !element.checkVisibility({opacityProperty: true})) continue;
  seen.add(element);
  if (element.closest("svg, script, style, [aria-hidden=true]")) continue;
  const style = getComputedStyle(element), colour = numbers(style.color);
  if (!colour || !element.getClientRects().length) continue;
  const back = behind(element);
  for (let e = element; e; e = e.parentElement)
    colour[3] = (colour[3] ?? 1) * Number(getComputedStyle(e).opacity);
  const [a, b] = [luminance(over(colour, back)), luminance(back)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05), size = parseFloat(style.fontSize);
  if (ratio < (size >= 24 || (size >= 18.6 && style.fontWeight >= 700) ? 3 : 4.5))
    faults.push(`contrast ${ratio.toFixed(1)}: ${text.slice(0, 40)}`);
}
return faults;
"""


def faults(browser: Any, address: str, schemes=SCHEMES, widths=WIDTHS) -> list[str]:
    """What is wrong with a page: too wide, no picture, unreadable text, light in dark mode."""
    found = []
    for scheme in schemes:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(address)
        for width in widths:
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            told = browser.execute_script(FAULTS)
            found += [f"{address} at {width}, {scheme}: {fault}" for fault in told]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    return found
