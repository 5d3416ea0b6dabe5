// The page: what is asked for, what is found, and what went wrong.

import { goTo, wantedNow } from "./address.js";
import { ask, Refused } from "./requests.js";
import { byId, make, pathOf, several, tell, thumbnailAddress } from "./dom.js";
import { filtersNow, offerFilters, showFilters, watchFilters } from "./filters.js";
import { Player } from "./player.js";
import { Results } from "./results.js";
import { setExperts } from "./shares.js";
import { authorised } from "./sign_in.js";
import { watchTheme } from "./theme_button.js";
import { forgotten, objection, sendShown, watchFiles } from "./upload.js";

const STEP = 24; // results at a time
const MOST = 96; // the server answers up to 100
const SKELETON_MS = 150; // an answer that is faster changes the page once, not twice
const TITLES = {
  0: "No answer",
  401: "Not signed in",
  404: "Not found",
  413: "Too large",
  415: "Not a video",
  429: "The server is busy",
  503: "The server is busy",
  504: "That took too long",
};

const words = byId("words");
const actions = { open: (place) => player.open(place), similar, leave: () => words.focus() };
const results = new Results(byId("results"), actions);
const player = new Player(results, similar);
const uploads = []; // {file, found: answers -> what the server found}: nothing is watched twice
let gallery = null;
let wanted = wantedNow();
let asked = new AbortController();
let limit = STEP;

/** Ask the server for what is wanted. Throws Refused, or an AbortError. */
async function find(signal) {
  if (wanted.video) return findByUpload(signal);
  const parameters = new URLSearchParams({ k: limit, ...wanted.filters });
  if (wanted.words) parameters.set("q", wanted.words);
  return ask((wanted.similar ? `similar/${pathOf(wanted.similar)}?` : "search?") + parameters, { signal });
}

async function findByUpload(signal) {
  const upload = uploads[wanted.upload];
  if (!upload) throw forgotten(wanted.video);
  const { file, found } = upload;
  if (!found.has(wanted.answers)) {
    const { answers } = wanted;
    found.set(answers, await sendShown(file, answers, STEP, signal));
  }
  return found.get(wanted.answers);
}

/** Show what the address wants, from the first result on. `typed` is what the search box keeps if it wants nothing. */
async function show(typed = "") {
  asked.abort();
  const mine = (asked = new AbortController());
  wanted = wantedNow();
  limit = STEP;
  showQuestion(typed);
  byId("further").hidden = byId("notice").hidden = byId("sending").hidden = true;
  const anything = wanted.words || wanted.similar || wanted.video;
  if (!anything || !gallery.videos) return welcome();
  byId("status").textContent = "Searching…";
  results.stop();
  byId("results").setAttribute("aria-busy", "true");
  const skeleton = setTimeout(() => results.expect(), SKELETON_MS);
  try {
    const body = await authorised(() => find(mine.signal));
    clearTimeout(skeleton);
    if (!mine.signal.aborted) present(body);
  } catch (error) {
    clearTimeout(skeleton);
    if (error.name !== "AbortError" && !mine.signal.aborted) refuse(error);
  }
}

function present(body) {
  results.show(body.results);
  const one = wanted.answers === "captions" ? "caption" : "video";
  const filtered = Object.keys(wanted.filters).length && !wanted.video;
  const order = wanted.words && body.order && body.order !== "score" ? `, in the order of ${body.order}` : "";
  byId("status").textContent = `${several(body.results.length, one)} ${question()}${order}`;
  byId("legend").hidden = !body.results.some((hit) => Object.keys(hit.shares ?? {}).length);
  if (!body.results.length) {
    const text = filtered ? "No video passes these filters." : "The gallery answered with nothing.";
    notice("Nothing found", text, { small: gallery.finds, buttons: filtered ? { "Clear filters": clearFilters } : {} });
  }
  offerMore(body.results.length);
  if (body.gallery !== gallery.gallery) loadGallery().catch(() => {}); // it grew; the answer is right all the same
}

function question() {
  if (wanted.words) return `for “${wanted.words}”`;
  if (wanted.similar) return `like ${wanted.similar}`;
  return `${wanted.answers === "captions" ? "for" : "like"} ${wanted.video}`;
}

function offerMore(answered) {
  byId("further").hidden = Boolean(wanted.video) || answered < limit || limit >= MOST;
}

async function further() {
  const { signal } = asked;
  const button = byId("further");
  const shown = results.hits.length;
  button.disabled = true;
  limit += STEP;
  try {
    const body = await authorised(() => find(signal));
    if (signal.aborted) return;
    results.append(body.results.slice(shown));
    byId("status").textContent = `${several(results.hits.length, "video")} ${question()}`;
    offerMore(body.results.length);
    results.focus(shown);
  } catch (error) {
    if (error.name === "AbortError") return;
    limit -= STEP;
    byId("status").textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

function showQuestion(typed) {
  const asking = Boolean(wanted.words || wanted.similar || wanted.video);
  document.title = asking ? `Videos ${question()} · vtr` : "vtr: search videos";
  document.body.classList.toggle("asking", asking);
  words.value = wanted.words ?? typed;
  showFilters(wanted.filters, gallery.videos > 0 && !wanted.video);
  const { file } = uploads[wanted.upload] ?? {};
  byId("asked").hidden = !(wanted.similar || file);
  byId("answers").hidden = !wanted.video || !gallery.captions;
  for (const radio of document.getElementsByName("answers")) radio.checked = radio.value === wanted.answers;
  const picture = byId("asked-picture");
  picture.querySelectorAll("video").forEach((video) => URL.revokeObjectURL(video.src));
  picture.replaceChildren();
  if (byId("asked").hidden) return;
  byId("asked-how").textContent = file ? "Searching with" : `More like ${wanted.similar}`;
  byId("asked-name").textContent = file ? file.name : wanted.known?.caption || wanted.similar;
  if (!file && wanted.known?.has_file === false) return;
  const shown = file ? make("video") : new Image();
  shown.addEventListener("error", () => shown.remove());
  if (file) shown.muted = true;
  else shown.alt = "";
  shown.src = file ? URL.createObjectURL(file) : thumbnailAddress(wanted.similar, wanted.known?.seconds);
  picture.append(shown);
}

function welcome() {
  results.show([]);
  byId("status").textContent = "";
  byId("legend").hidden = true;
  if (!gallery.videos) {
    const how = "`vtr ingest RUN FOLDER` adds a folder of videos.";
    return notice("Nothing to search yet", how, { small: gallery.gallery });
  }
  const parts = [several(gallery.videos, "video"), gallery.captions && several(gallery.captions, "caption")];
  const drop = gallery.uploads ? " Drop a video anywhere on this page to search with it." : "";
  const place = gallery.gallery.replace(/^(the library): .*/, "$1"); // how many it holds is said
  const small = `${[...parts, place].filter(Boolean).join(" · ")}.${drop}`;
  notice("", gallery.finds || "Describe what happens in a video, in a sentence.", { small });
}

function refuse(error) {
  if (!(error instanceof Refused)) throw error;
  results.show([]);
  byId("status").textContent = "";
  byId("legend").hidden = true;
  const lost = wanted.video && !uploads[wanted.upload];
  const title = lost ? "The video is not here any more" : TITLES[error.status] ?? "That did not work";
  const again = { "Try again": gallery ? () => show() : start };
  const buttons = lost ? { "Choose a video": () => byId("pick").click() } : again;
  if (Object.keys(wanted.filters).length && !wanted.video) buttons["Clear filters"] = clearFilters;
  notice(title, error.message, { bad: true, buttons });
}

function notice(title, text, { small = "", buttons = {}, bad = false }) {
  const place = byId("notice");
  tell(place.querySelector("h2"), title);
  place.querySelector(".text").textContent = text;
  tell(place.querySelector(".small"), small);
  const made = Object.entries(buttons).map(([label, action]) => {
    const button = make("button", label, "plain framed");
    button.addEventListener("click", action);
    return button;
  });
  place.querySelector(".buttons").replaceChildren(...made);
  place.classList.toggle("bad", bad);
  place.setAttribute("role", bad ? "alert" : "note");
  place.hidden = false;
}

async function go(next, place = null) {
  goTo(next, place);
  await show();
}

async function similar(hit) {
  const known = { caption: hit.caption, has_file: hit.has_file, seconds: hit.moment?.start_seconds ?? null };
  scrollTo({ top: 0 });
  await go({ similar: hit.video_id, known, filters: wanted.filters }, results.hits.indexOf(hit));
  results.focus(0, { preventScroll: true });
}

async function take(file, answers) {
  const why = objection(file, gallery);
  if (why) return (byId("status").textContent = why);
  const kind = gallery.captions ? answers ?? wanted.answers ?? "videos" : "videos";
  uploads.push({ file, found: new Map() });
  await go({ video: file.name, upload: uploads.length - 1, answers: kind, filters: wanted.filters });
}

const clearFilters = () => go({ ...wanted, filters: {} });

function back() {
  if (!(wanted.similar || wanted.video) || !history.state?.depth) return words.focus();
  history.back();
}

async function loadGallery() {
  gallery = await authorised(() => ask("gallery"));
  setExperts(gallery.experts);
  offerFilters(gallery);
  byId("size").textContent = several(gallery.videos, "video");
  byId("size").title = `${gallery.gallery}. ${gallery.finds}`;
  byId("pick").hidden = !(gallery.uploads && gallery.videos);
  document.querySelector(".zone[data-answers=captions]").hidden = !gallery.captions;
}

async function start() {
  try {
    await loadGallery();
  } catch (error) {
    return refuse(error);
  }
  return show(words.value);
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches?.("input:not([type=radio], [type=checkbox]), select, textarea");
  if (event.key === "ArrowDown" && event.target === words) {
    if (results.focus(0)) event.preventDefault();
  } else if (typing) return;
  else if (event.key === "Escape") back();
  else if (event.key === "?") byId("keys").showModal();
  else if (event.key === "/") {
    event.preventDefault();
    words.focus();
    words.select();
  }
}

function listen() {
  watchTheme();
  watchFiles(async (file, answers) => {
    await started;
    if (gallery) take(file, answers);
  });
  watchFilters(() => {
    const filters = filtersNow();
    if (filters) go({ ...wanted, filters });
  }, clearFilters);
  byId("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = words.value.trim();
    await started; // who types faster than the gallery comes is answered all the same
    if (gallery && text) go({ words: text, filters: wanted.filters });
    else if (gallery) byId("status").textContent = "Type what to look for, for example: a man is cooking.";
  });
  byId("answers").addEventListener("change", (event) => go({ ...wanted, answers: event.target.value }));
  byId("drop-asked").addEventListener("click", () => {
    go({ words: null, filters: wanted.filters });
    words.focus();
  });
  byId("cancel").addEventListener("click", () => history.back());
  byId("further").addEventListener("click", further);
  byId("show-keys").addEventListener("click", () => byId("keys").showModal());
  addEventListener("keydown", keys);
  addEventListener("popstate", async () => {
    if (!gallery) return;
    byId("player").close();
    const place = history.state?.place;
    await show();
    if (place != null) results.focus(place);
  });
}

const started = start();
listen();
