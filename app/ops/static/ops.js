// The page refreshes by htmx. This keeps what a reader has opened, says aloud only what has changed, and never lets an
// old page pass for a new one. Without it, and without htmx, the page is the same after "load again".
"use strict";

let seen = null;
let open = [];

function says() {
  const verdict = document.getElementById("verdict-says");
  return verdict ? verdict.textContent : "";
}

let said = says();

document.body.addEventListener("htmx:beforeSwap", (event) => {
  document.getElementById("stale").hidden = true;
  if (event.detail.serverResponse === seen) {
    event.detail.shouldSwap = false; // nothing moves under a reader's eyes, or under a selection
    return;
  }
  seen = event.detail.serverResponse;
  open = [...document.querySelectorAll("details[open]")].map((details) => details.id);
});

document.body.addEventListener("htmx:afterSwap", () => {
  for (const id of open) {
    const details = document.getElementById(id);
    if (details) details.open = true;
  }
  if (says() !== said) {
    said = says();
    document.getElementById("announced").textContent = said;
  }
});

for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.body.addEventListener(name, () => {
    document.getElementById("stale").hidden = false;
  });
}
