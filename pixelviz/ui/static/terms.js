// Words that are not school mathematics, each explained in one sentence where it stands: by mouse, touch and keyboard.
import { words } from "./language.js";
import { node, over, typeset } from "./page.js";

const WHERE = ".pv-intro p, .pvi-title h2, .pv-instrument figcaption b, .pvi-facts dt span, .pvi-slider b";

/** Marks the terms of the page, now and as it grows. */
export function start() {
  /** @type {RegExp} */
  let pattern;
  let canonical = new Map(); // a term as it stands on the page, in small letters: its key
  function read() {
    const names = Object.entries(words().terms).sort(([, a], [, b]) => b.length - a.length);
    pattern = new RegExp(`(?<![\\w_-])(${names.map(([, name]) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})(?![\\w_])`, "i");
    canonical = new Map(names.map(([key, name]) => [name.toLowerCase(), key]));
  }
  read();
  document.addEventListener("pv:language", read);
  const note = node("div", { class: "pv-gloss", id: "pv-gloss", role: "tooltip", hidden: "" });
  over(note);
  let open = null;

  function show(term) {
    open = term;
    note.replaceChildren(typeset(words().glossary[term.dataset.term]));
    note.hidden = false;
    const box = term.getBoundingClientRect();
    note.style.left = `${Math.max(8, Math.min(box.left, innerWidth - note.offsetWidth - 8))}px`;
    note.style.top = `${box.bottom + note.offsetHeight + 8 > innerHeight ? box.top - note.offsetHeight - 6 : box.bottom + 6}px`;
  }
  const hide = () => { open = null; note.hidden = true; };
  const term = (event) => event.target.closest?.(".pv-term");
  document.addEventListener("pointerover", (event) => { const found = term(event); if (found) show(found); else if (open && document.activeElement !== open) hide(); });
  document.addEventListener("focusin", (event) => { const found = term(event); if (found) show(found); else hide(); });
  document.addEventListener("click", (event) => { const found = term(event); if (found) show(found); else hide(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && open) { hide(); event.stopPropagation(); } }, true);

  // The first mention of each term in a place.
  function mark(place) {
    place.dataset.terms = "";
    for (const text of [...place.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE)) {
      const found = pattern.exec(text.data);
      if (!found) continue;
      const rest = text.splitText(found.index);
      rest.data = rest.data.slice(found[0].length);
      rest.before(node("button", { type: "button", class: "pv-term", "data-term": String(canonical.get(found[0].toLowerCase())), "aria-describedby": "pv-gloss" }, found[0]));
    }
  }
  let waiting = 0;
  const scan = () => { waiting = 0; document.querySelectorAll(WHERE).forEach((place) => { if (!(/** @type {HTMLElement} */ (place).dataset.terms === "")) mark(place); }); };
  new MutationObserver(() => { waiting ||= window.setTimeout(scan, 200); }).observe(document.body, { childList: true, subtree: true });
  scan();
}
