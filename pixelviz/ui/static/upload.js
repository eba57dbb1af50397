// A dropped or pasted file goes through the tab's own upload button, which checks it. The browser keeps the one in use,
// and hands it to the button again when the page is loaded again.
import { kept } from "./kept.js";

const PATIENCE = 20000; // milliseconds for a picture to come back before the page goes on without it

/**
 * Takes files that are dropped on `element`, or pasted while `isShown()`, to the upload button with this id.
 * @param {HTMLElement} element
 * @param {string} id
 * @param {() => boolean} isShown
 * @param {boolean} linked whether the address names an example, which is there in place of an uploaded picture
 */
export function uploads(element, id, isShown, linked) {
  const store = kept(id);
  /** @type {File | null} */
  let offered = null;
  let returning = false, settle = () => {}; // while a picture is on its way back, what ends that
  /** @returns {HTMLInputElement | null | undefined} */
  const input = () => document.getElementById(id)?.parentElement?.querySelector("input[type=file]");
  /** @param {FileList | File[] | undefined} files */
  const hand = (files) => {
    const field = input();
    if (!field || !files || !files.length) return;
    const transfer = new DataTransfer();
    transfer.items.add(files[0]);
    field.files = transfer.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("change", ({ target }) => {
    const field = input();
    if (field && target === field && field.files?.length) offered = field.files[0];
  }, true);
  element.addEventListener("dragover", (event) => { event.preventDefault(); element.classList.add("pv-dragging"); });
  element.addEventListener("dragleave", () => element.classList.remove("pv-dragging"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("pv-dragging");
    hand(event.dataTransfer?.files);
  });
  document.addEventListener("paste", (event) => {
    if (isShown() && event.clipboardData?.files?.length) hand(event.clipboardData.files);
  });
  return {
    /** Asks for a file as the button does. */
    open: () => input()?.click(),
    /**
     * A picture is shown: an example, by its id, or for null the uploaded one.
     * @param {string | null} example
     */
    shown(example) {
      if (example !== null) { if (!returning) store.drop(); return; }
      if (offered) store.keep(offered);
      offered = null;
      settle();
    },
    /** An uploaded picture was refused. */
    refused() {
      if (returning) store.drop();
      offered = null;
      settle();
    },
    /** Brings back what this tab had, unless the address names an example; over when it is here, or is not to be had. */
    async back() {
      returning = !linked;
      const file = linked ? undefined : await store.back();
      if (file) {
        await new Promise((resolve) => {
          settle = () => resolve(undefined);
          setTimeout(settle, PATIENCE);
          const wait = () => (input() ? hand([file]) : requestAnimationFrame(wait));
          wait();
        });
      }
      returning = false;
    },
  };
}
