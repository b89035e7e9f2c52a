// The table of all pools.

import { cells, fill } from "./cells.js";
import { by, element, say } from "./elements.js";
import { forget, keep } from "./history.js";
import { measures } from "./measures.js";

const rows = new Map(); // by pool: its row

export function showHead() {
  const titles = ["Pool", ...measures.map(({ title }) => title)];
  by("head").append(...titles.map((title) => {
    const made = element("th", "", title);
    made.scope = "col";
    return made;
  }));
}

export function showPools({ at, pools, paused }) {
  for (const [name, { made }] of rows) {
    if (!(name in pools)) {
      made.remove();
      rows.delete(name);
      forget(name);
    }
  }
  for (const [name, stats] of Object.entries(pools)) {
    keep(name, at, stats);
    if (!rows.has(name)) rows.set(name, row(name));
    const { state, charts } = rows.get(name);
    say(state, stateOf(stats, paused.includes(name)));
    fill(charts, name);
  }
}

export const stateOf = ({ state }, paused) => (state === "running" && paused ? "paused" : state);

function row(name) {
  const made = element("tr");
  const head = element("th");
  head.scope = "row";
  const link = element("a", "", name);
  link.href = `#pool=${encodeURIComponent(name)}`;
  const state = element("div");
  head.append(link, state);
  made.append(head);
  const charts = cells(() => made.appendChild(element("td")));
  by("rows").append(made);
  return { made, state, charts };
}
