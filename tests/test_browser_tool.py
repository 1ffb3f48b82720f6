"""tools/browser.py finds a Chromium that starts or installs one, or says in words why not."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "browser.py"
FOUND, NONE, WRONG_NAME = range(3)

# Only root gets a package: this is root as far as the tool can tell, and its `python -m playwright`
# does nothing, and that well.
AS_ROOT = f"""
import os, runpy, sys
os.geteuid = lambda: 0
sys.executable = {shutil.which("true")!r}
runpy.run_path({str(TOOL)!r}, run_name="__main__")
"""
WITHOUT_PLAYWRIGHT = f"""
import runpy, sys
sys.modules["playwright"] = None
runpy.run_path({str(TOOL)!r}, run_name="__main__")
"""


def start(env: dict[str, str], *python: str) -> subprocess.Popen[str]:
    "Start the tool, or what else `python` says, with `env` over the present environment."
    return subprocess.Popen(
        [sys.executable, *(python or (str(TOOL),))],
        env={**os.environ, "CHROMIUM": "", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str, str]:
    "Exit code, stdout, stderr; never a traceback."
    out, err = process.communicate(timeout=timeout)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def program(path: Path, script: str) -> Path:
    "A shell script that can be run."
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def chromium() -> str:
    "A browser of this machine; this may really install one."
    code, out, err = finish(start({"CHROMIUM": os.environ.get("CHROMIUM", "")}), timeout=3000)
    assert code == FOUND, err
    return out.removesuffix("\n")


@pytest.fixture
def bare(tmp_path) -> dict[str, str]:
    "The environment of a machine with no browser, no programs, and no download that answers."
    for name in ("bin", "browsers", "tmp"):
        (tmp_path / name).mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    return {
        "PATH": str(tmp_path / "bin"),
        "TMPDIR": str(tmp_path / "tmp"),  # the lock is there
        "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path / "browsers"),
        "PLAYWRIGHT_DOWNLOAD_HOST": closed,
        "PLAYWRIGHT_CHROMIUM_DOWNLOAD_HOST": "",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@pytest.fixture
def wrapper(chromium) -> str:
    "A script that is the browser, wherever it is put, out of what `bare` changes."
    # Chromium makes a socket in its TMPDIR, and refuses a path as long as a test's.
    env = f'PATH="{os.environ["PATH"]}" TMPDIR="{tempfile.gettempdir()}"'
    return f'{env} exec "{chromium}" "$@"'


def test_the_found_browser_opens_a_page(chromium, tmp_path):
    page = "data:text/html,<script>document.title = 6 * 7</script>"
    flags = ["--headless", "--no-sandbox", f"--user-data-dir={tmp_path}", "--dump-dom"]
    shown = subprocess.run([chromium, *flags, page], capture_output=True, text=True, timeout=60)
    assert "<title>42</title>" in shown.stdout, shown.stderr


def test_chromium_decides_by_itself(chromium):
    code, out, err = finish(start({"CHROMIUM": chromium}))
    assert (code, out) == (FOUND, f"{chromium}\n"), err
    assert err.startswith(f"browser: {chromium} starts (version ") and err.count("\n") == 1


def test_chromium_must_name_a_browser(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("not a program")
    mute = program(tmp_path / "mute", "echo I am no browser >&2; exit 3")
    wrong = {str(text): "no such program", str(mute): "I am no browser", "/missing": "no such"}
    started = {name: start({"CHROMIUM": name}) for name in wrong}
    for name, process in started.items():
        code, out, err = finish(process)
        assert (code, out) == (WRONG_NAME, ""), err
        assert f"CHROMIUM={name} is no browser" in err and wrong[name] in err
        assert "unset CHROMIUM" in err and "apt-get" not in err, "nothing else is looked at"


def test_nothing_to_find_and_nothing_to_install(bare):
    code, out, err = finish(start(bare))
    assert (code, out) == (NONE, ""), err
    told, _, listed = err.partition("Tried:\n")
    for line in (
        f"Playwright's own browser is not installed ({bare['PLAYWRIGHT_BROWSERS_PATH']}",
        "not on PATH: chromium, chromium-browser, google-chrome, google-chrome-stable, chrome",
        "playwright install: exit code 1: Error: connect ECONNREFUSED",
        "apt-get install chromium: there is no apt-get on PATH",
    ):
        assert f"browser: {line}" in told and f"  - {line}" in listed, err
    assert "CHROMIUM=/path/to/chromium" in listed, "and what helps"


def test_root_gets_the_package(bare, tmp_path, wrapper):
    bin, log = tmp_path / "bin", tmp_path / "log"
    program(bin / "chrome", "echo a library is missing >&2; exit 127")
    program(tmp_path / "browser", wrapper)
    # What Debian's does here: no lists to be had, but the package is.
    program(
        bin / "apt-get",
        f'echo "$*" >> "{log}"\n'
        'case "$*" in *update) echo "E: no lists"; exit 100;; esac\n'
        f'PATH=/usr/bin:/bin cp "{tmp_path}/browser" "{bin}/chromium"',
    )
    code, out, err = finish(start(bare, "-c", AS_ROOT))
    assert (code, out) == (FOUND, f"{bin}/chromium\n"), err
    assert "a library is missing" in err, "a browser that does not start is told, not skipped"
    assert "playwright install: it succeeded, but made no " in err
    assert "apt-get update: exit code 100: E: no lists" in err
    update, install = log.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("install -y --no-install-recommends chromium")


def test_the_second_process_takes_what_the_first_installs(bare, tmp_path, wrapper):
    with FileLock(tmp_path / "tmp" / f"rf-mlops-browser-{os.geteuid()}.lock"):
        process = start(bare)
        seen = ""
        while "waiting for another process" not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        program(tmp_path / "bin" / "chromium", wrapper)
    code, out, err = finish(process)
    assert (code, out) == (FOUND, f"{tmp_path}/bin/chromium\n"), err
    assert "install (at most" not in seen + err, "it installs nothing itself"


def test_without_playwright_it_says_so():
    code, out, err = finish(start({}, "-c", WITHOUT_PLAYWRIGHT))
    assert (code, out) == (NONE, "") and "make env" in err


def test_a_command_that_hangs_ends_with_all_it_started(tmp_path):
    spec = importlib.util.spec_from_file_location("browser_tool", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    fifo = tmp_path / "fifo"  # the grandchild holds it open as long as it lives
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    started = time.monotonic()
    script = f'{{ echo here; sleep 60; }} > "{fifo}" & wait'
    assert tool.run(["sh", "-c", script], 0.5) == "not done after 0.5 s"
    os.set_blocking(end, True)
    with os.fdopen(end, "rb") as file:
        assert file.read() == b"here\n", "to the end, which comes when nobody holds it any more"
    assert time.monotonic() - started < 10
