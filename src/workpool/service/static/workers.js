// The table of a pool's workers: what each runs, for how long, and where the stuck ones are.

import { by, element, say } from "./elements.js";
import { seconds } from "./numbers.js";

const rows = new Map(); // by worker: its row

export function showWorkers(running) {
  const names = new Set(running.map(({ worker }) => worker));
  for (const [name, { made }] of rows) {
    if (!names.has(name)) {
      made.remove();
      rows.delete(name);
    }
  }
  running.forEach((seen, place) => {
    if (!rows.has(seen.worker)) rows.set(seen.worker, row(seen.worker));
    const { made } = rows.get(seen.worker);
    fill(rows.get(seen.worker), seen);
    const there = by("workers").children[place];
    // A row that has the keyboard's focus keeps its place, because moving it would lose the focus.
    if (there !== made && !made.contains(document.activeElement)) by("workers").insertBefore(made, there ?? null);
  });
}

function row(name) {
  const made = element("tr");
  const head = element("th", "", name);
  head.scope = "row";
  const runs = element("td");
  const item = element("div", "item");
  const stuck = element("details");
  const stack = element("pre");
  stuck.append(element("summary", "bad", "Looks stuck: where it is"), stack);
  runs.append(item, stuck);
  const attempt = element("td");
  const time = element("td");
  made.append(head, runs, attempt, time);
  by("workers").append(made);
  return { made, item, stuck, stack, attempt, time };
}

function fill({ item, stuck, stack, attempt, time }, seen) {
  say(item, seen.item ?? "–");
  say(attempt, seen.attempt === null ? "" : String(seen.attempt));
  say(time, (seen.item === null ? "" : seconds(seen.seconds)) + (seen.given_up ? ", given up" : ""));
  time.className = seen.stuck ? "bad" : "";
  stuck.hidden = !seen.stuck;
  say(stack, seen.stack || "(where it is cannot be seen)");
}
