// Numbers of what was said of one pool: a list of {at, stats}, the oldest first. Nothing here touches the page.

const RATE = 5; // seconds that a rate is taken over
const PERCENTILES = 60; // seconds that a percentile is taken over

export const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

export function number(value) {
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function seconds(value) {
  if (value === null) return "–";
  if (value === Infinity) return "> 10 s";
  if (value < 1) return `${value < 0.01 ? (value * 1000).toFixed(1) : Math.round(value * 1000)} ms`;
  return value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
}

export const perSecond = (value) => (value === null ? "–" : `${number(value)}/s`);

export const reasons = (counts) =>
  Object.entries(counts).filter(([, count]) => count).map(([reason, count]) => `${reason} ${number(count)}`).join(", ") || "0";

// What was said `span` seconds before the place `end`, or as early as is known.
function before(said, end, span) {
  let at = end;
  while (at > 0 && said[at - 1].at >= said[end].at - span) at -= 1;
  return said[at];
}

// Of what `read` counts, how much came in a second.
export function rate(said, end, read) {
  const then = before(said, end, RATE);
  const passed = said[end].at - then.at;
  return passed > 0 ? (read(said[end].stats) - read(then.stats)) / passed : null;
}

// The bound below which `share` of what was measured in the last minute lies; within its bucket by a straight line.
export function percentile(said, end, histograms, share) {
  const then = before(said, end, PERCENTILES).stats;
  const now = said[end].stats;
  const bounds = Object.keys(now[histograms[0]].buckets);
  const counts = bounds.map((bound) =>
    histograms.reduce((total, name) => total + now[name].buckets[bound] - then[name].buckets[bound], 0));
  const all = counts[counts.length - 1];
  if (all <= 0) return null;
  const place = counts.findIndex((count) => count >= share * all);
  if (bounds[place] === "+Inf") return Infinity;
  const from = place ? Number(bounds[place - 1]) : 0;
  const below = place ? counts[place - 1] : 0;
  return from + ((Number(bounds[place]) - from) * (share * all - below)) / (counts[place] - below);
}
