// What is asked of the server, and what it says when it refuses.

const AWAY = "The server does not answer. Is `vtr serve` still running?";

/** The server refused, or did not answer: `status` is 0 then. The message is a sentence for the user. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/**
 * Return the JSON that an address answers with.
 *
 * Throws Refused, or the AbortError of `signal`.
 */
export async function ask(address, { signal } = {}) {
  let response, text;
  try {
    response = await fetch(address, { signal, headers: { Accept: "application/json" } });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, AWAY);
  }
  return bodyOf(response.status, text);
}

/**
 * Send a video to search with, and return what it finds.
 *
 * Args: told(share) hears how much of the file is sent, 0 to 1; `signal` cancels.
 * Throws Refused, or an AbortError.
 */
export function send(address, file, { signal, told }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch cannot say how much of a body it has sent
    const form = new FormData();
    form.append("file", file, file.name);
    request.open("POST", address);
    request.setRequestHeader("Accept", "application/json");
    request.upload.onprogress = (event) => told(event.total ? event.loaded / event.total : 0);
    request.upload.onload = () => told(1);
    request.onerror = () => reject(new Refused(0, AWAY));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onload = () => {
      try {
        resolve(bodyOf(request.status, request.responseText));
      } catch (error) {
        reject(error);
      }
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** Begin a session with a token; later requests, those of pictures and videos too, carry its cookie. */
export async function signIn(token) {
  let response;
  try {
    response = await fetch("session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  } catch {
    throw new Refused(0, AWAY);
  }
  if (!response.ok) bodyOf(response.status, await response.text());
}

function bodyOf(status, text) {
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Something between the page and vtr answered, in its own words.
  }
  if (status >= 200 && status < 300 && body !== null) return body;
  throw new Refused(status, sentenceOf(status, body?.detail));
}

function sentenceOf(status, detail) {
  if (typeof detail === "string" && detail) return detail;
  if (Array.isArray(detail)) return detail.map((one) => `${(one.loc ?? []).at(-1)}: ${one.msg}`).join(". ");
  return `The server answered with status ${status} and gave no reason.`;
}
