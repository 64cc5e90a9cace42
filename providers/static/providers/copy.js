// <button data-copy="#id" data-copied="Copied" hidden> copies the text of an element.
"use strict";

(() => {
  const status = document.querySelector("#ccf-copied");

  const copy = async (source) => {
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      // Outside https there is no clipboard: select the text, and copy the selection.
      const range = document.createRange();
      range.selectNodeContents(source);
      const selection = document.getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      document.execCommand("copy");
    }
  };

  for (const button of document.querySelectorAll("button[data-copy]")) {
    const words = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await copy(document.querySelector(button.dataset.copy));
      button.textContent = button.dataset.copied;
      if (status) status.textContent = button.dataset.copied;
      setTimeout(() => {
        button.textContent = words;
        if (status) status.textContent = "";
      }, 2000);
    });
  }
})();
