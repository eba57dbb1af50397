// A dropped or pasted file goes through the tab's own upload button, which checks it.
// PixelViz.uploads(element, id, isShown) -> { open() }, which asks for a file as the button does.
(() => {
  const root = (window.PixelViz = window.PixelViz || {});
  if (root.uploads) return;
  root.uploads = (element, id, isShown) => {
    const input = () => document.getElementById(id)?.parentElement.querySelector("input[type=file]");
    const hand = (files) => {
      if (!input() || !files || !files.length) return;
      const transfer = new DataTransfer();
      transfer.items.add(files[0]);
      input().files = transfer.files;
      input().dispatchEvent(new Event("change", { bubbles: true }));
    };
    element.addEventListener("dragover", (event) => { event.preventDefault(); element.classList.add("pv-dragging"); });
    element.addEventListener("dragleave", () => element.classList.remove("pv-dragging"));
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      element.classList.remove("pv-dragging");
      hand(event.dataTransfer.files);
    });
    document.addEventListener("paste", (event) => {
      if (isShown() && event.clipboardData?.files?.length) hand(event.clipboardData.files);
    });
    return { open: () => input()?.click() };
  };
})();
