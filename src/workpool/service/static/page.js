// The page: what the service's stream of events says, and the last minutes of it, which only this page keeps.
// Whatever comes from the service becomes a text node: no item and no name of a pool can be markup.
"use strict";

const MINUTES = 5 * 60; // seconds that are kept, and that a chart spans
const RATE = 5; // seconds that a rate is taken over
const PERCENTILES = 60; // seconds that a percentile is taken over
const SVG = "http://www.w3.org/2000/svg";

const by = (id) => document.getElementById(id);
const kept = new Map(); // by pool: what was said, the oldest first
const rows = new Map(); // by pool: its row
let latest = null; // the last event
let token = null; // in memory only

// -- elements ------------------------------------------------------------------------------------------------

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function chart(kind) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", kind ? `chart ${kind}` : "chart");
  svg.setAttribute("viewBox", "0 0 120 28");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true"); // what it ends in is written beside it
  svg.append(document.createElementNS(SVG, "polyline"));
  return svg;
}

// Points are [seconds, value or null]; `top` is the value at the upper edge, or the greatest if that is more.
function draw(svg, points, now, top) {
  const most = Math.max(top, ...points.map(([, value]) => value ?? 0), 1e-9);
  const shown = points
    .filter(([, value]) => value !== null)
    .map(([at, value]) => `${(120 - ((now - at) / MINUTES) * 120).toFixed(1)},${(27 - (value / most) * 26).toFixed(1)}`);
  svg.firstChild.setAttribute("points", shown.join(" "));
}

// -- numbers -------------------------------------------------------------------------------------------------

const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

function number(value) {
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function seconds(value) {
  if (value === null) return "–";
  if (value === Infinity) return "> 10 s";
  if (value < 1) return `${value < 0.01 ? (value * 1000).toFixed(1) : Math.round(value * 1000)} ms`;
  return value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
}

const reasons = (counts) =>
  Object.entries(counts).filter(([, count]) => count).map(([reason, count]) => `${reason} ${number(count)}`).join(", ");

// What was said `span` seconds before the place `end`, or as early as is known.
function before(said, end, span) {
  let at = end;
  while (at > 0 && said[at - 1].at >= said[end].at - span) at -= 1;
  return said[at];
}

// Of what `read` counts, how much came in a second.
function rate(said, end, read, span = RATE) {
  const then = before(said, end, span);
  const passed = said[end].at - then.at;
  return passed > 0 ? (read(said[end].stats) - read(then.stats)) / passed : null;
}

// The bound below which `share` of what was measured in the last minute lies; within its bucket by a straight line.
function percentile(said, end, histograms, share) {
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

const RUN = ["run_success", "run_error"];
const WAIT = ["queue_wait"];

// The columns: the text of each, and what its chart shows.
const columns = [
  {
    text: ({ stats }) => `${number(stats.queue_depth)} of ${number(stats.queue_size)}`,
    value: (said, end) => said[end].stats.queue_depth,
    top: (stats) => stats.queue_size,
  },
  {
    text: ({ stats }) =>
      `${number(stats.workers_busy)} of ${number(stats.workers)}` + (stats.workers_stuck ? `, ${stats.workers_stuck} stuck` : ""),
    value: (said, end) => said[end].stats.workers_busy,
    top: (stats) => stats.workers,
  },
  { text: (_, said) => perSecond(said, processed), value: (said, end) => rate(said, end, processed) },
  {
    text: ({ stats }, said) => `${number(stats.failed)}, ${perSecond(said, (each) => each.failed)}`,
    value: (said, end) => rate(said, end, (each) => each.failed),
    bad: true,
  },
  {
    text: ({ stats }) => reasons(stats.refused) || "0",
    value: (said, end) => rate(said, end, (each) => sum(each.refused)),
    bad: true,
  },
  {
    text: ({ stats }) => reasons(stats.shed) || "0",
    value: (said, end) => rate(said, end, (each) => sum(each.shed)),
    bad: true,
  },
  { text: (_, said) => percentiles(said, RUN), value: (said, end) => finite(percentile(said, end, RUN, 0.99)) },
  { text: (_, said) => percentiles(said, WAIT), value: (said, end) => finite(percentile(said, end, WAIT, 0.99)) },
];

const processed = (stats) => stats.processed;
const finite = (value) => (value === Infinity ? 10 : value);

function perSecond(said, read) {
  const now = rate(said, said.length - 1, read);
  return now === null ? "–" : `${number(now)}/s`;
}

function percentiles(said, histograms) {
  const [half, most] = [0.5, 0.99].map((share) => percentile(said, said.length - 1, histograms, share));
  return `p50 ${seconds(half)}, p99 ${seconds(most)}`;
}

// -- all pools -----------------------------------------------------------------------------------------------

function row(name) {
  const made = element("tr");
  const head = element("th");
  head.scope = "row";
  const link = element("a", "", name);
  link.href = `#pool=${encodeURIComponent(name)}`;
  const state = element("div");
  head.append(link, state);
  made.append(head);
  const cells = columns.map((column) => {
    const cell = element("td");
    const text = element("div");
    const svg = chart(column.bad ? "bad" : "");
    cell.append(text, svg);
    made.append(cell);
    return { text, svg };
  });
  by("rows").append(made);
  return { made, state, cells };
}

function keep(name, at, stats) {
  let said = kept.get(name);
  const last = said && said[said.length - 1];
  if (!said || stats.processed < last.stats.processed || stats.submitted < last.stats.submitted) {
    said = []; // a new pool of that name: its counts begin again
    kept.set(name, said);
  }
  const entry = { at, stats, values: [] };
  said.push(entry);
  entry.values = columns.map((column) => column.value(said, said.length - 1));
  while (said[0].at < at - MINUTES) said.shift();
}

function show(event) {
  latest = event;
  for (const [name, stats] of Object.entries(event.pools)) keep(name, event.at, stats);
  for (const [name, { made }] of rows) {
    if (!(name in event.pools)) {
      made.remove();
      rows.delete(name);
      kept.delete(name);
    }
  }
  for (const name of Object.keys(event.pools)) {
    if (!rows.has(name)) rows.set(name, row(name));
    fill(rows.get(name), name);
  }
}

function fill({ state, cells }, name) {
  const said = kept.get(name);
  const last = said[said.length - 1];
  say(state, stateOf(name));
  cells.forEach(({ text, svg }, index) => {
    say(text, columns[index].text(last, said));
    const top = columns[index].top ? columns[index].top(last.stats) : 0;
    draw(svg, said.map((entry) => [entry.at, entry.values[index]]), last.at, top);
  });
}

function stateOf(name) {
  const { state } = latest.pools[name];
  return state === "running" && latest.paused.includes(name) ? "paused" : state;
}

// -- one pool ------------------------------------------------------------------------------------------------

const chosen = () => (location.hash.startsWith("#pool=") ? decodeURIComponent(location.hash.slice(6)) : null);
const path = (name, action = "") => `api/pools/${encodeURIComponent(name)}${action}`;
const workers = new Map(); // by name: the row of each

async function look() {
  const name = chosen();
  if (name === null) return;
  let seen;
  try {
    const answer = await fetch(path(name), { cache: "no-store" });
    if (chosen() !== name) return; // somebody has gone on while it was asked for
    if (!answer.ok) {
      say(by("pool-state"), (await answer.json()).detail);
      return;
    }
    seen = await answer.json();
  } catch {
    return; // the line at the top says that the service does not answer
  }
  if (chosen() === name) showPool(name, seen);
}

function showPool(name, { stats, paused, workers: running }) {
  say(by("pool-state"), stats.state === "running" && paused ? "paused" : stats.state);
  by("control").hidden = !(latest && latest.control);
  by("pause").disabled = paused || stats.state !== "running";
  by("resume").disabled = !paused;
  const said = kept.get(name) ?? [];
  const numbers = [
    ["Queue", `${number(stats.queue_depth)} of ${number(stats.queue_size)}`],
    ["Busy workers", `${number(stats.workers_busy)} of ${number(stats.workers)}`],
    ["Stuck workers", number(stats.workers_stuck)],
    ["Throughput", said.length ? perSecond(said, processed) : "–"],
    ["Submitted", number(stats.submitted)],
    ["Succeeded", number(stats.succeeded)],
    ["Failed", number(stats.failed)],
    ["Discarded", number(stats.discarded)],
    ["Cancelled", number(stats.cancelled)],
    ["Abandoned", number(stats.abandoned)],
    ["Waiting to retry", number(stats.waiting)],
    ["Retries", number(stats.retries)],
    ["Refused", reasons(stats.refused) || "0"],
    ["Shed", reasons(stats.shed) || "0"],
    ["Dead", reasons(stats.dead) || "0"],
    ["Run time", said.length ? percentiles(said, RUN) : "–"],
    ["Wait", said.length ? percentiles(said, WAIT) : "–"],
  ];
  showNumbers(numbers);
  showWorkers(running);
}

function showNumbers(numbers) {
  const list = by("numbers");
  if (list.childElementCount !== numbers.length) {
    list.replaceChildren(...numbers.map(([what]) => {
      const pair = element("div");
      pair.append(element("dt", "", what), element("dd"));
      return pair;
    }));
  }
  numbers.forEach(([, value], index) => say(list.children[index].lastChild, value));
}

function showWorkers(running) {
  const names = new Set(running.map(({ worker }) => worker));
  for (const [name, { made }] of workers) {
    if (!names.has(name)) {
      made.remove();
      workers.delete(name);
    }
  }
  running.forEach((seen, place) => {
    if (!workers.has(seen.worker)) workers.set(seen.worker, workerRow(seen.worker));
    fillWorker(workers.get(seen.worker), seen);
    const there = by("workers").children[place];
    const { made } = workers.get(seen.worker);
    // A row that has the keyboard's focus keeps its place, because moving it would lose the focus.
    if (there !== made && !made.contains(document.activeElement)) by("workers").insertBefore(made, there ?? null);
  });
}

function workerRow(name) {
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

function fillWorker({ item, stuck, stack, attempt, time }, seen) {
  say(item, seen.item ?? "–");
  say(attempt, seen.attempt === null ? "" : String(seen.attempt));
  say(time, (seen.item === null ? "" : seconds(seen.seconds)) + (seen.given_up ? ", given up" : ""));
  time.className = seen.stuck ? "bad" : "";
  stuck.hidden = !seen.stuck;
  say(stack, seen.stack || "(where it is cannot be seen)");
}

function turn() {
  const name = chosen();
  by("pools").hidden = name !== null;
  by("pool").hidden = name === null;
  document.title = name === null ? "workpool" : `${name} – workpool`;
  workers.clear();
  by("workers").replaceChildren();
  by("numbers").replaceChildren();
  say(by("said"), "");
  say(by("pool-state"), "");
  say(by("pool-title"), name ?? "");
  by(name === null ? "pools-title" : "pool-title").focus();
  look();
}

// -- steering ------------------------------------------------------------------------------------------------

function askForToken() {
  return new Promise((resolve) => {
    const asks = by("asks");
    const done = (given) => {
      by("token").value = "";
      by("asks-form").onsubmit = by("asks-not").onclick = asks.onclose = null;
      asks.close();
      resolve(given);
    };
    by("asks-form").onsubmit = (event) => {
      event.preventDefault();
      done(by("token").value);
    };
    by("asks-not").onclick = asks.onclose = () => done(null);
    asks.showModal();
  });
}

async function steer(action) {
  const name = chosen();
  token ??= await askForToken();
  if (token === null) return;
  say(by("said"), "…");
  try {
    const bearer = new TextEncoder().encode(token).reduce((text, byte) => text + String.fromCharCode(byte), "");
    const answer = await fetch(path(name, `/${action}`), { method: "POST", headers: { Authorization: `Bearer ${bearer}` } });
    if (answer.ok) {
      say(by("said"), action === "pause" ? "Paused." : "Resumed.");
    } else {
      if (answer.status === 401) token = null;
      say(by("said"), `Refused: ${(await answer.json()).detail}.`);
    }
  } catch {
    say(by("said"), "The service did not answer.");
  }
  look();
}

// -- the stream ----------------------------------------------------------------------------------------------

function listen() {
  const events = new EventSource("api/events");
  const again = (text) => {
    say(by("connection"), text);
    by("connection").className = "bad";
    events.close();
    setTimeout(listen, 3000);
  };
  events.onmessage = (event) => {
    say(by("connection"), "Live");
    by("connection").className = "";
    show(JSON.parse(event.data));
    look();
  };
  events.addEventListener("end", () => again("The service has stopped. Trying again…"));
  events.onerror = () => again("The service does not answer. Trying again…");
}

by("pause").onclick = () => steer("pause");
by("resume").onclick = () => steer("resume");
window.addEventListener("hashchange", turn);
if (chosen() !== null) turn();
listen();
