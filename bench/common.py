"""What the measurements share: pairs measured in turn, medians, a trained project, and a table."""

import argparse
import os
import platform
import re
import shutil
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
Row = tuple[str, float, str, str, str]  # what, value, unit, beside what, limit
SCRIPT = str(Path(sysconfig.get_path("scripts")) / "rf-mlops")


def processor() -> str:
    "The processor's name where the system tells it."
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def in_turn(runs: int, *tasks: Callable[[], object]) -> list[float]:
    "Medians in seconds; the tasks alternate, after one round that warms the disk's cache."
    times: list[list[float]] = [[] for _ in tasks]
    for number in range(runs + 1):
        for task, taken in zip(tasks, times, strict=True):
            begin = perf_counter()
            task()
            if number:
                taken.append(perf_counter() - begin)
    return [median(taken) for taken in times]


def process(*words: str) -> Callable[[], object]:
    "A task: a whole process from start to end."
    return lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def megabytes(pid: int, what: str = "VmRSS") -> float:
    "A process's resident memory, or its peak `VmHWM`, in MB of 10⁶ bytes."
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(rf"{what}:\s+(\d+)", status)[0]) * 1024 / 1e6


def started(*words: str) -> tuple[subprocess.Popen, list[str]]:
    "A command of ours that serves, and the addresses it prints first."
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([SCRIPT, *words], stdout=subprocess.PIPE, stderr=quiet, text=True)
    line = process.stdout.readline() if process.stdout else ""
    return process, re.findall(r"http://[\d.:]+", line)


def ended(process: subprocess.Popen) -> None:
    "End it and wait."
    process.terminate()
    process.wait()


def answers(address: str) -> bool:
    "Does anybody answer with 200?"
    try:
        return urlopen(address).status == 200  # noqa: S310
    except (URLError, OSError):
        return False


def wait_for(address: str, process: subprocess.Popen) -> None:
    "Until an address answers; stops where the process that should has ended."
    while not answers(address):
        if process.poll() is not None:
            raise SystemExit(f"Nobody will answer at {address}: the server has ended")
        sleep(0.002)


def free_port() -> int:
    "A port on which nobody listens."
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def trained_project(folder: Path) -> Path:
    "A project with an iris champion, as params.yaml has it."
    for name in ("settings.ini", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "nbs" / "runs", folder / "nbs" / "runs")
    env = {**os.environ, "RF_MLOPS_PROJECT": str(folder)}
    subprocess.run([SCRIPT, "train", "iris"], cwd=folder, env=env, check=True, capture_output=True)
    return folder


@contextmanager
def a_project(asked: Path | None) -> Iterator[Path]:
    "The project somebody named, or one trained in a temporary folder; the current folder meanwhile."
    with tempfile.TemporaryDirectory() as made:
        folder = (asked or trained_project(Path(made))).resolve()
        os.environ["RF_MLOPS_PROJECT"] = str(folder)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(ROOT)


def options(doc: str, runs: int) -> argparse.Namespace:
    "--runs and --project."
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--runs", type=int, default=runs, help="measurements of each kind (median)")
    parser.add_argument("--project", type=Path, help="a project with a trained iris champion")
    return parser.parse_args()


def limited(value: float, unit: str, limit: float | None) -> str:
    "Whether a limit holds, as a cell of the table."
    return "" if limit is None else f"{limit:g} {unit}: {'yes' if value <= limit else 'NO'}"


def reached(value: float, unit: str, least: float | None) -> str:
    "Whether a value is large enough, as a cell of the table."
    return "" if least is None else f"≥ {least:g} {unit}: {'yes' if value >= least else 'NO'}"


def print_rows(rows: list[Row], note: str) -> None:
    "The machine, and a table of: what, value, unit, beside what, limit."
    python = platform.python_version()
    print(f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {python}\n{note}\n")
    print(f"| {'what':<44} | {'':>12} | {'beside':<30} | {'limit':<14} |")
    print(f"|{'-' * 46}|{'-' * 13}:|{'-' * 32}|{'-' * 16}|")
    for what, value, unit, beside, limit in rows:
        print(f"| {what:<44} | {value:9.3f} {unit:<2} | {beside:<30} | {limit:<14} |")
