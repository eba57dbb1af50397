// A chart whose figure comes from Python. Points that have an id there can be chosen.
import { follow } from "./page.js";
import { chart } from "./plot_widget.js";

/** @param {import("./page.js").Component} component */
export function mount({ element, props, trigger, watch }) {
  const drawn = chart(element.querySelector(".pv-chart"), ({ id }) => { if (id) trigger("select", { key: id }); });
  follow({ props, watch }, drawn.draw);
}
