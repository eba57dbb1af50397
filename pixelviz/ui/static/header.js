// The head of the page: light and dark, presenter mode, and the address.
import * as address from "./address.js";
import * as presenter from "./presenter.js";

/** @param {import("./page.js").Component} component */
export function mount({ element, props }) {
  element.querySelector(".pv-dark").addEventListener("click", () => document.body.classList.toggle("dark"));
  presenter.start(element, (on) => address.update({ presenter: on }));
  address.start(element, props);
}
