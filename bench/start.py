"""How soon the package is there: imports, the command line, a model in a fresh process, and one answer.

    python bench/start.py [--runs 9] [--project FOLDER]

Everything is measured in one run, each pair in turn, and given as a median beside what it is compared
with, so that a slow machine slows both. Needs a trained champion of iris: without --project one is
trained in a temporary folder first. Never a test: it only prints.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = str(Path(sysconfig.get_path("scripts")) / "rf-mlops")
LOAD = "from rf_mlops import load; load('iris@champion')"
ANSWER = LOAD + ".predict([[5.1, 3.5, 1.4, 0.2]])"


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


def trained_project(folder: Path) -> Path:
    "A project with an iris champion, as params.yaml has it."
    for name in ("settings.ini", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "nbs" / "runs", folder / "nbs" / "runs")
    env = {**os.environ, "RF_MLOPS_PROJECT": str(folder)}
    subprocess.run([SCRIPT, "train", "iris"], cwd=folder, env=env, check=True, capture_output=True)
    return folder


def lone_answers(runs: int) -> tuple[float, float]:
    "Seconds for one row's probabilities: ours and scikit-learn's own pipeline, fitted on the same rows."
    from rf_mlops import load
    from rf_mlops.data import ingest
    from rf_mlops.settings import load_case, load_settings
    from rf_mlops.train import train

    model, case = load("iris@champion"), load_case("iris")
    rows = ingest(case, load_settings())
    pipeline = train(case, rows.schema, rows.frame).pipeline
    frame = rows.frame[rows.schema.names].iloc[:1]
    record = frame.to_dict("records")[0]
    theirs, ours = in_turn(
        50 * runs, lambda: pipeline.predict_proba(frame), lambda: model.predict_proba(record)
    )
    return ours, theirs


def measured(runs: int) -> list[tuple[str, float, str, str]]:
    "Rows of the table: what, milliseconds, beside what, the limit and whether it holds."
    python = sys.executable
    bare, imported, shown, loaded, answered = in_turn(
        runs,
        process(python, "-c", "pass"),
        process(python, "-c", "import rf_mlops"),
        process(SCRIPT, "--help"),
        process(python, "-c", LOAD),
        process(python, "-c", ANSWER),
    )
    ours, theirs = lone_answers(runs)

    def row(what: str, seconds: float, beside: str, limit: float | None = None):
        kept = (
            "" if limit is None else f"{limit * 1000:.0f} ms: {'yes' if seconds < limit else 'NO'}"
        )
        return what, seconds * 1000, beside, kept

    times = f"{loaded / bare:.1f} × bare Python"
    return [
        row("bare Python", bare, "–"),
        row("import rf_mlops, over bare Python", imported - bare, f"{imported / bare:.2f} ×", 0.05),
        row("rf-mlops --help, whole process", shown, f"{shown / bare:.1f} × bare Python", 0.3),
        row("load('iris@champion'), whole process", loaded, times),
        row("… and a first answer", answered, f"{answered / loaded:.2f} × load alone"),
        row("one answer, scikit-learn's pipeline", theirs, "1"),
        row("one answer, ours", ours, f"{ours / theirs:.4f} × scikit-learn's"),
    ]


def main() -> None:
    "Measure and print."
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="processes of each kind (median)")
    parser.add_argument("--project", type=Path, help="a project with a trained iris champion")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = asked.project or trained_project(Path(made))
        os.environ["RF_MLOPS_PROJECT"] = str(folder.resolve())
        os.chdir(folder)
        rows = measured(asked.runs)
        os.chdir(ROOT)
    print(
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    )
    print(
        f"Medians of {asked.runs} processes each, in turn; single answers of {50 * asked.runs}.\n"
    )
    print(f"| {'what':<38} | {'ms':>9} | {'beside':<24} | {'limit':<12} |")
    print(f"|{'-' * 40}|{'-' * 10}:|{'-' * 26}|{'-' * 14}|")
    for what, milliseconds, beside, limit in rows:
        print(f"| {what:<38} | {milliseconds:9.3f} | {beside:<24} | {limit:<12} |")


if __name__ == "__main__":
    main()
