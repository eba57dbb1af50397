// Any pictures of a result, looked at closely and saved: one dialog, in which the scale that is seen is that which is saved.
import { fill, words } from "./language.js";
import { node, over } from "./page.js";
import { zip } from "./zip.js";

const SCALES = [1, 2, 4, 8, 16];
const ROOM = 0.7; // of the window's shorter side, that a picture fills at first

/** @typedef {{ name: string, source: string }} Picture a name and an image's address */

const fileName = (/** @type {string} */ text) => text.toLowerCase().replace(/[^\p{L}\p{M}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "picture";

/** @param {Picture} picture */
async function drawn({ source }, scale) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = node("canvas", { width: image.naturalWidth * scale, height: image.naturalHeight * scale });
  const ink = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  ink.imageSmoothingEnabled = false; // every pixel stays a sharp square
  ink.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}
const png = (/** @type {HTMLCanvasElement} */ canvas) => new Promise((resolve, reject) => {
  canvas.toBlob((blob) => (blob ? resolve(blob.arrayBuffer().then((bytes) => new Uint8Array(bytes))) : reject(new Error("no picture"))), "image/png");
});

function save(name, pieces, type) {
  const link = node("a", { href: URL.createObjectURL(new Blob(pieces, { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * Opens the dialog.
 * @param {Picture[]} pictures
 * @param {number} at which is seen first
 */
export function look(pictures, at = 0) {
  const texts = words().page, dialog = node("dialog", { class: "pv-look", "aria-label": texts.closer });
  const title = node("h2"), stage = node("div", { class: "pv-look-stage", tabindex: 0, role: "group", "aria-label": texts.picture }), said = node("p", { role: "status" });
  const button = (text, act) => {
    const made = node("button", { type: "button" }, text);
    made.addEventListener("click", act);
    return made;
  };
  const sized = node("label", {}, `${texts.scale} `), scale = node("select");
  for (const k of SCALES) scale.append(node("option", { value: k }, `×${k}`));
  sized.append(scale);
  const size = () => Number(scale.value);

  async function show(next = at) {
    at = (next + pictures.length) % pictures.length;
    const canvas = await drawn(pictures[at], size());
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", pictures[at].name);
    title.textContent = pictures.length > 1 ? fill(texts.picture_of, { name: pictures[at].name, k: at + 1, n: pictures.length }) : pictures[at].name;
    stage.replaceChildren(canvas);
  }
  const one = async () => {
    save(`${fileName(pictures[at].name)}.png`, [await png(await drawn(pictures[at], size()))], "image/png");
    said.textContent = texts.saved;
  };
  const all = async () => {
    const digits = String(pictures.length).length;
    const files = await Promise.all(pictures.map(async (picture, k) => /** @type {[string, Uint8Array]} */ (
      [`${String(k + 1).padStart(digits, "0")}-${fileName(picture.name)}.png`, await png(await drawn(picture, size()))])));
    save("pixelviz.zip", zip(files), "application/zip");
    said.textContent = fill(texts.saved_all, { n: files.length });
  };

  const head = node("header"), foot = node("footer"), several = pictures.length > 1;
  head.append(title, button(texts.close, () => dialog.close()));
  foot.append(...(several ? [button(texts.previous, () => show(at - 1)), button(texts.next, () => show(at + 1))] : []),
    sized, button(texts.save, one), ...(several ? [button(fill(texts.save_all, { n: pictures.length }), all)] : []), said);
  dialog.append(head, stage, foot);
  scale.addEventListener("change", () => show());
  dialog.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way || event.target === scale || event.target === stage || !several) return;
    event.preventDefault();
    show(at + way);
  });
  dialog.addEventListener("close", () => dialog.remove());
  over(dialog);
  dialog.showModal();
  const image = new Image();
  image.onload = () => {
    const room = (ROOM * Math.min(window.innerWidth, window.innerHeight)) / Math.max(image.naturalWidth, image.naturalHeight);
    scale.value = String(SCALES.filter((k) => k <= room).pop() ?? 1);
    show();
  };
  image.src = pictures[at].source;
}

/** From now on a click on a picture in a row of figures opens it, beside the others of its row. */
export function start() {
  document.addEventListener("click", (event) => {
    const chosen = /** @type {Element} */ (event.target).closest(".pv-figures button.pv-zoom");
    if (!chosen) return;
    const row = [...chosen.closest(".pv-figures").querySelectorAll("button.pv-zoom")];
    look(row.map((one) => ({ name: one.querySelector("img").alt, source: one.querySelector("img").src })), row.indexOf(chosen));
  });
}
