"""What the tests share: projects of their own, the console script, and a guard over the real records.

A test never works in the repository itself: `project` is an empty one, `trained` one in which iris has
been trained (look, do not touch), `trained_copy` a copy of that to do as one likes with.
"""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(sysconfig.get_path("scripts")) / "rf-mlops"
GUARDED = (str(ROOT / "mlruns") + os.sep, str(ROOT / "reports") + os.sep)

touched: list[str] = []  # what somebody tried to write there, all the same


def _guard(event: str, args: tuple) -> None:
    "An audit hook: no test writes into the repository's own records."
    if event == "open":
        path, _, flags = args
        writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    elif event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir"):
        path, writing = args[0], True
    else:
        return
    if writing and isinstance(path, (str, bytes)):
        text = os.path.realpath(os.fsdecode(path))
        if text.startswith(GUARDED):
            touched.append(text)
            raise PermissionError(f"a test tried to write {text}")


sys.addaudithook(_guard)


@pytest.fixture(scope="session", autouse=True)
def own_environment():
    "No setting of the shell that started the tests reaches them, and the repository stays as it was."
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("RF_MLOPS_", "MLFLOW_TRACKING_"))]:
            patch.delenv(name)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("COLUMNS", "200")  # rich folds no line in the middle of what is looked for
        yield
    assert touched == []


def make_project(folder: Path) -> Path:
    "A project of its own in `folder`, as the repository has it, with nothing trained."
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("settings.ini", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "nbs" / "runs", folder / "nbs" / "runs", dirs_exist_ok=True)
    return folder


def run_script(
    *args: str,  # after `rf-mlops`
    cwd: Path | None = None,  # the current folder if None
    env: dict[str, str] | None = None,  # over the present environment
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    "Run the installed console script as somebody at a terminal would."
    where = Path(cwd or Path.cwd()).resolve()
    full = {**os.environ, **(env or {})}
    assert full.get("RF_MLOPS_PROJECT") or not where.is_relative_to(ROOT), "not in the repository"
    return subprocess.run(
        [SCRIPT, *args], cwd=where, env=full, capture_output=True, text=True, timeout=timeout
    )


def edit_case(
    folder: Path,  # a project
    change: Callable[[dict], Any] | None = None,  # changes the case's block in place
    case: str = "iris",
    **values: Any,  # dotted keys with two underscores for each dot: model__params__max_depth=3
) -> None:
    "Rewrite one case's block of params.yaml."
    path, yaml = folder / "params.yaml", YAML()
    tree = yaml.load(path)
    block = tree["cases"][case]
    if change:
        change(block)
    for name, value in values.items():
        *outer, last = name.split("__")
        place = block
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    "An own project with nothing trained; the current folder, and named by RF_MLOPS_PROJECT."
    folder = make_project(tmp_path / "project")
    monkeypatch.setenv("RF_MLOPS_PROJECT", str(folder))
    monkeypatch.chdir(folder)
    return folder


def until(what: Callable[[], Any], within: float = 30, every: float = 0.05) -> Any:
    "What `what()` gives as soon as it is true; an error if that takes longer than `within` seconds."
    end = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < end, f"waited {within} s in vain"
        time.sleep(every)
    return found


def hear_interrupts() -> None:
    "What a shell starts in the background ignores SIGINT, and so do its children, unless told otherwise."
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(
    *words: str,  # after `rf-mlops`: a command that prints where it answers
    cwd: Path,
    env: dict[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen, list[str]]]:
    "A command that answers until it is ended: its process, and the addresses in its first line."
    full = {**os.environ, "RF_MLOPS_PROJECT": str(cwd), **(env or {})}
    command = [str(SCRIPT), *words]
    process = subprocess.Popen(
        command, cwd=cwd, env=full, stdout=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )
    assert process.stdout
    try:
        readable, _, _ = select.select([process.stdout], [], [], 60)
        line = process.stdout.readline() if readable else "nothing for a minute"
        addresses = re.findall(r"http://[\d.:]+", line)
        assert addresses, f"{' '.join(words)} said {line!r} and ended with {process.poll()}"
        yield process, addresses
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def free_port() -> int:
    "A port nobody listens on at this moment."
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def chromium() -> str:
    "The path of a Chromium: found, or installed now. Browser tests are never skipped."
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "browser.py"], stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, "no browser: its reasons are above"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def browser(chromium):
    "A browser. Of one module only: Playwright's loop would be in the way of other tests' own."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def rf_mlops():
    "The console script: `rf_mlops('train', 'iris', cwd=…, env=…)`."
    return run_script


@pytest.fixture
def edit_iris():
    "Rewrite iris' block of a project: `edit_iris(project, model__params__max_depth=3)` or with a function."
    return edit_case


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    "A project in which iris has been trained once. Read only: take `trained_copy` to change anything."
    from rf_mlops.runs import execute
    from rf_mlops.settings import load_settings

    folder = make_project(tmp_path_factory.mktemp("trained") / "project")
    run = execute("train", {"case": "iris"}, load_settings(folder))
    assert run["verdict"] == "promoted", run["error"] or run["reason"]
    return folder


@pytest.fixture(scope="session")
def town_project(tmp_path_factory) -> Path:
    "A project of three small cases, each trained once. Read only."
    from town import make_town

    return make_town(tmp_path_factory.mktemp("town") / "project")


@pytest.fixture
def trained_copy(trained, tmp_path, monkeypatch) -> Path:
    "A copy of the trained project to do as one likes with; the current folder, named by RF_MLOPS_PROJECT."
    from rf_mlops.settings import load_settings
    from rf_mlops.tracking import open_store

    folder = tmp_path / "trained"
    shutil.copytree(trained, folder)
    open_store(load_settings(folder))  # its records point into the copy from now on
    monkeypatch.setenv("RF_MLOPS_PROJECT", str(folder))
    monkeypatch.chdir(folder)
    return folder
