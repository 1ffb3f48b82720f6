"""The prediction page in a real browser: what a visitor does, and what happens to the page meanwhile."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from conftest import edit_case, free_port, make_project, run_script, running, until

from rf_mlops import load
from rf_mlops.settings import load_settings

FORM = ".rf-field input"
QUICK = ["--set", "iris.evaluate.resamples=100", "--set", "iris.split.folds=2"]
FLOWER = {"sepal_length": "5.0", "sepal_width": "2.5", "petal_length": "4.0", "petal_width": "1.0"}


def opened(project: Path, **env: str):
    "The app of a project, with an API of its own on a free port."
    ports = {"RF_MLOPS_SERVE__PORT": str(free_port())}
    return running("app", "--port", "0", cwd=project, env=ports | env)


@pytest.fixture(scope="module")
def own_project(trained, tmp_path_factory) -> Path:
    "A copy of the trained project for this module."
    from rf_mlops.tracking import open_store

    folder = tmp_path_factory.mktemp("pages") / "project"
    shutil.copytree(trained, folder)
    open_store(load_settings(folder))
    return folder


@pytest.fixture(scope="module")
def app(own_project):
    "An app that the module's quiet tests share: its process, its address and its API's."
    with opened(own_project) as (process, (page, api)):
        yield process, page, api


class Visitor:
    "A browser tab at the page, and what it complained of."

    def __init__(self, browser, address: str, query: dict | None = None, **options):
        self.context = browser.new_context(**options)
        self.tab = self.context.new_page()
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        self.tab.on(
            "request", lambda r: self.hosts.add(r.url.split("/")[2]) if "://" in r.url else None
        )
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on(
            "console", lambda m: self.complaints.append(m.text) if m.type == "error" else None
        )
        self.tab.goto(f"{address}/?{urlencode(query)}" if query else address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def ready(self):
        "Wait for the form."
        self.tab.wait_for_selector(FORM, state="visible", timeout=60_000)
        return self

    def field(self, name: str):
        "The input of a column."
        return self.tab.get_by_label(name.replace("_", " "), exact=False).and_(
            self.tab.locator("input, select")
        )

    def type(self, **values: str):
        "Fill in the form."
        for name, value in values.items():
            self.field(name).fill(value)
            self.field(name).press("Enter")
        return self

    def predict(self) -> str:
        "Press the button and wait for an answer that was not there before."
        before = self.request_id()
        self.tab.get_by_role("button", name="Predict", exact=True).click()
        until(lambda: self.request_id() not in ("", before), 20)
        return self.said()

    def request_id(self) -> str:
        "The id of the answer that is shown; empty if there is none."
        found = self.tab.locator(".rf-answer .rf-small code")
        return found.last.inner_text() if found.count() else ""

    def said(self) -> str:
        "The answer in large letters."
        return self.tab.locator(".rf-said").inner_text()

    def notice(self) -> str:
        "The message across the page, or nothing."
        found = self.tab.locator(".rf-notice")
        return found.first.inner_text() if found.count() else ""

    def upload(self, name: str, content: bytes, wait: float = 60):
        "Choose a file, and wait for what comes back."
        with self.tab.expect_file_chooser() as chooser:
            self.tab.locator(".rf-zone").click()
        chooser.value.set_files({"name": name, "mimeType": "text/csv", "buffer": content})
        done = self.tab.locator(".rf-result a.rf-button, .rf-result > p.rf-wrong")
        done.first.wait_for(timeout=wait * 1000)
        return self

    def download(self) -> bytes:
        "The file that came back."
        with self.tab.expect_download() as found:
            self.tab.locator(".rf-result a.rf-button").click()
        return Path(found.value.path()).read_bytes()


def children(process: subprocess.Popen) -> dict[int, str]:
    "The processes a process has started, with their command lines."
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == process.pid:
                found[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                )
        except (OSError, IndexError):
            continue  # it has ended meanwhile
    return found


def kernels(process: subprocess.Popen) -> list[int]:
    "The page's kernels."
    return [pid for pid, words in children(process).items() if "ipykernel" in words]


def api_of(process: subprocess.Popen) -> int:
    "The API that the app has started."
    (pid,) = [pid for pid, words in children(process).items() if "serve" in words]
    return pid


# ---- the form and its answer ------------------------------------------------------------------------


def test_the_form_is_the_schema_and_the_answer_is_the_models(app, browser, own_project):
    process, page, _ = app
    with Visitor(browser, page).ready() as visitor:
        assert visitor.tab.locator(".rf-page h1").inner_text() == "Which iris is it?"
        until(lambda: visitor.tab.title() == "Which iris is it?")
        for column in load("iris", load_settings(own_project)).schema.columns:
            field = visitor.field(column.name)
            assert float(field.input_value()) == column.example
            box = visitor.tab.locator(".rf-field", has=field).inner_text()
            assert column.unit in box and column.description in box
            assert f"{column.seen[0]:g} to {column.seen[1]:g}" in box
        said = visitor.type(**FLOWER).predict()
        model = load("iris", load_settings(own_project))
        values = {name: float(text) for name, text in FLOWER.items()}
        assert said == model.predict(values)[0]
        shown = visitor.tab.locator(".rf-bar").all_inner_texts()
        expected = zip(model.schema.classes, model.predict_proba(values)[0], strict=True)
        assert ["".join(s.split()) for s in shown] == [f"{c}{100 * p:.1f}%" for c, p in expected]
        assert "version 1" in visitor.tab.locator(".rf-answer").inner_text()
        assert visitor.hosts == {page.removeprefix("http://")}, "nothing comes from elsewhere"
        assert visitor.complaints == []


def test_the_model_is_shown_with_metric_gates_and_report(app, browser):
    _, page, _ = app
    with Visitor(browser, page).ready() as visitor:
        card = visitor.tab.locator(".rf-card")
        assert "Version 1" in card.inner_text() and "accuracy 0.9" in card.inner_text()
        card.locator("summary").click()
        assert "compiled as trained" in card.inner_text() and "150 rows" in card.inner_text()
        report = card.get_by_text("its report").get_attribute("href")
        answer = urlopen(f"{page}{report}")  # noqa: S310  our own server
        assert answer.status == 200 and b"promoted" in answer.read()


def test_a_slider_moves_the_text_and_asks(app, browser):
    _, page, _ = app
    with Visitor(browser, page).ready() as visitor:
        before = visitor.field("petal_length").input_value()
        box = visitor.tab.locator(".rf-field", has=visitor.field("petal_length"))
        box.locator(".noUi-handle").focus()
        for _ in range(3):
            visitor.tab.keyboard.press("ArrowRight")
        until(lambda: visitor.field("petal_length").input_value() != before)
        until(visitor.request_id)


def test_what_is_typed_wrongly_is_told_beside_its_field(app, browser):
    _, page, _ = app
    with Visitor(browser, page).ready() as visitor:
        for text, told in (("soft", "got 'soft'"), ("99", "from 0 up to 30 cm"), ("", "not empty")):
            visitor.type(petal_width=text)
            box = visitor.tab.locator(".rf-field", has=visitor.field("petal_width"))
            until(lambda box=box, told=told: told in box.inner_text())
            assert "marked" in visitor.tab.locator(".rf-answer").inner_text()
        visitor.type(petal_width="9")
        until(lambda: "outside what training saw" in box.inner_text())
        assert visitor.said() in ("setosa", "versicolor", "virginica"), "a remark is no refusal"
        assert "got" not in box.inner_text()


def test_what_is_typed_is_shown_as_text(app, browser):
    _, page, _ = app
    with Visitor(browser, page).ready() as visitor:
        visitor.type(petal_width="<img src=x onerror=document.title='bad'>")
        until(lambda: "onerror" in visitor.tab.locator(".rf-ask").inner_text())
        assert visitor.tab.title() != "bad" and visitor.tab.locator(".rf-page img").count() == 0


# ---- a shared link ----------------------------------------------------------------------------------


def test_a_shared_link_brings_the_form_back_and_answers(app, browser):
    _, page, _ = app
    with Visitor(browser, page).ready() as visitor:
        said = visitor.type(**FLOWER).predict()
        link = visitor.tab.locator("a.rf-share").get_attribute("href")
        until(lambda: "petal_length=4.0" in visitor.tab.url)
        visitor.tab.reload()
        visitor.ready()
        assert {n: visitor.field(n).input_value() for n in FLOWER} == FLOWER
    with Visitor(browser, f"{page}/{link}").ready() as other:
        assert {n: other.field(n).input_value() for n in FLOWER} == FLOWER
        until(other.request_id)
        assert other.said() == said


def test_a_wrong_link_is_no_accident(app, browser):
    _, page, _ = app
    with Visitor(browser, page, {"petal_width": "soft"}).ready() as visitor:
        until(lambda: "got 'soft'" in visitor.tab.locator(".rf-ask").inner_text())
        assert visitor.type(petal_width="1").predict()
    with Visitor(browser, page, {"sepal_lenght": "5", "petal_width": "1"}).ready() as visitor:
        until(lambda: "sepal_lenght" in visitor.notice())
        assert "did you mean 'sepal_length'" in visitor.notice()
        assert visitor.request_id() == "", "what was not understood is not answered"
    with Visitor(browser, page, {"case": "irsi"}) as visitor:
        visitor.tab.wait_for_selector(".rf-notice")
        assert "Did you mean 'iris'" in visitor.notice()


# ---- a file -----------------------------------------------------------------------------------------


def rows_of(project: Path) -> pd.DataFrame:
    "The 150 flowers."
    (snapshot,) = (project / "mlruns" / "snapshots").glob("*.parquet")
    return pd.read_parquet(snapshot).drop(columns="species")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_comes_back_with_its_predictions(app, browser, own_project, kind):
    _, page, _ = app
    frame = rows_of(own_project).assign(who=lambda f: [f'"{i}", a name' for i in range(len(f))])
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    content = frame.to_csv(index=False).encode() if kind == "csv" else buffer.getvalue()
    with Visitor(browser, page).ready().upload(f"flowers.{kind}", content) as visitor:
        assert "150 rows, answered by version 1" in visitor.tab.locator(".rf-result").inner_text()
        assert visitor.tab.locator(".rf-result tbody tr").count() == 10
        back = pd.read_csv(io.BytesIO(visitor.download()))
    assert back[list(frame)].equals(frame)
    model = load("iris", load_settings(own_project))
    assert back["prediction"].tolist() == model.predict(frame).tolist()
    sure = back[[f"probability_{c}" for c in model.schema.classes]].to_numpy(np.float32)
    assert sure.tobytes() == model.predict_proba(frame).tobytes()


def test_a_row_that_does_not_fit_comes_back_with_the_reason(app, browser):
    _, page, _ = app
    content = ",".join(FLOWER) + "\n5,2,4,1\n5,2,soft,1\n"
    with Visitor(browser, page).ready().upload("two.csv", content.encode()) as visitor:
        result = visitor.tab.locator(".rf-result").inner_text()
        assert "2 rows" in result and "1 could not be answered" in result and "'soft'" in result


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.csv", b"", "empty"),
        ("other.csv", b"petal_lenght,x\n1,2\n", "petal_length|sepal_length"),
        ("picture.csv", bytes(range(256)) * 10, "no CSV file"),
        ("sheet.csv", b"PK\x03\x04" + bytes(50), "save it as CSV|Save it as CSV"),
        ("none.parquet", b"no parquet", "Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(app, browser, name, content, told):
    _, page, _ = app
    with Visitor(browser, page).ready().upload(name, content) as visitor:
        result = visitor.tab.locator(".rf-result")
        assert re.search(told, result.inner_text())
        assert result.locator("a.rf-button").count() == 0


def test_a_file_may_be_dropped_anywhere_without_leaving_the_page(app, browser):
    _, page, _ = app
    drop = """(where) => {
        const data = new DataTransfer();
        data.items.add(new File(["sepal_length,sepal_width,petal_length,petal_width\\n5,2,4,1\\n"], "one.csv"));
        document.querySelector(where).dispatchEvent(
            new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    with Visitor(browser, page).ready() as visitor:
        visitor.tab.evaluate(drop, ".rf-page h1")
        visitor.tab.evaluate(drop, ".rf-zone")
        visitor.tab.locator(".rf-result a.rf-button").wait_for()
        assert "1 row," in visitor.tab.locator(".rf-result").inner_text()


@pytest.mark.slow
def test_fifty_megabytes_come_back(app, browser, tmp_path):
    _, page, _ = app
    row = b"5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n"
    content = b"sepal_length,sepal_width,petal_length,petal_width\n" + row * (
        50 * 2**20 // len(row)
    )
    file = tmp_path / "fifty.csv"
    file.write_bytes(content)
    with Visitor(browser, page).ready() as visitor:
        with visitor.tab.expect_file_chooser() as chooser:
            visitor.tab.locator(".rf-zone").click()
        chooser.value.set_files(file)
        visitor.tab.locator(".rf-result a.rf-button").wait_for(timeout=120_000)
        told = visitor.tab.locator(".rf-result").inner_text()
        rows = content.count(row) * 2
        assert f"{rows:,} rows" in told
        assert visitor.type(**FLOWER).predict() == "versicolor"


def test_a_file_above_the_limit_is_not_even_sent(own_project, browser):
    with opened(own_project, RF_MLOPS_SERVE__BODY_MB="1") as (_, (page, _)):
        with Visitor(browser, page).ready().upload("big.csv", b"1,2,3,4\n" * 200_000) as visitor:
            assert "at most 1 MB" in visitor.tab.locator(".rf-result").inner_text()
        headers = {"Content-Type": "text/csv", "Content-Length": str(1_100_000)}
        assert asked(page, "POST", "/models/iris/predict", headers).status == 413


# ---- what happens meanwhile -------------------------------------------------------------------------


def test_the_api_is_killed_and_comes_back(own_project, browser):
    with opened(own_project) as (process, (page, api)), Visitor(browser, page).ready() as visitor:
        visitor.type(**FLOWER).predict()
        os.kill(api_of(process), signal.SIGSTOP)  # it holds its port and says nothing
        until(lambda: f"does not answer at {api}" in visitor.notice(), 20)
        os.kill(api_of(process), signal.SIGKILL)  # a new one is started
        until(lambda: visitor.notice() == "", 20)
        assert {n: visitor.field(n).input_value() for n in FLOWER} == FLOWER
        assert visitor.predict() == "versicolor"


def test_without_an_api_the_page_says_so(own_project, browser):
    port = free_port()
    api = f"http://127.0.0.1:{port}"
    with opened(own_project, RF_MLOPS_APP__API=api) as (process, (page, _)):
        with Visitor(browser, page) as visitor:
            until(lambda: f"does not answer at {api}" in visitor.notice(), 30)
            button = visitor.tab.get_by_role("button", name="Predict", exact=True)
            assert not button.is_visible(), "there is nothing to ask yet"
            with running("serve", "--port", str(port), cwd=own_project):
                visitor.ready()
                until(lambda: visitor.notice() == "")
                assert visitor.type(**FLOWER).predict() == "versicolor"
            until(lambda: "does not answer" in visitor.notice())
            assert button.is_disabled()
            visitor.tab.locator(".rf-zone").wait_for()
            visitor.upload("one.csv", (",".join(FLOWER) + "\n5,2,4,1\n").encode())
            assert "does not answer" in visitor.tab.locator(".rf-result").inner_text()
        assert not [w for w in children(process).values() if "serve" in w], "somebody else's API"


def test_a_champion_is_promoted_while_the_page_is_open(trained_copy, browser):
    with opened(trained_copy) as (_, (page, _)), Visitor(browser, page).ready() as visitor:
        visitor.type(**FLOWER).predict()
        assert "Version 1" in visitor.tab.locator(".rf-card").inner_text()
        done = run_script("train", "iris", "--seed", "7", *QUICK, cwd=trained_copy)
        assert "promoted" in done.stdout, done.stdout + done.stderr
        until(lambda: "Version 2 answers from now on" in visitor.notice(), 15)
        assert "Version 2" in visitor.tab.locator(".rf-card").inner_text()
        assert {n: visitor.field(n).input_value() for n in FLOWER} == FLOWER
        visitor.predict()
        assert "version 2" in visitor.tab.locator(".rf-answer").inner_text()


@pytest.mark.slow
def test_before_anything_is_trained_the_page_says_how_and_then_works(tmp_path, browser):
    project = make_project(tmp_path / "project")
    with opened(project) as (_, (page, _)), Visitor(browser, page) as visitor:
        until(lambda: "rf-mlops train iris" in visitor.notice(), 30)
        done = run_script("train", "iris", *QUICK, cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
        visitor.ready()
        assert visitor.type(**FLOWER).predict() == "versicolor"


@pytest.mark.slow
def test_another_schema_makes_another_form(trained_copy, browser):
    with opened(trained_copy) as (_, (page, _)), Visitor(browser, page).ready() as visitor:
        visitor.type(**FLOWER)
        edit_case(trained_copy, drop=["sepal_width"], gates__compare=False)
        edit_case(trained_copy, lambda block: block["columns"].pop("sepal_width"))
        done = run_script("train", "iris", *QUICK, cwd=trained_copy)
        assert "promoted" in done.stdout, done.stdout + done.stderr
        until(lambda: visitor.tab.locator(".rf-field").count() == 3, 15)
        assert visitor.field("petal_length").input_value() == FLOWER["petal_length"]
        assert visitor.predict()


# ---- many visitors, and those who leave -------------------------------------------------------------


def test_ten_visitors_at_once_and_no_place_for_one_more(own_project, browser):
    with (
        opened(own_project, RF_MLOPS_APP__VISITORS="10") as (process, (page, _)),
        ExitStack() as tabs,
    ):
        visitors = [tabs.enter_context(Visitor(browser, page)) for _ in range(10)]
        for number, visitor in enumerate(visitors):
            visitor.ready().type(**{**FLOWER, "petal_length": f"{1 + number / 2}"}).predict()
        assert len({v.request_id() for v in visitors}) == 10
        late = tabs.enter_context(Visitor(browser, page))
        assert "All places are taken" in late.tab.locator("h1").inner_text()
        assert len(kernels(process)) == 10
        visitors[0].tab.close()
        late.ready()  # the page tries again by itself
        assert late.type(**FLOWER).predict() == "versicolor"
        assert len(kernels(process)) == 10


def test_a_closed_tab_leaves_no_kernel(own_project, browser):
    with opened(own_project, RF_MLOPS_APP__GONE_SECONDS="3") as (process, (page, _)):
        with Visitor(browser, page).ready() as visitor:
            assert len(kernels(process)) == 1
            visitor.tab.close(run_before_unload=True)
            until(lambda: kernels(process) == [], 15)
        with Visitor(browser, page).ready() as visitor:
            visitor.tab.route("**/page/*", lambda route: route.abort())  # it cannot say goodbye
            visitor.context.close()
        until(lambda: kernels(process) == [], 20)


@pytest.mark.slow
def test_a_page_that_nobody_uses_goes_to_sleep_and_wakes(own_project, browser):
    app = opened(own_project, RF_MLOPS_APP__IDLE_MINUTES="0.1")
    with app as (process, (page, _)), Visitor(browser, page).ready() as visitor:
        visitor.type(**FLOWER).predict()
        visitor.tab.get_by_text("gone to sleep").wait_for(timeout=40_000)
        assert kernels(process) == []
        visitor.tab.get_by_role("button", name="Load it again").click()
        visitor.tab.wait_for_selector(".rf-said", timeout=30_000)
        assert {n: visitor.field(n).input_value() for n in FLOWER} == FLOWER


@pytest.mark.slow
def test_a_page_left_alone_for_a_minute_still_answers(app, browser):
    "Longer than two pings: the connection to the kernel is not given up."
    _, page, _ = app
    with Visitor(browser, page).ready() as visitor:
        visitor.tab.wait_for_timeout(70_000)
        assert visitor.type(**FLOWER).predict() == "versicolor"


def test_a_kernel_that_dies_is_told(own_project, browser):
    with opened(own_project) as (process, (page, _)), Visitor(browser, page).ready() as visitor:
        os.kill(kernels(process)[0], signal.SIGKILL)
        visitor.tab.get_by_role("button", name="Load it again").click(timeout=30_000)
        assert visitor.ready().type(**FLOWER).predict() == "versicolor"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_app_ends(own_project, browser, number):
    with opened(own_project) as (process, (page, api)), Visitor(browser, page).ready():
        left = children(process)
        assert len(left) == 2, left  # the API and a kernel
        process.send_signal(number)
        assert process.wait(30) == (0 if number != signal.SIGKILL else -9)
        until(lambda: not [pid for pid in left if Path(f"/proc/{pid}").exists()], 20)


# ---- closed doors -----------------------------------------------------------------------------------


def asked(page: str, method: str, path: str, headers: dict, body: bytes = b""):
    "The answer to a request written by hand: `Content-Length` may promise more than is sent."
    connection = HTTPConnection(page.removeprefix("http://"), timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    return connection.getresponse()


def test_only_its_own_names_lead_to_it(app):
    "A web page that has its name point to loopback reaches nothing."
    _, page, api = app
    stranger = {"Host": "elsewhere.example"}
    for path in ("/", "/reports/index.html", "/models/iris/template.csv"):
        assert asked(page, "GET", path, stranger).status == 403
    assert asked(api, "GET", "/model", stranger).status == 421
    for name in ("localhost", "127.0.0.1:1", "[::1]:9"):
        assert asked(page, "GET", "/models/iris/template.csv", {"Host": name}).status == 200
        assert asked(api, "GET", "/model", {"Host": name}).status == 200


def test_another_sites_pictures_take_no_places(app):
    _, page, _ = app
    picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}
    assert asked(page, "GET", "/", picture).status == 403


def test_goodbyes_at_once_free_one_place_each(own_project):
    with opened(own_project, RF_MLOPS_APP__VISITORS="1") as (process, (page, _)):
        first = urlopen(page).read().decode()  # noqa: S310  our own server
        kernel = re.search(r'"kernelId": ?"([0-9a-f-]{36})"', first)[1]
        with ThreadPoolExecutor(4) as pool:
            said = list(pool.map(lambda _: status_of(f"{page}/page/{kernel}", b""), range(4)))
        assert said == [204] * 4
        assert [status_of(page) for _ in range(3)] == [200, 503, 503]
        assert len(kernels(process)) == 1


def test_uploads_that_break_off_hold_nobody_up(app):
    _, page, _ = app
    host, port = page.removeprefix("http://").split(":")
    head = "POST /models/iris/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n1,2"
    for _ in range(15):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode())
    body = json.dumps([FLOWER]).encode()
    for _ in range(3):
        assert (
            status_of(f"{page}/models/iris/predict", body, **{"Content-Type": "application/json"})
            == 200
        )


def test_half_an_answer_is_not_taken_for_a_whole_one(own_project):
    "An API that dies in the middle of its answer: the browser's answer breaks off too."
    half = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 5000\r\nX-Rows: 150\r\n\r\na,b\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def die() -> None:
            for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", half):
                connection, _ = server.accept()
                connection.recv(65536)
                connection.sendall(answer)
                connection.close()

        Thread(target=die, daemon=True).start()
        api = f"http://127.0.0.1:{server.getsockname()[1]}"
        with opened(own_project, RF_MLOPS_APP__API=api) as (_, (page, _)):
            question = Request(f"{page}/models/iris/predict", b"1", {"Content-Type": "text/csv"})  # noqa: S310
            with pytest.raises((IncompleteRead, OSError)):
                urlopen(question, timeout=20).read()  # noqa: S310


def test_another_projects_api_is_not_taken_for_ours(own_project, tmp_path):
    with running("serve", "--port", "0", cwd=own_project) as (_, (api,)):
        other = make_project(tmp_path / "other")
        env = {"RF_MLOPS_SERVE__PORT": api.rsplit(":", 1)[1]}
        done = run_script("app", "--port", "0", cwd=other, env=env)
    assert done.returncode == 2 and "Another project's API answers there" in done.stderr


def status_of(address: str, body: bytes | None = None, **headers: str) -> int:
    "The status of an answer."
    try:
        return urlopen(Request(address, body, headers)).status  # noqa: S310
    except HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "predict.ipynb",
        "voila/files/predict.ipynb",
        "voila/render/predict.ipynb",
        "voila/tree",
        "api/kernels",
        "api/contents",
        "models/iris/ready",
        "models/iris/docs",
        "live",
        "reports/../settings.ini",
        "reports/%2e%2e/settings.ini",
        "page/style.css",
    ],
)
def test_what_the_page_does_not_need_is_not_there(app, path):
    _, page, _ = app
    assert status_of(f"{page}/{path}") in (403, 404)


def test_reports_are_shown_and_nothing_beside_them(app, own_project):
    _, page, _ = app
    (report,) = (own_project / "reports" / "iris").glob("*/report.html")
    where = report.parent.relative_to(own_project)
    assert status_of(f"{page}/{where}/report.html") == 200
    for name in ("run.json", "run.ipynb", ""):
        assert status_of(f"{page}/{where}/{name}") in (403, 404)


def test_another_sites_page_is_refused(app):
    _, page, _ = app
    body = json.dumps([FLOWER]).encode()
    where = f"{page}/models/iris/predict"
    kind = {"Content-Type": "application/json"}
    assert status_of(where, body, **kind) == 200
    assert status_of(where, body, **kind, Origin=page) == 200
    assert status_of(where, body, **kind, Origin="http://elsewhere.example") == 403
    assert status_of(where, body, **kind, **{"Sec-Fetch-Site": "cross-site"}) == 403


def test_a_page_cannot_run_code_in_its_kernel(app, browser):
    "Voila lets widgets talk and nothing execute: whoever has the page has no Python."
    _, page, _ = app
    ask = """async () => {
        const config = JSON.parse(document.getElementById("jupyter-config-data").textContent);
        const socket = new WebSocket(location.origin.replace("http", "ws") + `/api/kernels/${config.kernelId}/channels`);
        await new Promise((go) => { socket.onopen = go; });
        const seen = [];
        socket.onmessage = (m) => { if (typeof m.data === "string") seen.push(JSON.parse(m.data).msg_type); };
        const message = (type, content) => socket.send(JSON.stringify({channel: "shell", content, metadata: {},
            parent_header: {}, buffers: [], header: {msg_id: type, msg_type: type, session: "s", username: "u", version: "5.3", date: new Date().toISOString()}}));
        message("execute_request", {code: "1 + 1", silent: false});
        message("kernel_info_request", {});
        await new Promise((go) => setTimeout(go, 1500));
        return seen;
    }"""
    with Visitor(browser, page).ready() as visitor:
        seen = visitor.tab.evaluate(ask)
    assert "kernel_info_reply" in seen, "what is allowed is answered"
    assert not {"execute_reply", "execute_input", "execute_result"} & set(seen), seen


def test_a_pages_kernel_loads_no_model_and_no_data_library(app, browser):
    process, page, _ = app
    with Visitor(browser, page).ready() as visitor:
        visitor.predict()
        for pid in kernels(process):
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert not re.findall(r"numpy|pandas|pyarrow|onnxruntime|sklearn|lightgbm|scipy", maps)


def test_an_api_that_answers_is_used(own_project):
    with running("serve", "--port", "0", cwd=own_project) as (_, (api,)):
        port = api.rsplit(":", 1)[1]
        with opened(own_project, RF_MLOPS_SERVE__PORT=port) as (process, (page, told)):
            assert told == api and children(process) == {}
            assert status_of(f"{page}/models/iris/template.csv") == 200


def test_a_taken_port_is_told(app, own_project):
    _, page, _ = app
    done = run_script("app", "--port", page.rsplit(":", 1)[1], cwd=own_project)
    assert done.returncode == 2 and "port cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


# ---- how it looks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_can_be_read(app, browser, width, theme):
    _, page, _ = app
    look = {"viewport": {"width": width, "height": 800}, "color_scheme": theme}
    with Visitor(browser, page, **look).ready() as visitor:
        visitor.type(**FLOWER).predict()
        visitor.upload("one.csv", (",".join(FLOWER) + "\n5,2,4,1\n5,2,x,1\n").encode())
        size = visitor.tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert size[0] <= size[1], "nothing sticks out"
        faint = visitor.tab.evaluate(CONTRAST)
        assert faint == []


# Texts whose contrast with what lies behind them is below WCAG's 4.5.
CONTRAST = """() => {
    const parse = (c) => (c.match(/[\\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
    const out = [];
    for (const e of document.querySelectorAll(".rf-page *")) {
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !e.offsetParent || e.closest(".widget-slider")) continue;
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) out.push(e.textContent.trim().slice(0, 40) + " " + ((a + 0.05) / (b + 0.05)).toFixed(2));
    }
    return out;
}"""
