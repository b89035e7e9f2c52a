// A pool's own page: which one the address names, its charts and counts.

import { cells, fill } from "./cells.js";
import { showControl } from "./control.js";
import { by, element, say } from "./elements.js";
import { number, reasons } from "./numbers.js";
import { stateOf } from "./pools.js";
import { showWorkers } from "./workers.js";

const COUNTS = [
  ["Submitted", (stats) => number(stats.submitted)],
  ["Succeeded", (stats) => number(stats.succeeded)],
  ["Discarded", (stats) => number(stats.discarded)],
  ["Dead", (stats) => reasons(stats.dead)],
  ["Cancelled", (stats) => number(stats.cancelled)],
  ["Abandoned", (stats) => number(stats.abandoned)],
  ["Waiting to retry", (stats) => number(stats.waiting)],
  ["Retries", (stats) => number(stats.retries)],
];

export const chosen = () => (location.hash.startsWith("#pool=") ? decodeURIComponent(location.hash.slice(6)) : null);

let charts = [];

// Asks for the pool that is chosen, and shows it.
export async function look() {
  const name = chosen();
  if (name === null) return;
  let answer, content;
  try {
    answer = await fetch(`api/pools/${encodeURIComponent(name)}`, { cache: "no-store" });
    content = await answer.json();
  } catch {
    return; // the line at the top says that the service does not answer
  }
  if (chosen() !== name) return; // somebody has gone on while it was asked for
  if (answer.ok) showPool(name, content);
  else say(by("pool-state"), content.detail);
}

function showPool(name, { stats, paused, workers, source }) {
  say(by("pool-state"), stateOf(stats, paused));
  say(by("source"), source ? `; its source: ${textOf(source)}` : "");
  showControl(stats, paused);
  by("charts").hidden = by("numbers").hidden = false;
  fill(charts, name);
  COUNTS.forEach(([, read], index) => say(by("numbers").children[index].lastChild, read(stats)));
  showWorkers(workers);
}

// What a source says of itself: what it is and how it is, and of what it counts whatever is not 0.
function textOf({ kind, state, connected, stream, path, dead, ...counts }) {
  const about = [`${kind} ${stream ?? path}`, connected === false ? "not connected" : "", state];
  const counted = Object.entries(counts).filter(([, value]) => typeof value === "number" && value);
  const deaths = dead && Object.keys(dead).length ? [`dead: ${reasons(dead)}`] : [];
  return [...about, ...counted.map(([what, value]) => `${number(value)} ${what.replaceAll("_", " ")}`), ...deaths]
    .filter(Boolean).join(", ");
}

// Shows what the address names: one pool, or all.
export function turn() {
  const name = chosen();
  by("pools").hidden = name !== null;
  by("pool").hidden = name === null;
  document.title = name === null ? "workpool" : `${name} – workpool`;
  say(by("said"), "");
  say(by("pool-state"), "");
  say(by("source"), "");
  say(by("pool-title"), name ?? "");
  by("charts").hidden = by("numbers").hidden = by("control").hidden = true; // until the service has said what there is
  by("workers-wanted").value = "";
  showWorkers([]);
  by("charts").replaceChildren();
  charts = cells(({ title }) => pair("charts", title));
  by("numbers").replaceChildren();
  COUNTS.forEach(([title]) => pair("numbers", title));
  by(name === null ? "pools-title" : "pool-title").focus();
  return look();
}

export function openChosen() {
  if (chosen() !== null) turn();
}

function pair(list, title) {
  const made = element("div");
  const value = element("dd");
  made.append(element("dt", "", title), value);
  by(list).append(made);
  return value;
}
