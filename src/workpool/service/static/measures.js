// What is shown of every pool, once for the table of all and for a pool's own page. Each measure has the `text` of
// now, the `value` that its chart shows at a place of what was said, and how a value of the chart is written. The chart
// reaches to `top` at least.

import { number, percentile, perSecond, rate, reasons, seconds, sum } from "./numbers.js";

const counted = (title, of, part) => ({
  title,
  text: ({ stats }) =>
    `${number(stats[part])} of ${number(stats[of])}` + (part === "workers_busy" && stats.workers_stuck ? `, ${stats.workers_stuck} stuck` : ""),
  value: (said, end) => said[end].stats[part],
  top: (stats) => stats[of],
  written: number,
});

const rated = (title, read, text = () => "") => ({
  title,
  text: (last, said) => [text(last.stats), perSecond(rate(said, said.length - 1, read))].filter(Boolean).join(", "),
  value: (said, end) => rate(said, end, read),
  top: () => 0,
  written: perSecond,
});

const told = (title, counts) => ({
  ...rated(title, (stats) => sum(stats[counts])),
  text: ({ stats }) => reasons(stats[counts]),
  bad: true,
});

const timed = (title, histograms) => ({
  title,
  text: (_, said) => {
    const [half, most] = [0.5, 0.99].map((share) => percentile(said, said.length - 1, histograms, share));
    return `p50 ${seconds(half)}, p99 ${seconds(most)}`;
  },
  value: (said, end) => {
    const most = percentile(said, end, histograms, 0.99);
    return most === Infinity ? 10 : most; // the histograms' last bound
  },
  top: () => 0,
  written: seconds,
});

export const measures = [
  counted("Queue", "queue_size", "queue_depth"),
  counted("Busy workers", "workers", "workers_busy"),
  rated("Throughput", (stats) => stats.processed),
  { ...rated("Failures", (stats) => stats.failed, (stats) => number(stats.failed)), bad: true },
  told("Refused", "refused"),
  told("Shed", "shed"),
  timed("Run time", ["run_success", "run_error"]),
  timed("Wait", ["queue_wait"]),
];
