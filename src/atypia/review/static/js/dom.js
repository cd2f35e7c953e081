/** Builds elements. Data is inserted only as text or attributes, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

// Shapes on a field of 24 by 24; a leading «*» fills the shape.
const ICONS = {
  triangle: ["*M12 4 21 20H3Z"],
  circle: ["M12 4a8 8 0 1 0 .01 0Z"],
  question: ["M8.5 9a3.5 3.5 0 1 1 5.2 3.1c-1.2.7-1.7 1.3-1.7 2.6", "M12 19v.01"],
  barred: ["M12 3.5a8.5 8.5 0 1 0 .01 0Z", "M6 18 18 6"],
  diamond: ["M12 4l8 8-8 8-8-8Z"],
  square: ["M5 5h14v14H5Z"],
  cross: ["M6 6l12 12M18 6 6 18"],
  note: ["M5 4h14v11l-5 5H5Z", "M14 20v-5h5", "M8 8h8M8 12h5"],
  undo: ["M8 5 4 9l4 4", "M4 9h10a5 5 0 0 1 0 10h-3"],
  large: ["M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5"],
  left: ["M15 5l-7 7 7 7"],
  right: ["M9 5l7 7-7 7"],
  up: ["M12 19V5M6 11l6-6 6 6"],
  down: ["M12 5v14M6 13l6 6 6-6"],
  plus: ["M12 5v14M5 12h14"],
  minus: ["M5 12h14"],
  fit: ["M4 11l8-7 8 7v9H4Z"],
  target: ["M12 7a5 5 0 1 0 .01 0Z", "M12 2v4M12 18v4M2 12h4M18 12h4"],
  blind: ["M3 12s3.5-6 9-6 9 6 9 6-3.5 6-9 6-9-6-9-6Z", "M4 20 20 4"],
  seeing: ["M3 12s3.5-6 9-6 9 6 9 6-3.5 6-9 6-9-6-9-6Z", "M12 9.5a2.5 2.5 0 1 0 .01 0Z"],
  sun: [
    "M12 8a4 4 0 1 0 .01 0Z", "M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M5 19l1.4-1.4M17.6 6.4 19 5"
  ],
  moon: ["M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5Z"],
  system: ["M12 3.5a8.5 8.5 0 1 0 .01 0Z", "*M12 3.5v17a8.5 8.5 0 0 0 0-17Z"],
  person: ["M12 4a4 4 0 1 0 .01 0Z", "M4 21c0-4 3.5-6.5 8-6.5s8 2.5 8 6.5"],
  reload: ["M20 12a8 8 0 1 1-2.5-5.8L20 8.5", "M20 3.5v5h-5"],
  pick: ["M5 12.5 10 17.5 19 7"],
  around: ["M4 4h16v16H4Z", "M9 9h6v6H9Z"],
  report: ["M6 3h9l4 4v14H6Z", "M15 3v5h4", "M9 12h7M9 16h7"],
  tag: ["M4 4h8l8 8-8 8-8-8Z", "M8.5 8.5v.01"],
};

/**
 * An element with attributes and children.
 * @param {string} tag
 * @param {Object} [attributes] `class`, `on` (listeners by event), `dataset`; a boolean sets or leaves out; `null` leaves out.
 * @param {...(Node|string|number|null|Array)} children strings become text nodes.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value") element.value = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  add(element, children);
  return element;
}

/** Appends nodes, strings and nested arrays of them; leaves out null and false. */
export function add(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Replaces the content of an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** An inline drawing by name; hidden from screen readers, so there must be a text beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  for (const shape of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", shape.replace("*", ""));
    if (shape.startsWith("*")) path.setAttribute("class", "solid");
    svg.append(path);
  }
  return svg;
}

/** A button with an icon, a text and a listener. `label` names it where the text is only a symbol. */
export function button(text, listener, { name = null, label = null, title = null, kind = "", key = null } = {}) {
  return h(
    "button",
    {
      type: "button", class: kind || null, "aria-label": label, title: title ?? label,
      "aria-keyshortcuts": key ? key.toUpperCase() : null, on: { click: listener }
    },
    name && icon(name), text, key && h("kbd", { "aria-hidden": "true" }, key.toUpperCase()),
  );
}

/** Says a text to screen readers without showing it. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

/** Shows a short message for some seconds. */
export function toast(text, problem = false) {
  const message = h("div", { class: problem ? "toast problem" : "toast" }, text);
  document.getElementById("toasts").append(message);
  setTimeout(() => message.remove(), problem ? 9000 : 4000);
}

/** A full-page message: a heading, a text, and buttons. */
export function stateBox(title, text, ...actions) {
  return h("div", { class: "state" }, h("h2", {}, title), h("p", {}, text), actions);
}

const WHOLE = new Intl.NumberFormat("en");
/** A count with thousands separators. */
export const whole = (count) => WHOLE.format(count);
/** A number with a fixed number of decimals; an en dash if unknown. */
export const fixed = (value, decimals = 3) => (Number.isFinite(value) ? value.toFixed(decimals) : "–");
/** A share as a whole percentage; 0 % and 100 % only where it is none or all. */
export function percent(part, all) {
  if (!all) return "–";
  const rounded = Math.round((100 * part) / all);
  return `${part === 0 ? 0 : part === all ? 100 : Math.min(99, Math.max(1, rounded))} %`;
}
