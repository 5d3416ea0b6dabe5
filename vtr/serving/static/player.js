// The larger player: one result with sound and controls, and all that is known of it.

import { byId, clock, make, stretch, tell, thumbnailAddress, videoAddress } from "./dom.js";
import { fillTable } from "./shares.js";

/** The player's dialog over a list of results. `similar(hit)` is called for "more like this". */
export class Player {
  #place = 0;
  #dialog = byId("player");
  #video = byId("player-video");

  constructor(results, similar) {
    this.results = results;
    this.similar = similar;
    byId("player-close").addEventListener("click", () => this.close());
    byId("player-previous").addEventListener("click", () => this.#step(-1));
    byId("player-next").addEventListener("click", () => this.#step(1));
    byId("player-moment").addEventListener("click", () => this.#toMoment());
    byId("player-similar").addEventListener("click", () => this.#similar());
    this.#dialog.addEventListener("click", (event) => event.target === this.#dialog && this.close());
    this.#dialog.addEventListener("close", () => this.#closed());
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    this.#video.addEventListener("loadedmetadata", () => {
      if (this.#hit.moment) this.#video.currentTime = this.#hit.moment.start_seconds;
    });
    this.#video.addEventListener("timeupdate", () => this.#repeat());
    this.#video.addEventListener("ended", () => this.#repeat());
    this.#video.addEventListener("error", () => this.#unplayable());
  }

  get #hit() {
    return this.results.hits[this.#place];
  }

  /** Open the result at a place of the list, and play it from its best moment. */
  open(place) {
    this.results.stop();
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#show(place);
  }

  /** Close it; the focus goes to the result that was shown. */
  close() {
    this.#dialog.close();
  }

  #show(place) {
    this.#place = place;
    const hit = this.#hit;
    byId("player-place").textContent = `Result ${place + 1} of ${this.results.hits.length}`;
    byId("player-previous").disabled = place === 0;
    byId("player-next").disabled = place === this.results.hits.length - 1;
    byId("player-title").textContent = hit.caption || hit.video_id;
    byId("player-similar").setAttribute("aria-label", `More like ${hit.video_id}`);
    this.#facts(hit);
    this.#snippet(hit);
    fillTable(byId("player-shares"), hit);
    this.#load(hit);
  }

  #load(hit) {
    const video = this.#video;
    const moment = byId("player-moment");
    video.hidden = !hit.has_file;
    moment.hidden = byId("player-loop").hidden = !(hit.has_file && hit.moment);
    byId("player-file").hidden = !hit.has_file;
    tell(byId("player-note"), hit.has_file ? "" : "The server has no file of this video.");
    if (!hit.has_file) return this.#unload();
    if (hit.moment) moment.querySelector("span").textContent = `Best moment ${stretch(hit.moment)}`;
    byId("player-file").href = videoAddress(hit.video_id);
    video.poster = thumbnailAddress(hit.video_id, hit.moment?.start_seconds);
    video.src = videoAddress(hit.video_id);
    video.setAttribute("aria-label", `Video ${hit.video_id}`);
    video.play().catch(() => {}); // a browser may want a click first: the controls are there
  }

  #unload() {
    this.#video.pause();
    this.#video.removeAttribute("src");
    this.#video.removeAttribute("poster");
    this.#video.load();
  }

  #unplayable() {
    if (!this.#video.hasAttribute("src")) return;
    tell(byId("player-note"), "This browser cannot play this video. Download it to see it in another player.");
    byId("player-moment").hidden = byId("player-loop").hidden = true;
  }

  #facts(hit) {
    const facts = {
      Video: hit.video_id,
      Rank: String(hit.rank),
      Score: hit.score.toFixed(4),
      "Best moment": hit.moment && stretch(hit.moment),
      Duration: hit.duration_seconds == null ? null : clock(hit.duration_seconds),
      Category: hit.category,
      Speech: hit.has_speech ? "yes" : null,
    };
    const known = Object.entries(facts).filter(([, value]) => value);
    byId("player-facts").replaceChildren(...known.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  }

  #snippet({ snippet }) {
    const quote = byId("player-snippet");
    quote.hidden = !snippet;
    if (!snippet) return;
    const how = snippet.expert === "ocr" ? "shown" : "said";
    const when = snippet.start_seconds == null ? "" : ` at ${clock(snippet.start_seconds)}`;
    quote.querySelector("p").textContent = `“${snippet.text}”`;
    quote.querySelector("footer").textContent = how + when;
  }

  #toMoment() {
    this.#video.currentTime = this.#hit.moment.start_seconds;
    this.#video.play().catch(() => {});
  }

  #repeat() {
    const moment = this.#dialog.open && this.#hit?.moment;
    if (!moment || !byId("player-loop").firstElementChild.checked) return;
    if (this.#video.ended || this.#video.currentTime >= moment.end_seconds) this.#toMoment();
  }

  #step(by) {
    const place = this.#place + by;
    if (place >= 0 && place < this.results.hits.length) this.#show(place);
  }

  #similar() {
    const hit = this.#hit;
    this.close();
    this.similar(hit);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.toLowerCase() === "m") this.#similar();
    else if (event.target === this.#video) return; // its own keys: arrows seek
    else if (event.key === "ArrowLeft") this.#step(-1);
    else if (event.key === "ArrowRight") this.#step(1);
  }

  #closed() {
    this.#unload();
    this.results.focus(this.#place);
  }
}
