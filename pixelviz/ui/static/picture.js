// The picture that a tab works on: numbered markers, clicks, thumbnails of examples; a dropped or pasted
// file goes through the tab's own upload button, which checks it.
import { fill, named, words } from "./language.js";
import { follow, node } from "./page.js";
import { uploads } from "./upload.js";

/** @param {import("./page.js").Component} component */
export function mount({ element, props, trigger, watch }) {
  const canvas = element.querySelector("canvas");
  const strip = element.querySelector(".pv-thumbs");
  const empty = element.querySelector(".pv-drop-hint");
  const image = new Image();
  let state = null;

  function draw() {
    if (!state || !image.complete || !image.naturalWidth) return;
    const [w, h] = [image.naturalWidth, image.naturalHeight];
    // Whole multiples, so that every pixel of a small picture stays a sharp square.
    const zoom = Math.max(1, Math.round(512 / Math.max(w, h)));
    canvas.width = w * zoom; canvas.height = h * zoom;
    const ink = canvas.getContext("2d");
    ink.imageSmoothingEnabled = false;
    ink.drawImage(image, 0, 0, canvas.width, canvas.height);
    const shown = canvas.getBoundingClientRect().width || 300;
    const unit = canvas.width / shown;
    (state.pixels || []).forEach((p) => {
      const [x, y] = [(p.col + 0.5) * zoom, (p.row + 0.5) * zoom];
      // The disc stands beside the pixel, on the side that has room, so that the pixel itself stays visible.
      const dx = x > canvas.width / 2 ? -1 : 1, dy = y > canvas.height / 2 ? -1 : 1;
      const [cx, cy] = [x + dx * 13 * unit, y + dy * 13 * unit];
      ink.lineWidth = 3 * unit; ink.strokeStyle = "#fff";
      ink.beginPath(); ink.moveTo(x, y); ink.lineTo(cx, cy); ink.stroke();
      ink.lineWidth = 1.5 * unit; ink.strokeStyle = p.color;
      ink.beginPath(); ink.moveTo(x, y); ink.lineTo(cx, cy); ink.stroke();
      const half = Math.max(zoom / 2, 2.5 * unit);
      ink.lineWidth = 3 * unit; ink.strokeStyle = "#fff"; ink.strokeRect(x - half, y - half, 2 * half, 2 * half);
      ink.lineWidth = 1.5 * unit; ink.strokeStyle = p.color; ink.strokeRect(x - half, y - half, 2 * half, 2 * half);
      ink.beginPath(); ink.arc(cx, cy, 9 * unit, 0, 7); ink.fillStyle = p.color; ink.fill();
      ink.lineWidth = 1.5 * unit; ink.strokeStyle = "#fff"; ink.stroke();
      ink.fillStyle = "#fff"; ink.font = `700 ${11 * unit}px system-ui, sans-serif`;
      ink.textAlign = "center"; ink.textBaseline = "middle";
      ink.fillText(p.number, cx, cy + 0.5 * unit);
    });
  }
  image.onload = draw;
  new ResizeObserver(draw).observe(canvas);

  canvas.addEventListener("click", (event) => {
    if (!state || !state.channels) return;
    const box = canvas.getBoundingClientRect();
    const at = (offset, size, count) => Math.max(0, Math.min(count - 1, Math.floor((offset / size) * count)));
    trigger("select", {
      row: at(event.clientY - box.top, box.height, image.naturalHeight),
      col: at(event.clientX - box.left, box.width, image.naturalWidth),
      channels: state.channels,
    });
  });

  const linked = new URLSearchParams(location.hash.slice(1)).has(props.upload_id.replace("-upload", ".picture"));
  const files = uploads(element, props.upload_id, () => canvas.offsetParent !== null, linked);

  (props.examples || []).forEach(([id, label, source]) => {
    const button = node("button", { type: "button", "data-example": id }), speak = () => {
      button.title = named(label);
      button.setAttribute("aria-label", fill(words().instrument.example, { name: named(label) }));
    };
    speak();
    document.addEventListener("pv:language", speak);
    button.append(node("img", { src: source, alt: "", width: 40, height: 40, loading: "lazy" }));
    button.addEventListener("click", () => trigger("input", { example: id }));
    strip.append(button);
  });

  follow({ props, watch }, (next) => {
    if (next && !state) files.back(); // now that the settings are in their places
    state = next;
    if (state) files.shown(state.example);
    empty.hidden = !!state; canvas.hidden = !state;
    if (!state) return;
    canvas.classList.toggle("pv-clickable", !!state.channels);
    canvas.setAttribute("aria-label", state.label);
    for (const button of strip.children) button.setAttribute("aria-pressed", String(button.dataset.example === state.example));
    if (image.src !== state.source) image.src = state.source; else draw();
  });
}
