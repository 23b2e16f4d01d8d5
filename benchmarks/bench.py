"""How much CPU a proxy costs per transaction, side by side in one run: direct, pgleash, PgBouncer, HAProxy.

Machines are noisy: every round runs all of them in turn, and what counts is the ratio of medians. PgBouncer (session
mode) and HAProxy (TCP mode, one thread) take part if they are installed; HAProxy copies bytes and knows nothing.

    python benchmarks/bench.py [--seconds N] [--rounds N]
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from proxy.demo.binaries import program
from proxy.demo.postgres import Postgres, free_port

WORKS = {
    "small": ["-S", "-c8", "-j1"],
    "prepared": ["-S", "-c8", "-j1", "-M", "prepared"],
    "write": ["-c8", "-j1"],
    "latency": ["-S", "-c1", "-j1"],
}


class Contender(NamedTuple):
    """Something that pgbench connects to; without a process it is the server itself."""

    name: str
    port: int
    process: psutil.Process | None


class Result(NamedTuple):
    """One run of pgbench."""

    per_second: float
    cpu_us: float


def measure(contender: Contender, work: list[str], postgres: Postgres, seconds: float) -> Result:
    """Run one work against one contender."""
    environment = {**postgres.environment(), "PGPORT": str(contender.port), "PGSSLMODE": "disable"}
    before = cpu(contender)
    command = [str(program("pgbench")), "-n", f"-T{seconds:g}", *work]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    used = cpu(contender) - before
    transactions = int(found(r"number of transactions actually processed: (\d+)", done.stdout))
    return Result(float(found(r"tps = ([\d.]+)", done.stdout)), used / transactions * 1e6)


def found(pattern: str, text: str) -> str:
    """What pgbench says."""
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"pgbench does not say {pattern!r}: {text}")
    return match[1]


def cpu(contender: Contender) -> float:
    """Seconds of CPU that the contender's process has used, user and system."""
    if contender.process is None:
        return 0.0
    times = contender.process.cpu_times()
    return float(times.user + times.system)


@contextlib.contextmanager
def started(name: str, port: int, command: list[str]) -> Iterator[Contender]:
    """A proxy, once it accepts connections."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        deadline = time.monotonic() + 10
        while not listens(process.pid, port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"{name} does not listen on {port}")
            time.sleep(0.05)
        yield Contender(name, port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


def listens(pid: int, port: int) -> bool:
    """Whether a process listens on a port."""
    connections = psutil.Process(pid).net_connections("tcp")
    return any(one.laddr.port == port and one.status == psutil.CONN_LISTEN for one in connections)


@contextlib.contextmanager
def contenders(postgres: Postgres) -> Iterator[list[Contender]]:
    """All that are installed."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        found_ones = [Contender("direct", postgres.port, None)]
        commands = {"pgleash": pgleash, "pgbouncer": pgbouncer, "haproxy": haproxy}
        for name, command in commands.items():
            port = free_port()
            if name == "pgleash" or shutil.which(name) is not None:
                found_ones.append(stack.enter_context(started(name, port, command(postgres, port, directory))))
            else:
                print(f"SKIPPED: {name} is not installed")
        yield found_ones


def pgleash(postgres: Postgres, port: int, _directory: Path) -> list[str]:
    """Ours, with its default limits."""
    address = f"{postgres.host}:{postgres.port}"
    return [sys.executable, "-m", "proxy", "serve", "--listen", f"127.0.0.1:{port}", "--upstream", address]


def pgbouncer(postgres: Postgres, port: int, directory: Path) -> list[str]:
    """PgBouncer in session mode."""
    users = directory / "users"
    users.write_text(f'"{postgres.user}" "{postgres.password}"\n')
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host={postgres.host} port={postgres.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n"
        "pool_mode = session\ndefault_pool_size = 100\nlog_connections = 0\nlog_disconnections = 0\n"
    )
    account = ["-u", "nobody"] if os.geteuid() == 0 else []
    return ["pgbouncer", "-q", *account, str(configuration)]


def haproxy(postgres: Postgres, port: int, directory: Path) -> list[str]:
    """HAProxy, copying bytes."""
    configuration = directory / "haproxy.cfg"
    configuration.write_text(
        "global\n nbthread 1\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
        f"listen pg\n bind 127.0.0.1:{port}\n server pg {postgres.host}:{postgres.port}\n"
    )
    return ["haproxy", "-db", "-f", str(configuration)]


def table(work: str, results: dict[str, list[Result]]) -> str:
    """Medians, their spread, and ratios to PgBouncer if it took part."""
    peer = statistics.median(result.cpu_us for result in results["pgbouncer"]) if "pgbouncer" in results else 0.0
    direct = statistics.median(result.per_second for result in results["direct"])
    lines = [f"{work:<10} {'CPU us/tx':>10} {'spread':>13} {'x pgbouncer':>12} {'tx/s':>9} {'x direct':>9}"]
    for name, runs in results.items():
        costs = sorted(run.cpu_us for run in runs)
        cost, speed = statistics.median(costs), statistics.median(run.per_second for run in runs)
        ratio = f"{cost / peer:12.2f}" if peer and cost else " " * 12
        spread = f"{costs[0]:.1f}-{costs[-1]:.1f}"
        lines.append(f"  {name:<8} {cost:10.1f} {spread:>13} {ratio} {speed:9.0f} {speed / direct:9.2f}")
    return "\n".join(lines)


def main() -> None:
    """Run all works and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default 3)")
    parser.add_argument("--rounds", type=int, default=5, help="of all contenders (default 5)")
    asked = parser.parse_args()
    with Postgres() as postgres:
        initialize = [str(program("pgbench")), "-i", "-q", "-s10"]
        subprocess.run(initialize, env=postgres.environment(), capture_output=True, check=True)  # noqa: S603
        with contenders(postgres) as all_of_them:
            for name, work in WORKS.items():
                results: dict[str, list[Result]] = {contender.name: [] for contender in all_of_them}
                for _ in range(asked.rounds):
                    for contender in all_of_them:
                        results[contender.name].append(measure(contender, work, postgres, asked.seconds))
                print(table(name, results), flush=True)


if __name__ == "__main__":
    main()
