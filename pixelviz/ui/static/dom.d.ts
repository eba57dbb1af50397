// For the checks only: what the page adds to the browser's own types. A template says what its selectors find.
interface ParentNode {
  querySelector(selectors: string): any;
  querySelectorAll(selectors: string): NodeListOf<any>;
}
interface Element {
  closest(selectors: string): any;
}
interface Document {
  getElementById(id: string): any;
  readonly activeElement: any;
  addEventListener(type: "pv:ready" | "pv:state" | "pv:address" | "pv:controls" | "pv:arrived" | "pv:labels", act: (event: any) => void, options?: object): void;
}
