// A page outlives its server: when that comes back, restarted, the page is loaded again with the state in its address,
// and with the pictures that kept.js has.

const PAUSE = 4000; // milliseconds between two looks; an answer takes the server a fraction of one

/**
 * Looks from now on whether the server is still the one that this page came from.
 * @param {(lines: string[]) => void} say shows a message for a while
 */
export function watch(say) {
  const config = /** @type {any} */ (window).gradio_config;
  const address = `${new URL(config?.root || "/", location.href).pathname.replace(/\/$/, "")}/gradio_api/app_id`;
  async function look() {
    if (document.visibilityState === "visible") {
      try {
        const answer = await fetch(address, { cache: "no-store" });
        if (answer.ok && (await answer.json()).app_id !== config.app_id) location.reload();
      } catch {
        say(["The server does not answer. As soon as it does, this page is loaded again and goes on where it is."]);
      }
    }
    setTimeout(look, PAUSE);
  }
  setTimeout(look, PAUSE);
}
