// Keeps "in 12 min" true. The figures were made by providers/phrases.py; so are these.
"use strict";

(() => {
  const span = (seconds) => {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 90) return `${whole} s`;
    const minutes = Math.round(whole / 60);
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
    const days = Math.round(hours / 24);
    return days === 1 ? "1 day" : `${days} days`;
  };
  // The server's sentence, with its time taken out: "in {}" in whatever language.
  const tick = () => {
    for (const element of document.querySelectorAll(".ccf-countdown[data-until]")) {
      const left = Number(element.dataset.until) - Date.now() / 1000;
      element.dataset.words ??= element.textContent.replace(/\d.*$/, "{}");
      element.textContent = element.dataset.words.replace("{}", span(left));
    }
  };
  setInterval(tick, 1000);
})();
