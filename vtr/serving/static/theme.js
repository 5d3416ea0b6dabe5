// Runs before anything is painted, so that a page kept dark is never light for a moment. page.js has the button.
"use strict";
try {
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  // A browser that keeps nothing for this page follows the system.
}
