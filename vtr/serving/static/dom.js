// Small helpers that the other files share: elements, addresses, and how numbers and times are written.

/** Return the element of that id. */
export const byId = (id) => document.getElementById(id);

/** Return a new element; its text is text, whatever it holds. */
export function make(name, text = "", kind = "") {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

/** Return a copy of what a template holds. */
export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** Show an element with a text, or hide it where the text is empty. */
export function tell(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

/** Return the address of a gallery video; ids may hold slashes. */
export const videoAddress = (id) => "videos/" + pathOf(id);

/** Return the address of a picture of a gallery video, at a time in seconds where one is given. */
export function thumbnailAddress(id, seconds) {
  return "thumbnails/" + pathOf(id) + (seconds == null ? "" : "?at=" + seconds.toFixed(2));
}

/** Return an id as part of an address. */
export const pathOf = (id) => id.split("/").map(encodeURIComponent).join("/");

/** Return a number with its thousands apart. */
export const grouped = (number) => new Intl.NumberFormat("en").format(number);

/** Return "24 videos", "1 video". */
export const several = (number, one) => `${grouped(number)} ${one}${number === 1 ? "" : "s"}`;

/** Return seconds as a clock shows them: 0:07, 12:30, 1:02:05. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60];
  if (whole >= 3600) parts.unshift(Math.floor(whole / 3600));
  return parts.map((part, place) => (place ? String(part).padStart(2, "0") : String(part))).join(":");
}

/** Return a moment as a stretch of time: 0:03–0:06. */
export function stretch(moment) {
  const start = Math.floor(moment.start_seconds);
  const end = Math.max(start + 1, Math.round(moment.end_seconds));
  return `${clock(start)}–${clock(end)}`;
}

/** Return how large a file is, in words. */
export function bytes(size) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const step = size < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(size) / 10));
  const number = size / 1024 ** step;
  return `${step && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[step]}`;
}
