// Asks for the server's token where it wants one.

import { Refused, signIn } from "./requests.js";
import { byId, tell } from "./dom.js";

let asking = null;

/** Do what needs the server; where it wants a token, ask for it and do it again. Throws what `work` throws. */
export async function authorised(work) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (error.status !== 401) throw error;
      asking ??= askForToken().finally(() => (asking = null));
      if (!(await asking)) throw error;
    }
  }
}

/** Return whether a session began; false where the user would rather not. */
function askForToken() {
  const dialog = byId("sign-in");
  const form = dialog.querySelector("form");
  const token = byId("token");
  const listening = new AbortController();
  const { signal } = listening;
  tell(byId("sign-in-why"), "");
  dialog.showModal();
  return new Promise((resolve) => {
    let signedIn = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await signIn(token.value);
        signedIn = true;
        dialog.close();
      } catch (error) {
        tell(byId("sign-in-why"), error instanceof Refused ? error.message : "This token cannot be sent.");
        token.select();
      }
    }, { signal });
    byId("sign-in-cancel").addEventListener("click", () => dialog.close(), { signal });
    dialog.addEventListener("close", () => {
      token.value = "";
      listening.abort();
      resolve(signedIn);
    }, { signal });
  });
}
