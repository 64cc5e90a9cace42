// <input type="checkbox" data-refresh="#part" data-seconds="5"> fetches this very page, filters
// and all, and replaces one part of it. It rests while nobody looks or something in it is in use.
"use strict";

(() => {
  const box = document.querySelector("input[data-refresh]");
  if (!box) return;
  const selector = box.dataset.refresh;
  const key = `ccf-refresh ${location.pathname}`;

  const inUse = (part) => {
    const selection = document.getSelection();
    return (
      part.contains(document.activeElement) ||
      part.querySelector("input:checked") !== null ||
      (selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode))
    );
  };

  const refresh = async () => {
    const part = document.querySelector(selector);
    if (!box.checked || document.hidden || !part || inUse(part)) return;
    try {
      const response = await fetch(location.href, { credentials: "same-origin" });
      if (!response.ok || response.redirected) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.querySelector(selector);
      const current = document.querySelector(selector);
      if (fresh && current && !inUse(current)) current.replaceWith(document.adoptNode(fresh));
    } catch {
      // The server is being restarted: the next time will tell.
    }
  };

  box.checked = sessionStorage.getItem(key) === "on";
  box.addEventListener("change", () => {
    sessionStorage.setItem(key, box.checked ? "on" : "off");
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, Number(box.dataset.seconds) * 1000);
})();
