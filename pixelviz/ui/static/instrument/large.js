// Some views of the instrument over the whole window, in the type of a lecture room.
import { node, typeset } from "../page.js";

/**
 * @param {HTMLElement} host
 * @param {(keys: string[] | null) => void} show
 */
export function large(host, show) {
  const find = (name) => /** @type {HTMLElement} */ (host.querySelector(`.pvi-${name}`));
  const leave = find("leave"), head = find("head"), made = find("made");
  let back = null, left = null;

  // Everything round the instrument steps back, for fingers, keys and readers.
  function alone(on) {
    for (let at = host; at !== document.body && at.parentElement; at = at.parentElement)
      for (const other of at.parentElement.children)
        if (other !== at && !other.matches(".pv-show, .pv-number-note, .pv-gloss, script, style")) /** @type {HTMLElement} */ (other).inert = on;
  }

  /**
   * @param {string[] | null} keys the views; null for the page again
   * @param {{ title?: string, say?: string, made?: HTMLElement[], leave?: (() => void) | null }} about words above, and
   *   what else is shown; leave: what the button does instead of going back to the page
   */
  function scene(keys, about = {}) {
    const starts = keys && !host.classList.contains("pvi-scene");
    if (starts) back = document.activeElement;
    left = about.leave ?? null;
    host.classList.toggle("pvi-scene", !!keys);
    leave.hidden = !keys || !!host.ownerDocument.querySelector(".pv-show");
    const say = node("p");
    say.append(typeset(about.say ?? ""));
    head.replaceChildren(...(keys && about.title ? [node("h2", {}, about.title), say] : []));
    made.replaceChildren(...(about.made ?? []));
    made.hidden = !about.made?.length;
    find("stage").style.setProperty("--across", String(keys?.length || 1));
    find("time").hidden = !!keys && !keys.length;
    alone(!!keys);
    show(keys);
    if (starts) leave.focus();
    else if (!keys) back?.focus();
  }
  const out = () => (left ? left() : scene(null));
  leave.addEventListener("click", out);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || !host.classList.contains("pvi-scene")) return;
    event.preventDefault();
    out();
  });
  return scene;
}
