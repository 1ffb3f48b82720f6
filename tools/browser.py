"""Find a Chromium that Playwright can start, or install one, and print its path.

stdout holds the path and nothing else, stderr what was looked at and done. Give the path to
Playwright as `executable_path`, and LAUNCH_ARGS as `args`, because that is how it was tried here.
`CHROMIUM=/path/to/one` decides by itself: exit code 2 if it does not start. 1: there is none.
"""

import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
IS_ROOT = os.geteuid() == 0
LAUNCH_ARGS = ["--no-sandbox"] if IS_ROOT else []  # Chromium refuses to sandbox itself as root

# Seconds. Stopping a package manager half way does harm, so it gets more time than a download.
START, DOWNLOAD, PACKAGES = 30, 300, 600
WAIT = DOWNLOAD + 3 * PACKAGES  # what another process can need for everything it may do

# One for all checkouts of a user. No other user's: root may not open those in a shared /tmp.
LOCK = Path(tempfile.gettempdir()) / f"rf-mlops-browser-{os.geteuid()}.lock"

PLAYWRIGHT = [sys.executable, "-m", "playwright"]
# Another apt-get on the machine, which knows nothing of our lock, is waited for.
APT_GET = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]

ADVICE = f"""\
One of these helps:
  - Install Chromium or Google Chrome yourself (Debian: apt-get install chromium, as root).
  - Where Playwright can download: {shlex.join(PLAYWRIGHT)} install --with-deps chromium
  - Name one that is elsewhere: CHROMIUM=/path/to/chromium"""


class NoBrowserError(Exception):
    "No Chromium starts; the text says what was tried and what helps, `code` is the exit code."

    def __init__(self, text: str, code: int = 1):
        super().__init__(text)
        self.code = code


def say(text: str) -> None:
    "One line of what happens, on stderr."
    print(f"browser: {text}", file=sys.stderr, flush=True)


def shorten(lines: list[str]) -> str:
    "At most four different lines as one, because a reason must fit into a list."
    return " / ".join(list(dict.fromkeys(line.strip()[:300] for line in lines))[:4])


def launch_reason(text: str) -> str:
    "Playwright's error without its pages of arguments: the first line, and the browser's own."
    first, *others = text.partition("Call log:")[0].splitlines()
    own = [line.partition("[err]")[2] for line in others if "[err]" in line]
    fatal = [line for line in own if "FATAL" in line]  # the others only complain
    return shorten([first.removeprefix("BrowserType.launch: "), *(fatal or own[-3:])])


def command_reason(output: str, code: int) -> str:
    "What a failed command complains about: its error lines, or its last one."
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "Err:", "Error:"))]
    return f"exit code {code}: {shorten(errors or lines[-1:]) or 'it said nothing'}"


def stop(child: subprocess.Popen) -> None:
    "End a command with everything it started."
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(10)


def run(command: list[str], limit: float) -> str:
    "Run a command for at most `limit` seconds; nothing if it succeeds, otherwise why it did not."
    say(f"{shlex.join(command)} (at most {limit:g} s)")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A file and not a pipe, which a forgotten grandchild would hold open.
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        try:
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            return f"not done after {limit:g} s"
        finally:
            if child.returncode is None:  # too slow, or somebody pressed Ctrl-C
                stop(child)
        out.seek(0)
        return command_reason(out.read().decode(errors="replace"), code) if code else ""


class Search:
    "One search: Playwright's way to start a Chromium, and what did not work so far."

    def __init__(self, chromium) -> None:
        self.chromium = chromium
        self.own = chromium.executable_path  # where Playwright's own is, or would be
        self.failed: list[str] = []

    def fail(self, text: str) -> str:
        "Tell and keep why something did not work; finds nothing."
        say(text)
        self.failed.append(text)
        return ""

    def attempt(self, path: str) -> str:
        "`path` if Playwright can open a page with it."
        from playwright.sync_api import Error

        path = str(Path(path).absolute())
        try:
            browser = self.chromium.launch(
                executable_path=path, args=LAUNCH_ARGS, headless=True, timeout=START * 1000
            )
            try:
                browser.new_page().goto("about:blank", timeout=START * 1000)
                say(f"{path} starts (version {browser.version})")
            finally:
                browser.close()
        except Error as error:
            return self.fail(f"{path} does not start: {launch_reason(str(error))}")
        return path

    def attempt_own(self) -> str:
        "Playwright's own browser, if it is there."
        if self.own and Path(self.own).exists():
            return self.attempt(self.own)
        return self.fail(f"Playwright's own browser is not installed ({self.own})")

    def attempt_on_path(self, *names: str) -> str:
        "The first of these programs that starts."
        found = {name: path for name in names if (path := shutil.which(name))}
        if missing := [name for name in names if name not in found]:
            self.fail(f"not on PATH: {', '.join(missing)}")
        return next((path for each in found.values() if (path := self.attempt(each))), "")

    def installed(self) -> str:
        "A browser that is there already."
        self.failed.clear()
        return self.attempt_own() or self.attempt_on_path(*NAMES)

    def download(self) -> str:
        "Playwright's own browser, downloaded; not its headless shell, which a path makes needless."
        reason = run([*PLAYWRIGHT, "install", "--no-shell", "chromium"], DOWNLOAD)
        there = Path(self.own).exists()
        if reason or not there:
            self.fail(f"playwright install: {reason or f'it succeeded, but made no {self.own}'}")
        return (self.attempt_own() or self.add_libraries()) if there else ""

    def add_libraries(self) -> str:
        "Playwright's own browser, once it has the shared libraries that a bare container lacks."
        command = [*PLAYWRIGHT, "install-deps", "chromium"]
        if reason := why_no_packages() or run(command, PACKAGES):
            return self.fail(f"playwright install-deps: {reason}")
        return self.attempt_own()

    def package(self) -> str:
        "Debian's chromium, installed."
        install = [*APT_GET, "install", "-y", "--no-install-recommends", "chromium"]
        if reason := why_no_packages():
            return self.fail(f"apt-get install chromium: {reason}")
        if reason := run([*APT_GET, "update"], PACKAGES):
            self.fail(f"apt-get update: {reason}")  # the lists that are there may be good enough
        if reason := run(install, PACKAGES):
            return self.fail(f"apt-get install chromium: {reason}")
        return self.attempt_on_path("chromium")


def why_no_packages() -> str:
    "Why no package can be installed here; nothing if it can."
    if not shutil.which("apt-get"):
        return "there is no apt-get on PATH"
    return "" if IS_ROOT else "only root may do this"


def take(lock: FileLock) -> bool:
    "Take the lock under which one installs; whether somebody else had it first."
    try:
        lock.acquire(timeout=0)
        return False
    except Timeout:
        say(f"waiting for another process that installs a browser ({LOCK})")
    try:
        lock.acquire(timeout=WAIT)
        return True
    except Timeout:
        raise NoBrowserError(
            f"Another process has been installing a browser for {WAIT} s, and holds {LOCK}.\n"
            "End it and try again."
        ) from None


def install(search: Search) -> str:
    "A browser that this process installs, or that another one did while this one waited for it."
    lock = FileLock(LOCK)
    waited = take(lock)
    try:
        return (search.installed() if waited else "") or search.download() or search.package()
    finally:
        lock.release()


def named(name: str, search: Search) -> str:
    "The browser that CHROMIUM names: nothing else will do for somebody who chose it."
    path = shutil.which(name)
    found = search.attempt(path) if path else search.fail(f"{name}: there is no such program")
    if found:
        return found
    raise NoBrowserError(
        f"CHROMIUM={name} is no browser that Playwright can start.\n"
        f"  - {search.failed[-1]}\n"
        "Name another, or unset CHROMIUM, and one is found or installed.",
        code=2,
    )


def find_or_install() -> str:
    "The path of a Chromium that Playwright can start; NoBrowserError if there is none to be had."
    if not importlib.util.find_spec("playwright"):
        raise NoBrowserError(f"Playwright is not installed for {sys.executable}. Run `make env`.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        search = Search(playwright.chromium)
        if name := os.environ.get("CHROMIUM"):
            return named(name, search)
        if found := search.installed() or install(search):
            return found
    tried = "\n".join(f"  - {text}" for text in dict.fromkeys(search.failed))
    raise NoBrowserError(
        f"No Chromium starts here and none could be installed. Tried:\n{tried}\n{ADVICE}"
    )


def main() -> int:
    "Print the path; or say what was tried, and return the exit code."
    try:
        print(find_or_install())
    except NoBrowserError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
