"""Who imports prometheus_client, and when: only a pool that is to have metrics."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

IMPORTS = """
    import sys
    before = set(sys.modules)
    {code}
    tops = {{name.partition(".")[0] for name in set(sys.modules) - before}}
    print(*sorted(tops - set(sys.stdlib_module_names) - {{"workpool"}}))
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, timeout=50)


def third_parties(code: str) -> list[str]:
    """The modules, beside the standard library's and our own, that `code` brings in."""
    done = run(dedent(IMPORTS).format(code=code))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_importing_workpool_imports_no_third_party() -> None:
    assert third_parties("import workpool") == []


def test_a_pool_without_metrics_imports_no_third_party() -> None:
    assert third_parties("import workpool\nwith workpool.Pool(abs) as pool: pool.call(-1).result(20)") == []


def test_a_pool_with_metrics_imports_prometheus_client_alone() -> None:
    assert third_parties("import workpool\nworkpool.Pool(abs, metrics=True)") == ["prometheus_client"]


def test_without_prometheus_client_the_error_says_what_to_install() -> None:
    done = run(
        """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "prometheus_client":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Blocker())
        from workpool import Pool

        for wanted in ({"metrics": True}, {"metrics_prefix": "mp"}, {"metrics": object()}):
            try:
                Pool(abs, **wanted)
            except ImportError as error:
                print(error)
        with Pool(abs) as pool:
            print(pool.call(-3).result(20))
        pool.unregister()
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    *errors, works = done.stdout.splitlines()
    assert works == "3"
    assert errors == ["metrics need prometheus-client: pip install 'workpool[prometheus]'"] * 3
