// Videos brought to the page: dropped anywhere or chosen, checked, and sent with progress.

import { byId, bytes } from "./dom.js";
import { Refused, send } from "./requests.js";

/** Hear of every video that is dropped or chosen: `take(file, answers)`; answers is null where it was not said. */
export function watchFiles(take) {
  const chooser = byId("file");
  byId("pick").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    const [file] = chooser.files;
    if (file) take(file, null);
    chooser.value = ""; // so that the same file can be chosen again
  });
  const drop = byId("drop");
  const withFile = (event) => event.dataTransfer?.types.includes("Files");
  const aim = (zone) => drop.querySelectorAll(".zone").forEach((one) => one.classList.toggle("aimed", one === zone));
  addEventListener("dragenter", (event) => {
    if (withFile(event) && !document.querySelector("dialog[open]")) drop.hidden = false;
  });
  addEventListener("dragover", (event) => {
    if (!withFile(event)) return;
    event.preventDefault(); // else the browser leaves the page for the file
    aim(event.target.closest?.(".zone"));
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!withFile(event)) return;
    event.preventDefault();
    drop.hidden = true;
    const [file] = event.dataTransfer.files;
    const zone = event.target.closest?.(".zone");
    if (file && !document.querySelector("dialog[open]")) take(file, zone?.dataset.answers ?? null);
  });
}

/** Return why a file cannot be sent to a gallery's server, null where it can. */
export function objection(file, gallery) {
  if (!gallery.uploads) return "This server takes no videos to search with.";
  if (!file.size) return `${file.name} is empty.`;
  if (/^(text|image|audio)\/(?!gif)/.test(file.type)) return `${file.name} is no video but ${file.type}.`;
  const most = gallery.max_upload_bytes;
  if (most && file.size > most) {
    return `${file.name} has ${bytes(file.size)}; this server takes videos of up to ${bytes(most)}.`;
  }
  return null;
}

/** Send a file and return what it finds; the page shows how far it is. Throws as `send` does. */
export async function sendShown(file, answers, limit, signal) {
  const parameters = new URLSearchParams({ k: limit, answers });
  const bar = byId("sending-bar");
  const told = (share) => {
    byId("sending-how").textContent =
      share < 1 ? `${bytes(file.size * share)} of ${bytes(file.size)} sent` : "sent; the server is watching it…";
    if (share < 1) bar.value = share;
    else bar.removeAttribute("value");
  };
  byId("sending-name").textContent = file.name;
  told(0);
  byId("sending").hidden = false;
  try {
    return await send(`search/video?${parameters}`, file, { signal, told });
  } finally {
    if (!signal.aborted) byId("sending").hidden = true;
  }
}

/** A file that was searched with before the page was loaded anew. */
export const forgotten = (name) =>
  new Refused(0, `${name} was searched with before this page was loaded. Choose it again to search with it.`);
