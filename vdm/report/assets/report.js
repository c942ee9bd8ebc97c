"use strict";
/* Theme, sliders, filters, copying, and which section one reads. */
(() => {
  const root = document.documentElement, all = (selector, of = document) => [...of.querySelectorAll(selector)];
  root.classList.add("on");

  const theme = document.querySelector(".theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const say = () => theme.setAttribute("aria-pressed", isDark());
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    say();
    dispatchEvent(new Event("theme"));
  });
  system.addEventListener("change", say);
  say();

  for (const card of all(".frames")) {
    const slider = card.querySelector("input[type=range]"), frames = all(".frame", card);
    slider?.addEventListener("input", () => {
      frames.forEach((frame, k) => { frame.hidden = k !== Number(slider.value); });
      const { title } = frames[Number(slider.value)].dataset;
      slider.setAttribute("aria-valuetext", title);
      card.querySelector("output").textContent = title;
    });
  }

  for (const part of all(".filtered")) {
    const find = part.querySelector(".find"), only = part.querySelector(".only"), said = part.querySelector(".said");
    const rows = all("tbody tr", part), whole = said.textContent;
    const filter = () => {
      const word = find.value.trim().toLowerCase();
      let number = 0;
      for (const row of rows) {
        row.hidden = (only.checked && !row.classList.contains("changed")) || !row.textContent.toLowerCase().includes(word);
        number += !row.hidden;
      }
      said.textContent = number === rows.length ? whole : `${whole} ${number} shown.`;
    };
    only.checked = rows.some((row) => row.classList.contains("changed"));
    find.addEventListener("input", filter);
    only.addEventListener("change", filter);
    filter();
  }

  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      const text = button.closest(".command").querySelector("code").textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(button.closest(".command").querySelector("code"));
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link])), seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
    const first = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links) id === first ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-10% 0px -50% 0px" });
  for (const id of links.keys()) watch.observe(document.getElementById(id));
})();
