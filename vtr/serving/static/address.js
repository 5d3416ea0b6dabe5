// What is wanted, as the page's address says it: addresses can be shared, and back and forward work.

const FILTERS = ["category", "min_seconds", "max_seconds", "has_speech"];

/**
 * Return what an address and its place in the history want.
 *
 * `words`, `similar` (an id) and `video` (a file's name; `upload` says which file) exclude one another.
 */
export function wantedNow() {
  const parameters = new URLSearchParams(location.search);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, parameters.get(name)]).filter(([, value]) => value));
  const [words, similar, video] = ["q", "similar", "video"].map((name) => parameters.get(name)?.trim() || null);
  const kept = history.state ?? {};
  if (video) return { video, upload: kept.upload ?? null, answers: answersOf(parameters.get("answers")), filters };
  return similar ? { similar, known: kept.known ?? null, filters } : { words, filters };
}

const answersOf = (text) => (text === "captions" ? "captions" : "videos");

/** Return the parameters of what is wanted, for the page's address. */
function addressOf({ words, similar, video, answers, filters }) {
  const parameters = new URLSearchParams();
  if (words) parameters.set("q", words);
  if (similar) parameters.set("similar", similar);
  if (video) parameters.set("video", video);
  if (answers === "captions") parameters.set("answers", answers);
  for (const [name, value] of Object.entries(filters)) parameters.set(name, value);
  return parameters.size ? `?${parameters}` : location.pathname;
}

/** Make a step in the history, none for what is shown; `place` is the result with the focus, for the way back. */
export function goTo(wanted, place) {
  const before = history.state ?? {};
  const here = location.search || location.pathname;
  if (addressOf(wanted) === here && (wanted.upload ?? null) === (before.upload ?? null)) return;
  history.replaceState({ ...before, place }, "");
  const state = { depth: (before.depth ?? 0) + 1, upload: wanted.upload ?? null, known: wanted.known ?? null };
  history.pushState(state, "", addressOf(wanted));
}
