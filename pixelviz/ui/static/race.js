// A race: one lane a method, with its clock, its progress and its images as they come.
import { tell } from "./language.js";
import { look } from "./look.js";
import { follow, node } from "./page.js";

/** @param {import("./page.js").Component} component */
export function mount({ element, props, watch }) {
  const list = element.querySelector(".pv-lanes");
  const line = element.querySelector(".pv-status");

  function lane(state) {
    const row = node("li", { class: "pv-lane" });
    const head = node("div", { class: "pv-lane-head" }), note = node("span", { class: "pv-lane-note" });
    note.append(node("span"), node("span"));
    head.append(node("span", { class: "pv-place", "aria-hidden": "true" }), node("b", {}, state.name), note, node("span", { class: "pv-clock" }));
    const bar = node("div", { class: "pv-bar", role: "progressbar", "aria-label": state.name, "aria-valuemin": "0", "aria-valuemax": "100" });
    bar.append(node("i"));
    const zoom = node("button", { type: "button", class: "pv-zoom", hidden: "" });
    tell(zoom, { wordLabel: "page.look_closer" }, { name: state.name });
    zoom.append(node("img", { alt: "" }));
    zoom.addEventListener("click", () => {
      const all = [...list.children], pictures = all.map((one) => ({ name: one.querySelector("b").textContent, source: one.querySelector("img").src }));
      look(pictures.filter((one) => one.source), all.indexOf(row));
    });
    row.append(head, bar, zoom);
    return row;
  }

  function show(row, state) {
    row.querySelector(".pv-place").textContent = state.place === null ? "" : state.place;
    row.classList.toggle("pv-arrived", state.place !== null);
    const [runs, fid] = row.querySelector(".pv-lane-note").children;
    tell(runs, { word: state.runs === 1 ? "page.runs_one" : "page.runs" }, { n: state.runs });
    if (state.fid === null) { delete fid.dataset.word; fid.textContent = ""; } // the row was another checkpoint's
    else tell(fid, { word: "page.race_fid" }, { fid: state.fid.toFixed(2) });
    row.querySelector(".pv-clock").textContent = `${state.seconds.toFixed(2)} s`;
    const bar = row.querySelector(".pv-bar");
    bar.firstElementChild.style.width = `${100 * state.progress}%`;
    bar.setAttribute("aria-valuenow", Math.round(100 * state.progress));
    const image = row.querySelector("img");
    image.parentElement.hidden = !state.strip;
    if (!state.strip) return;
    image.style.setProperty("--pv-count", state.count);
    tell(image, { wordAlt: state.place === null ? "page.race_undone" : "page.race_done" }, { n: state.count, name: state.name });
    if (image.src !== state.strip) image.src = state.strip;
  }

  let halted = false;
  follow({ props, watch }, (next) => {
    // A report that was under way when the race was stopped must not undo the answer to the stop button.
    if (next && halted && next.lanes) return;
    halted = !!next && !!next.stopped;
    if (!next) { list.replaceChildren(); line.textContent = ""; return; }
    line.textContent = next.status;
    if (!next.lanes) return;
    const names = next.lanes.map((state) => state.name).join("|");
    if (list.dataset.names !== names) {
      list.dataset.names = names;
      list.replaceChildren(...next.lanes.map(lane));
    }
    next.lanes.forEach((state, k) => show(list.children[k], state));
  });
}
