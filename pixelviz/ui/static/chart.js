// A chart whose figure comes from Python.
import { follow } from "./page.js";
import { chart } from "./plot_widget.js";

/** @param {import("./page.js").Component} component */
export function mount({ element, props, watch }) {
  follow({ props, watch }, chart(element.querySelector(".pv-chart")).draw);
}
