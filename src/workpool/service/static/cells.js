// A text and a chart for each measure, wherever they are put.

import { chart, draw, element, say } from "./elements.js";
import { said } from "./history.js";
import { measures } from "./measures.js";

// One a measure, in the element that `holder` makes for it.
export function cells(holder) {
  return measures.map((measure) => {
    const text = element("div");
    const svg = chart(measure.bad ? "bad" : "");
    const edge = element("div", "edge");
    const held = holder(measure);
    held.append(text, svg, edge);
    return { held, text, svg, edge };
  });
}

export function fill(made, name) {
  const entries = said(name);
  const last = entries[entries.length - 1];
  if (!last) return;
  made.forEach(({ text, svg, edge }, index) => {
    const { text: now, top, written } = measures[index];
    say(text, now(last, entries));
    const most = draw(svg, entries.map(({ at, values }) => [at, values[index]]), last.at, top(last.stats));
    say(edge, `up to ${written(most)}`);
  });
}
