// Plays one card at a time, without sound, its best moment over and over.

import { make, tell, videoAddress } from "./dom.js";

const SHORTEST_SECONDS = 1;

/** A video that repeats a hit's best moment, the whole where it has none. It asks for nothing before `play`. */
export class Preview {
  #video = null;
  #card = null;

  /** Whether a card's video is playing, or about to. */
  shows(card) {
    return this.#card === card;
  }

  /** Play a card's video in its thumbnail; another one that played stops. */
  play(card, hit) {
    if (this.shows(card) || !hit.has_file) return;
    this.stop();
    const video = make("video");
    Object.assign(video, { muted: true, playsInline: true, loop: true, preload: "auto" });
    video.disablePictureInPicture = true;
    video.setAttribute("aria-hidden", "true");
    const start = hit.moment?.start_seconds ?? 0;
    const end = hit.moment ? Math.max(hit.moment.end_seconds, start + SHORTEST_SECONDS) : Infinity;
    const begin = () => {
      const to = Math.min(start, Math.max(0, (video.duration || start) - SHORTEST_SECONDS));
      if (video.currentTime !== to) video.currentTime = to;
    };
    video.addEventListener("loadedmetadata", begin);
    video.addEventListener("timeupdate", () => {
      if (video.currentTime >= end || video.currentTime < start - 1) begin();
    });
    video.addEventListener("playing", () => card.classList.add("playing"));
    video.addEventListener("error", () => {
      if (!this.shows(card)) return;
      tell(card.querySelector(".note"), "This browser cannot play this video");
      this.stop();
    });
    video.src = videoAddress(hit.video_id);
    this.#video = video;
    this.#card = card;
    card.querySelector(".thumb").prepend(video);
    video.play().catch(() => {}); // the error event says why, or it was stopped before it began
  }

  /** Stop what plays, and let go of its connection. */
  stop() {
    if (!this.#card) return;
    this.#card.classList.remove("playing");
    const video = this.#video;
    this.#card = this.#video = null;
    video.remove();
    video.pause();
    video.removeAttribute("src");
    video.load();
  }
}
