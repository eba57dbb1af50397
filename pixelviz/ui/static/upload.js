// A dropped or pasted file goes through the tab's own upload button, which checks it.

/**
 * Takes files that are dropped on `element`, or pasted while `isShown()`, to the upload button with this id.
 * @param {HTMLElement} element
 * @param {string} id
 * @param {() => boolean} isShown
 * @returns {{ open: () => void }} `open` asks for a file as the button does
 */
export function uploads(element, id, isShown) {
  /** @returns {HTMLInputElement | null | undefined} */
  const input = () => document.getElementById(id)?.parentElement?.querySelector("input[type=file]");
  /** @param {FileList | undefined} files */
  const hand = (files) => {
    const field = input();
    if (!field || !files || !files.length) return;
    const transfer = new DataTransfer();
    transfer.items.add(files[0]);
    field.files = transfer.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  };
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
  return { open: () => input()?.click() };
}
