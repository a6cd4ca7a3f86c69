"use strict";
// Whoever comes near a point of a drawing is told what it stands for, and sees it in all others.
(() => {
  const NEAR = 24;  // pixels
  const texts = JSON.parse(document.getElementById("tips").textContent);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);

  function show(key, x, y) {
    for (const marked of document.querySelectorAll(".on")) marked.classList.remove("on");
    tip.hidden = !(key in texts);
    if (tip.hidden) return;
    for (const same of document.querySelectorAll(`[data-key="${CSS.escape(key)}"]`)) {
      same.classList.add("on");
    }
    tip.textContent = texts[key];
    const width = document.documentElement.clientWidth;
    tip.style.left = `${Math.max(8, Math.min(x + 12, width - tip.offsetWidth - 8))}px`;
    const fits = y + 16 + tip.offsetHeight < innerHeight;
    tip.style.top = `${fits ? y + 16 : Math.max(8, y - tip.offsetHeight - 12)}px`;
  }

  function nearest(svg, x, y) {
    const place = svg.getScreenCTM();
    let key = null;
    let least = NEAR ** 2;
    for (const point of svg.querySelectorAll("circle[data-key]")) {
      const across = place.a * point.cx.baseVal.value + place.e - x;
      const down = place.d * point.cy.baseVal.value + place.f - y;
      const distance = across ** 2 + down ** 2;
      if (distance < least) [key, least] = [point.dataset.key, distance];
    }
    return key;
  }

  document.addEventListener("pointerdown", () => show(null));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show(null);
  });
  for (const svg of document.querySelectorAll("svg.drawing")) {
    if (!svg.querySelector("circle[data-key]")) continue;
    const ask = (event) => {
      show(nearest(svg, event.clientX, event.clientY), event.clientX, event.clientY);
      event.stopPropagation();  // what was asked for by a finger stays until it asks again
    };
    svg.addEventListener("pointermove", ask);
    svg.addEventListener("pointerdown", ask);
    svg.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") show(null);
    });
  }
  for (const row of document.querySelectorAll("tr[data-key]")) {
    row.tabIndex = 0;
    const ask = () => {
      const box = row.getBoundingClientRect();
      show(row.dataset.key, box.left, box.bottom - 12);
    };
    row.addEventListener("pointerenter", ask);
    row.addEventListener("focus", ask);
    row.addEventListener("pointerleave", () => show(null));
    row.addEventListener("blur", () => show(null));
  }
})();
