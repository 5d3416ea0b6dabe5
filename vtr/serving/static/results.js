// The results as cards: what each shows, what plays, and the keys that move between them.

import { clock, copyOf, stretch, tell, thumbnailAddress } from "./dom.js";
import { Preview } from "./preview.js";
import { fillBar, gain } from "./shares.js";

const HOVER_MS = 120; // what the pointer only passes does not play
const still = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * The list of results.
 *
 * Args: `actions` are `open(place)`, `similar(hit)`, and `leave()` for the keys that lead back to the search box.
 */
export class Results {
  hits = [];
  #preview = new Preview();
  #waiting = 0;

  constructor(list, actions) {
    this.list = list;
    this.actions = actions;
    list.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show these hits instead of those before. */
  show(hits) {
    this.stop();
    this.hits = [];
    this.list.replaceChildren();
    this.append(hits);
    this.list.setAttribute("aria-busy", "false");
  }

  /** Show further hits below. */
  append(hits) {
    const longest = Math.max(...this.hits.map(gain), ...hits.map(gain), 0);
    const before = this.hits.length;
    this.hits.push(...hits);
    this.list.append(...hits.map((hit, offset) => this.#card(hit, before + offset, longest)));
  }

  /** Show that results are on their way. */
  expect() {
    this.stop();
    this.hits = [];
    this.list.setAttribute("aria-busy", "true");
    this.list.replaceChildren(...Array.from({ length: 12 }, () => copyOf("skeleton")));
  }

  /** Put the focus on a result; false where there is none at that place. */
  focus(place, options) {
    const thumb = this.list.children[place]?.querySelector("button.thumb");
    thumb?.focus(options);
    return Boolean(thumb);
  }

  /** Stop what plays. */
  stop() {
    clearTimeout(this.#waiting);
    this.#preview.stop();
  }

  #card(hit, place, longest) {
    const card = copyOf("card");
    const find = (kind) => card.querySelector("." + kind);
    const thumb = find("thumb");
    const title = hit.caption || hit.video_id;
    thumb.setAttribute("aria-label", `Play result ${hit.rank}: ${title}`);
    find("rank").textContent = hit.rank;
    find("caption").textContent = title;
    find("id").textContent = hit.video_id;
    find("score").textContent = hit.score.toFixed(3);
    find("score").title = "score";
    tell(find("category"), hit.category);
    tell(find("length"), hit.duration_seconds == null ? "" : clock(hit.duration_seconds));
    const how = hit.snippet?.expert === "ocr" ? "shows" : "says";
    tell(find("snippet"), hit.snippet && `${how} “${hit.snippet.text}”`);
    find("similar").setAttribute("aria-label", `More like result ${hit.rank}: ${title}`);
    this.#moment(find("when"), find("track"), hit);
    fillBar(find("weights"), hit, longest);
    if (hit.has_file) thumb.prepend(picture(hit, card));
    else tell(find("note"), "The server has no file of this video");
    this.#listen(card, hit, place);
    return card;
  }

  /** Say and draw where in the video its best moment lies; nothing where that is the whole of it. */
  #moment(when, track, { moment, duration_seconds: duration }) {
    const share = (seconds) => Math.min(100, Math.max(0, (100 * seconds) / duration));
    const [start, end] = duration > 0 && moment ? [share(moment.start_seconds), share(moment.end_seconds)] : [0, 100];
    const whole = duration > 0 && end - start > 95;
    tell(when, moment && !whole ? stretch(moment) : "");
    when.title = "best moment";
    track.hidden = end - start > 95;
    track.firstChild.style.left = `${Math.min(start, 97)}%`;
    track.firstChild.style.width = `${Math.max(3, end - start)}%`;
  }

  #listen(card, hit, place) {
    const play = () => this.#preview.play(card, hit);
    const stop = () => {
      clearTimeout(this.#waiting);
      if (this.#preview.shows(card)) this.#preview.stop();
    };
    const thumb = card.querySelector(".thumb");
    card.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "touch" || still.matches) return;
      clearTimeout(this.#waiting);
      this.#waiting = setTimeout(play, HOVER_MS);
    });
    card.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && stop());
    thumb.addEventListener("focus", () => thumb.matches(":focus-visible") && !still.matches && play());
    thumb.addEventListener("blur", stop);
    card.addEventListener("click", (event) => {
      if (event.target.closest(".similar")) return this.actions.similar(hit);
      const onThumb = event.target.closest(".thumb");
      const first = event.pointerType === "touch" && hit.has_file && !this.#preview.shows(card);
      if (first && onThumb) return play();
      if (onThumb || !getSelection().toString()) this.actions.open(place); // who marks words wants to copy them
    });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const card = event.target.closest(".card");
    const place = [...this.list.children].indexOf(card);
    if (place < 0 || !this.hits.length) return;
    const columns = this.#columns();
    const last = this.hits.length - 1;
    const places = {
      ArrowLeft: place - 1, ArrowRight: place + 1, ArrowUp: place - columns,
      ArrowDown: Math.floor(place / columns) < Math.floor(last / columns) ? Math.min(place + columns, last) : place,
      Home: 0, End: last,
    };
    if (event.key in places) {
      if (places[event.key] < 0 && event.key === "ArrowUp") this.actions.leave();
      else this.focus(Math.min(Math.max(places[event.key], 0), last));
    } else if (event.key.toLowerCase() === "m") this.actions.similar(this.hits[place]);
    else return;
    event.preventDefault();
  }

  #columns() {
    const cards = [...this.list.children];
    const below = cards.findIndex((card) => card.offsetTop > cards[0].offsetTop);
    return below < 0 ? cards.length : below;
  }
}

function picture(hit, card) {
  const image = new Image(480, 320);
  image.alt = "";
  image.loading = "lazy";
  image.decoding = "async";
  image.addEventListener("error", () => image.remove());
  image.addEventListener("load", () => card.classList.add("pictured"));
  image.src = thumbnailAddress(hit.video_id, hit.moment?.start_seconds);
  return image;
}
