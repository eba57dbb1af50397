// A Plotly figure in the theme's colours, with the table of its numbers.
import { node } from "./page.js";

const LEGEND_GAP = 8, AXIS = 44, TOP = 34; // pixels around the plot: the legend's, the x axis' and the buttons'
const NARROW = 480; // pixels; below, the names of curves have no room beside the pointer

/**
 * What pixelviz/ui/charts.py makes: Plotly's traces and layout; `layout.meta` holds the label and the table in words.
 * @typedef {{ data: object[], layout: Record<string, any> }} Figure
 */

/** @type {Promise<any> | null} */
let loading = null;

// Plotly's script is large: it comes with the first figure that is drawn.
const plotly = () => (loading ??= new Promise((resolve, reject) => {
  const script = node("script", { src: new URL("./plotly.min.js", import.meta.url).href });
  script.onload = () => resolve(/** @type {any} */ (window).Plotly);
  script.onerror = () => { loading = null; script.remove(); reject(new Error("Plotly did not load")); };
  document.head.append(script);
}));

/**
 * Words as they are, for a figure: Plotly reads some tags in them.
 * @param {string} text
 */
export const markup = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/**
 * A name broken into lines of about so many letters; its tags count for nothing.
 * @param {string} text
 * @param {number} letters
 */
export function wrapped(text, letters) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines[lines.length - 1] ? `${lines[lines.length - 1]} ${word}` : word;
    if (longer.replace(/<[^>]*>/g, "").length > letters && longer !== word) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines.join("<br>");
}

/**
 * The looks of all figures, in the colours that a node has now.
 * @param {Element} at
 * @param {boolean} narrow
 */
function template(at, narrow) {
  const style = getComputedStyle(at), colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const ink = colour("--body-text-color"), soft = colour("--body-text-color-subdued");
  const line = colour("--border-color-primary"), paper = colour("--block-background-fill");
  const small = { family: style.fontFamily, size: 12, color: soft }, plain = { ...small, color: ink }, large = { ...plain, size: 13 };
  const axis = {
    gridcolor: line, linecolor: line, zeroline: false, tickfont: small, automargin: true,
    exponentformat: "power", minexponent: 4, title: { font: large, standoff: 8 },
  };
  return {
    layout: {
      font: small, paper_bgcolor: paper, plot_bgcolor: paper, xaxis: axis, yaxis: axis,
      legend: { orientation: "h", x: 0, xref: "container", xanchor: "left", y: 0, yref: "container", yanchor: "bottom", font: large, itemwidth: 36, bgcolor: "rgba(0,0,0,0)" },
      hoverlabel: narrow ? { namelength: 0 } : { bgcolor: paper, bordercolor: line, font: plain, namelength: -1 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
      shapedefaults: { line: { color: soft, width: 1.3 }, label: { font: small } },
      annotationdefaults: { font: plain, showarrow: false },
    },
    data: {
      heatmap: [{ colorbar: { tickfont: small, title: { font: plain }, outlinewidth: 0 } }],
      scatter: [{ line: { width: 2 }, marker: { size: 7, line: { color: paper, width: 1 } }, textfont: plain }],
    },
  };
}

/** @param {any} Plotly */
function config(Plotly) {
  const svg = {
    name: "svg", title: "Download plot as an SVG", icon: Plotly.Icons.disk,
    click: (/** @type {HTMLElement} */ drawn) => Plotly.downloadImage(drawn, { format: "svg", filename: "pixelviz", width: drawn.clientWidth, height: drawn.clientHeight }),
  };
  return {
    displaylogo: false, displayModeBar: true, doubleClick: "reset",
    modeBarButtons: [["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"], ["toImage", svg]],
    toImageButtonOptions: { format: "png", filename: "pixelviz", scale: 2 },
  };
}

/** @param {{ head: string[], rows: string[][], note: string }} meta */
function table({ head, rows, note }) {
  const element = node("table");
  if (note) element.append(node("caption", {}, note));
  const line = node("tr");
  line.append(...head.map((text) => node("th", { scope: "col" }, text)));
  element.append(line);
  for (const [first, ...rest] of rows) {
    const row = node("tr");
    row.append(node("th", { scope: "row" }, first), ...rest.map((text) => node("td", {}, text)));
    element.append(row);
  }
  return element;
}

/**
 * Makes a node a chart. `draw` shows a figure, or hides the node for null; zoom stays while figures follow each other.
 * @param {HTMLElement} host
 * @param {(point: { x: number, y: number, id?: string }) => void} [pick] told which point was clicked
 */
export function chart(host, pick) {
  host.classList.add("pv-chart");
  const stage = node("div", { class: "pv-stage" }), details = node("details", { class: "pv-numbers" }), numbers = node("div");
  details.append(node("summary", { "data-word": "page.chart_numbers" }), numbers);
  host.replaceChildren(stage, details);
  /** @type {Figure | null} */
  let figure = null;
  let legend = 0, drawing = Promise.resolve(), due = false, listens = false;

  // What a screen reader hears: the label once, and not every tick of three drawings that lie on each other.
  function name(/** @type {string} */ label) {
    stage.querySelectorAll(".main-svg").forEach((svg, k) => {
      if (k) svg.setAttribute("aria-hidden", "true");
      else { svg.setAttribute("role", "img"); svg.setAttribute("aria-label", label); }
    });
  }

  async function render() {
    if (!figure || !stage.clientWidth) return;
    const Plotly = await plotly(), { data, layout } = figure, width = stage.clientWidth, narrow = width < NARROW;
    stage.querySelector(".pv-empty")?.remove();
    const traces = data.map((trace) => ("name" in trace ? { ...trace, name: wrapped(String(trace.name), (width - 60) / 7) } : trace));
    const tall = Math.min(layout.height, Math.max(320, width * 0.7));
    const show = () => Plotly.react(stage, traces, {
      uirevision: "kept", ...layout, width, height: tall + legend, template: template(stage, narrow),
      margin: { l: 56, r: 16, t: TOP, b: AXIS + legend },
      hovermode: narrow && layout.hovermode === "x unified" ? "x" : layout.hovermode,
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    }, config(Plotly));
    await show();
    if (pick && !listens) {
      listens = true;
      /** @type {any} */ (stage).on("plotly_click", (event) => pick(event.points[0]));
    }
    const drawn = stage.querySelector(".legend")?.getBoundingClientRect().height;
    const needed = drawn ? Math.ceil(drawn) + LEGEND_GAP : 0;
    if (needed !== legend) { legend = needed; await show(); }
    name(layout.meta.label);
  }
  // One after the other, each with what is newest.
  function again() {
    if (due) return;
    due = true;
    drawing = drawing.then(() => { due = false; return render(); }).catch(() => {
      stage.replaceChildren(node("p", { class: "pv-empty", "data-word": "page.chart_failed" }));
    });
  }
  const fill = () => { if (details.open && figure) numbers.replaceChildren(table(figure.layout.meta)); };

  details.addEventListener("toggle", fill);
  let drawnWidth = 0;
  new ResizeObserver(() => {
    if (stage.clientWidth === drawnWidth) return;
    drawnWidth = stage.clientWidth;
    again();
  }).observe(stage);
  new MutationObserver(again).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  return {
    draw(/** @type {Figure | null} */ next) {
      figure = next;
      host.hidden = !figure;
      fill();
      again();
    },
  };
}
