"""How soon and how small serving is: the API from start to ready, and the prediction page in a real browser.

    python bench/page.py [--runs 7] [--project FOLDER]

The API: seconds from `rf-mlops serve` until `/ready` says so, beside a bare `import fastapi`; resident
memory at ready and after the first CSV upload. The page: seconds from opening it to a form one can type
in, from a click to its answer, and the memory of its kernel. Medians. Never a test: it only prints.
"""

import os
import subprocess
import sys
from statistics import median
from time import perf_counter
from urllib.request import Request, urlopen

from common import (
    ROOT,
    a_project,
    ended,
    free_port,
    in_turn,
    limited,
    megabytes,
    options,
    print_rows,
    process,
    started,
    wait_for,
)

FLOWERS = b"sepal_length,sepal_width,petal_length,petal_width\n" + b"5.1,3.5,1.4,0.2\n" * 150
JOINED = {"Content-Type": "text/csv", "Accept": "text/csv"}


def api_once() -> tuple[float, float, float]:
    "Seconds to ready; megabytes then, and after the first upload."
    begin = perf_counter()
    process, (address,) = started("serve", "--port", "0")
    wait_for(f"{address}/ready", process)
    took, first = perf_counter() - begin, megabytes(process.pid)
    where = f"{address}/predict?proba=true&join=true"
    urlopen(Request(where, FLOWERS, JOINED)).read()  # noqa: S310
    second = megabytes(process.pid)
    ended(process)
    return took, first, second


def kernel_of(process: subprocess.Popen) -> int:
    "The newest kernel among a process's children."
    found = subprocess.check_output(["pgrep", "-n", "-P", str(process.pid), "-f", "ipykernel"])
    return int(found)


def page_once(browser, address: str, process: subprocess.Popen) -> tuple[float, float, float]:
    "Seconds to a usable form, seconds from click to answer (median of ten), megabytes of the kernel."
    tab = browser.new_page()
    begin = perf_counter()
    tab.goto(address)
    tab.wait_for_selector(".rf-field input", state="visible")
    usable = perf_counter() - begin
    clicks = [tab.evaluate(CLICK) / 1000 for _ in range(10)]
    memory = megabytes(kernel_of(process))
    tab.close()
    return usable, median(clicks), memory


# Milliseconds from a click to the answer's new request id, as the page itself sees them.
CLICK = """async () => {
    const id = () => [...document.querySelectorAll(".rf-answer .rf-small code")].at(-1)?.textContent;
    const before = id(), begin = performance.now();
    document.querySelector(".rf-ask button").click();
    while (id() === before) await new Promise((go) => requestAnimationFrame(go));
    return performance.now() - begin;
}"""


def page(runs: int) -> list[tuple[float, float, float]]:
    "Measurements of the page, one browser and one server for all."
    from playwright.sync_api import sync_playwright

    finder = [sys.executable, ROOT / "tools" / "browser.py"]
    chromium = subprocess.check_output(finder, text=True, stderr=subprocess.DEVNULL).strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        process, (address, _) = started("app", "--port", "0")
        try:
            found = [page_once(browser, address, process) for _ in range(runs + 1)]
        finally:
            ended(process)
            browser.close()
    return found[1:]  # the first fills the browser's and the disk's cache


def main() -> None:
    "Measure and print."
    asked = options(__doc__ or "", 7)
    with a_project(asked.project):
        os.environ["RF_MLOPS_SERVE__PORT"] = str(free_port())  # the page's API: its own
        api_once()
        ready, first, second = (
            median(v) for v in zip(*[api_once() for _ in range(asked.runs)], strict=True)
        )
        usable, click, kernel = (median(v) for v in zip(*page(asked.runs), strict=True))
        (bare,) = in_turn(asked.runs, process(sys.executable, "-c", "import fastapi"))
    rows = [
        ("the API: start to ready", ready, "s", f"{ready / bare:.1f} × import fastapi", 1.2),
        ("the API: memory at ready", first, "MB", "", 135),
        ("the API: memory after the first upload", second, "MB", f"{second / first:.2f} × at ready", 135),
        ("the page: opened to usable", usable, "s", f"{usable / ready:.1f} × the API's start", 2.5),
        ("the page: memory of its kernel", kernel, "MB", "", 100),
        ("the page: click to answer", click * 1000, "ms", "", 200),
    ]  # fmt: skip
    note = f"Medians of {asked.runs} each; a click's of ten clicks each."
    print_rows(
        [(what, v, unit, beside, limited(v, unit, limit)) for what, v, unit, beside, limit in rows],
        note,
    )


if __name__ == "__main__":
    main()
