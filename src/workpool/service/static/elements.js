// Elements of the page. Whatever comes from the service becomes a text node: no item and no name can be markup.

import { SPAN } from "./history.js";

const SVG = "http://www.w3.org/2000/svg";

export const by = (id) => document.getElementById(id);

export function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Nothing is touched that says so already: a reader's voice and a selection are not disturbed.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function chart(kind) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", kind ? `chart ${kind}` : "chart");
  svg.setAttribute("viewBox", "0 0 120 28");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true"); // what it ends in is written beside it
  svg.append(document.createElementNS(SVG, "polyline"));
  return svg;
}

// Points are [seconds, value or null]. Returns the value at the upper edge: `top`, or the greatest if that is more.
export function draw(svg, points, now, top) {
  const most = points.reduce((most, [, value]) => Math.max(most, value ?? 0), top);
  const scale = most || 1;
  const shown = points
    .filter(([, value]) => value !== null)
    .map(([at, value]) => `${(120 - ((now - at) / SPAN) * 120).toFixed(1)},${(27 - (value / scale) * 26).toFixed(1)}`);
  svg.firstChild.setAttribute("points", shown.join(" "));
  return most;
}
