// Shows the results of a connection test on the page of its form, instead of in a new tab.
"use strict";

(() => {
  const button = document.querySelector("button[data-test]");
  if (!button) return;
  const results = document.querySelector(button.dataset.test);

  button.addEventListener("click", async (event) => {
    event.preventDefault();
    const words = button.textContent;
    button.disabled = true;
    button.textContent = results.textContent = button.dataset.busy;
    try {
      const response = await fetch(button.formAction, {
        method: "POST",
        body: new FormData(button.form),
        headers: { "x-ccf-part": "1" },
        credentials: "same-origin",
      });
      // Made by our own template, which escapes what providers say.
      if (response.ok) results.innerHTML = await response.text();
      else results.textContent = `${response.status} ${response.statusText}`;
    } catch (error) {
      results.textContent = String(error);
    }
    button.disabled = false;
    button.textContent = words;
  });
})();
