/** Elements of the page, built without markup: whatever is data goes in as text. */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["checked", "disabled", "hidden", "indeterminate", "open", "value"]);

/** An element: `class`, attributes, properties, `vars` (custom CSS properties) and `on` (listeners), then children. */
export function el(tag, props = {}, ...children) {
  return dressed(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props = {}, ...children) {
  return dressed(document.createElementNS(SVG, tag), props, children);
}

/** Puts `children` in place of what `node` held; null and false are left out, and so may lists be nested. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
  return node;
}

/** An icon: one stroked path in a box of 20. */
export function icon(path) {
  return svg("svg", { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true" }, svg("path", { d: path }));
}

/** Calls `act` once `wait_ms` have passed since the last call; `cancel` drops a call that waits. */
export function debounced(act, wait_ms) {
  let timer = 0;
  const delayed = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(act, wait_ms, ...args);
  };
  delayed.cancel = () => clearTimeout(timer);
  return delayed;
}

let numbered = 0;
/** An id that nothing else on the page has. */
export function freshId(name) {
  numbered += 1;
  return `${name}-${numbered}`;
}

function dressed(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "vars") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else if (PROPERTIES.has(name)) node[name] = value;
    else if (value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  return fill(node, ...children);
}
