// What the page's modules share: nodes, and numbers and symbols as text; and a component's value as it changes.
// Every component of the page has a module with `mount(component)`, which ui/scripts.py calls once its node is there.

/**
 * A component, as Gradio hands it to its script.
 * @typedef {object} Component
 * @property {HTMLElement} element the component's node, with its template in it
 * @property {Record<string, any>} props what Python gave it; `value`, a JSON string or nothing, is always the latest
 * @property {(event: string, data?: object) => void} trigger sends an event to Python
 * @property {(name: string, act: () => void) => void} watch calls `act` after every change of a prop
 * @property {Record<string, (...values: any[]) => Promise<any>>} server functions of Python that it may ask, by name
 */

/**
 * An element with its attributes and text.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string | number>} attributes
 * @returns {HTMLElementTagNameMap[K]}
 */
export function node(name, attributes = {}, text = "") {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text) element.textContent = text;
  return element;
}

/** What stands over the page is part of its main landmark, for readers. */
export const over = (element) => (document.querySelector("main") ?? document.body).append(element);

/**
 * Text with the index of a symbol lowered: x_T, x_δ.
 * @param {string} text
 */
export function typeset(text) {
  const span = node("span");
  for (const part of text.split(/(_[A-Za-z0-9δθφ](?![A-Za-z0-9_]))/)) span.append(part.startsWith("_") ? node("sub", {}, part.slice(1)) : part);
  return span;
}

/**
 * A number to read, four digits; a dash for none.
 * @param {number | null} value
 */
export function decimal(value) {
  if (value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/**
 * 10 to a whole power, as text.
 * @param {number} exponent
 */
export const decade = (exponent) => "10" + String(exponent).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);

/**
 * Calls `draw` with the parsed value now and after every update; null for no value. A tab that is not open yet has
 * no node: then this runs when it is opened, with the value that it has by then.
 * @param {Pick<Component, "props" | "watch">} component
 * @param {(value: any) => void} draw
 */
export function follow({ props, watch }, draw) {
  const update = () => draw(props.value ? JSON.parse(props.value) : null);
  watch("value", update);
  update();
}
