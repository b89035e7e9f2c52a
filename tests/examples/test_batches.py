"""The example `batches`: its averages are right, in order, and the same for the same seed."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean

import pytest

from examples.batches import Job, Record, make_jobs, process_batch
from workpool import Pool

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.batches", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
    )
    # The job that is made to fail has a future, which has its error: nothing is logged.
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def output() -> str:
    return run()


def test_each_job_has_its_average_in_order(output: str) -> None:
    found = re.findall(r"^(batch-\d+) +(\d+) records, average +([\d.]+)$", output, re.MULTILINE)
    assert found == [
        (job.id, str(len(job.records)), f"{fmean(record.value for record in job.records):.2f}") for job in make_jobs(1)
    ]


def test_the_totals_are_those_of_all_records(output: str) -> None:
    records = [record for job in make_jobs(1) for record in job.records]
    mean = fmean(record.value for record in records)
    assert f"\nall 24 jobs: {len(records)} records, average {mean:.2f}\n" in output
    assert re.findall(r"^  (sensor-\d) ", output, re.MULTILINE) == sorted({record.source for record in records})


def test_the_counts_add_up(output: str) -> None:
    assert "the job that fails: ValueError('an empty batch has no records')\n" in output
    assert "\n25 accepted = 24 succeeded + 1 failed\n" in output


def test_a_seed_chooses_the_jobs(output: str) -> None:
    def but_the_times(text: str) -> list[str]:
        return [line for line in text.splitlines() if "run time" not in line]

    with ThreadPoolExecutor(2) as threads:  # both at once
        first, second = threads.map(partial(run, "--seed"), ("1", "2"))
    assert but_the_times(first) == but_the_times(output)
    assert but_the_times(second) != but_the_times(output)


def test_jobs_have_50_to_150_records() -> None:
    for seed in range(20):
        assert all(50 <= len(job.records) <= 150 for job in make_jobs(seed))


def test_the_average_is_taken_for_each_source_too() -> None:
    job = Job("one", (Record("a", 1.0), Record("b", 10.0), Record("a", 3.0)))
    with Pool(process_batch, workers=1) as pool:
        result = pool.call(job).result(20)
    assert (result.job, result.count, result.by_source) == ("one", 3, {"a": 2.0, "b": 10.0})
    assert result.average == pytest.approx(14 / 3)
