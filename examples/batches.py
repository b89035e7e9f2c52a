"""A batch processor: jobs of 50 to 150 records are averaged by a few workers, and the results come in order.

    python -m examples.batches

It shows `map`, which takes no more jobs from its source than there is room for, and `call`, whose future
has the result of one job, or its error.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from workpool import Pool, current

JOBS = 24


@dataclass(frozen=True, slots=True)
class Record:
    source: str
    value: float


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Result:
    job: str
    count: int
    average: float
    by_source: dict[str, float]


def process_batch(job: Job) -> Result:
    """The process function. Raises ValueError for a job without records."""
    if not job.records:
        raise ValueError(f"{job.id} has no records")
    values: dict[str, list[float]] = {}
    for record in job.records:
        if not current().sleep(0.0003):  # each record costs a look-up
            raise TimeoutError(f"{job.id} was asked to end early")
        values.setdefault(record.source, []).append(record.value)
    return Result(
        job=job.id,
        count=len(job.records),
        average=fmean(record.value for record in job.records),
        by_source={source: fmean(each) for source, each in sorted(values.items())},
    )


def make_jobs(seed: int) -> Iterator[Job]:
    """The same for the same seed. A generator: no more jobs are in memory than the pool holds."""
    dice = random.Random(seed)
    for number in range(1, JOBS + 1):
        records = (
            Record(source=f"sensor-{dice.randint(0, 4)}", value=dice.uniform(0, 100))
            for _ in range(dice.randint(50, 150))
        )
        yield Job(f"batch-{number}", tuple(records))


def main() -> None:
    parser = argparse.ArgumentParser(description="A batch processor on a worker pool.")
    parser.add_argument("--seed", type=int, default=1, help="which jobs there are (default 1)")
    seed: int = parser.parse_args().seed

    results: list[Result] = []
    # Few workers and a short queue, because a job is large: what the pool holds, it holds in memory.
    with Pool(process_batch, workers=4, queue_size=8, name="batches") as pool:
        for result in pool.map(make_jobs(seed)):
            print(f"{result.job:9} {result.count:4} records, average {result.average:6.2f}")
            results.append(result)

        empty = pool.call(Job("an empty batch", ()))
        print(f"\nthe job that fails: {empty.exception(timeout=10)!r}")
        report = pool.stop(timeout=10.0)

    records = sum(result.count for result in results)
    overall = sum(result.average * result.count for result in results) / records
    print(f"\nall {len(results)} jobs: {records} records, average {overall:.2f}")
    for source in sorted({source for result in results for source in result.by_source}):
        means = [result.by_source[source] for result in results if source in result.by_source]
        print(f"  {source}  {min(means):6.2f} … {max(means):6.2f}")

    stats = report.stats
    print(f"\n{stats.submitted} accepted = {stats.succeeded} succeeded + {stats.failed} failed")
    print(f"mean run time {stats.run_success.mean * 1000:.0f} ms, mean wait {stats.queue_wait.mean * 1000:.0f} ms")


if __name__ == "__main__":
    main()
