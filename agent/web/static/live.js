// Live values: the server sends names and texts, and each is put in its place. Without this file
// the page shows the values of the moment at which it was loaded.
"use strict";
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
// a field below a choice: who fills it in has chosen it
for (const field of document.querySelectorAll("input[data-chooses]")) {
  field.addEventListener("input", () => {
    const radio = document.querySelector(`input[type=radio][value="${CSS.escape(field.dataset.chooses)}"]`);
    if (radio) radio.checked = true;
  });
}
(() => {
  const from = document.body.dataset.live;
  if (!from || !window.EventSource) return;
  const source = new EventSource(from);
  source.addEventListener("values", (event) => {
    for (const [name, text] of Object.entries(JSON.parse(event.data))) {
      for (const place of document.querySelectorAll(`[data-value="${CSS.escape(name)}"]`)) {
        if (place instanceof HTMLProgressElement) { if (place.max > 1) place.value = Number(text); }
        else if (place.textContent !== text) place.textContent = text;
      }
    }
  });
  // what has changed is more than values: load the page again, unless somebody is typing
  source.addEventListener("changed", () => {
    const at = document.activeElement;
    if (!at || !["INPUT", "SELECT", "TEXTAREA"].includes(at.tagName)) location.reload();
  });
  source.addEventListener("over", () => { source.close(); location.reload(); });
  addEventListener("pagehide", () => source.close());
})();
