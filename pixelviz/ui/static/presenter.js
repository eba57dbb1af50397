// Presenter mode: large type and no controls, steered by keys. PixelViz.presenter(on) sets it, without `on` it toggles.
(() => {
  const root = (window.PixelViz = window.PixelViz || {});
  if (root.presenter) return;
  const SHARE = 50; // an arrow key moves the time by this part of the way
  const button = element.querySelector(".pv-present");
  const hint = element.querySelector(".pv-keys");
  let hiding;

  const instrument = () => [...document.querySelectorAll(".pv-instrument")].find((node) => node.offsetParent)?.pvInstrument;
  const press = (name) => document.querySelector(`.pv-lesson [data-press="${name}"]:not([disabled])`)?.click();

  root.presenter = (on = !document.body.classList.contains("pv-presenter")) => {
    if (on === document.body.classList.contains("pv-presenter")) return;
    document.body.classList.toggle("pv-presenter", on);
    button.setAttribute("aria-pressed", String(on));
    clearTimeout(hiding);
    hint.hidden = !on;
    if (on) {
      document.activeElement?.blur();
      hiding = setTimeout(() => { hint.hidden = true; }, 6000);
    }
    root.address?.update({ presenter: on });
    window.dispatchEvent(new Event("resize"));
  };
  button.addEventListener("click", () => root.presenter());

  const KEYS = {
    ArrowRight: (fine) => { const i = instrument(); i?.step(fine ? 1 : Math.max(1, Math.round(i.state().T / SHARE))); },
    ArrowLeft: (fine) => { const i = instrument(); i?.step(fine ? -1 : -Math.max(1, Math.round(i.state().T / SHARE))); },
    " ": () => { const i = instrument(); if (i) i.state().playing ? i.pause() : i.play(); },
    n: () => press("next"),
    b: () => press("back"),
    Escape: () => root.presenter(false),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const at = event.target, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const typing = at.isContentEditable || (at.matches?.("input, textarea, select") && !["range", "radio", "checkbox"].includes(at.type));
    if (typing) return;
    if (key === "p") { event.preventDefault(); root.presenter(); return; }
    if (!document.body.classList.contains("pv-presenter") || !KEYS[key]) return;
    // A focused control keeps the keys that are its own.
    if (key === " " && at.matches?.("button, summary, input, a")) return;
    if (key.startsWith("Arrow") && at.matches?.("input")) return;
    event.preventDefault();
    KEYS[key](event.shiftKey);
  });
})();
