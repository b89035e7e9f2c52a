// The last minutes of each pool, which only this page keeps.

import { measures } from "./measures.js";

export const SPAN = 5 * 60; // seconds that are kept, and that a chart spans

const kept = new Map(); // by pool: {at, stats, values}, the oldest first

export const said = (name) => kept.get(name) ?? [];

export const forget = (name) => kept.delete(name);

export function keep(name, at, stats) {
  let entries = kept.get(name);
  const last = entries?.[entries.length - 1];
  if (!last || stats.processed < last.stats.processed || stats.submitted < last.stats.submitted) {
    entries = []; // a new pool of that name: its counts begin again
    kept.set(name, entries);
  }
  const entry = { at, stats, values: [] };
  entries.push(entry);
  entry.values = measures.map((measure) => measure.value(entries, entries.length - 1));
  while (entries[0].at < at - SPAN) entries.shift();
}
