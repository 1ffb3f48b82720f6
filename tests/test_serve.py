"""The HTTP API as a client meets it: a real process, real sockets, and what must not go wrong.

Most questions go to one server over the trained project; who changes it has one over a copy.
"""

import csv
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPResponse
from io import BytesIO, StringIO
from itertools import permutations
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SCRIPT, run_script, until
from town import VISIT

from rf_mlops import load, questions, registry, runs, serve
from rf_mlops.bundle import as_json, digest, model_hash
from rf_mlops.data import ingest, read
from rf_mlops.follow import AGAIN
from rf_mlops.house import open_house
from rf_mlops.settings import load_case, load_params, load_settings
from rf_mlops.tracking import open_store
from rf_mlops.train import train

NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ROW = {"petal_length": 4.0, "petal_width": 1.0, "sepal_length": 1.0, "sepal_width": 1.0}
QUERY = "&".join(f"{name}={value}" for name, value in ROW.items())
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
PROBLEM = "application/problem+json"
INTERNAL = re.compile(r'Traceback|File "|site-packages|\.py\b|object at 0x')
HEAVY = {"pandas", "sklearn", "mlflow", "lightgbm", "scipy", "sqlalchemy", "matplotlib"}
QUICK = "iris.evaluate.resamples=100 iris.model.params.n_estimators=10 iris.split.folds=2"


class Server:
    "`rf-mlops serve` of a project, in a process and on a port of its own."

    def __init__(self, project: Path, *words: str, command: tuple = (SCRIPT,), **env: str):
        self.project = project
        self.log = project.parent / f"log-{uuid4().hex[:8]}.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "serve", "--port", "0", *words],
                cwd=project,
                env={**os.environ, "RF_MLOPS_PROJECT": str(project), **env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,  # what was read is not held back from select
            )

    def meet(self) -> None:
        "Read where it answers, from its first line."
        self.said = self.line()
        found = re.search(r"http://(\S+):(\d+)", self.said)
        assert found, f"{self.said}\n{self.told}"
        self.address = found[1], int(found[2])
        self.ask = httpx.Client(base_url=found[0], timeout=60, trust_env=False)

    def line(self) -> str:
        "The next line of its output, which must come soon."
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        assert ready, "it says nothing"
        return self.process.stdout.readline().decode()

    @property
    def told(self) -> str:
        "What it has logged."
        return self.log.read_text()

    def version(self) -> int | None:
        "The version that answers at the root; None while there is none."
        assert self.process.poll() is None, self.told
        return self.ask.get("/ready").json().get("version")

    def predict(self, body: Any, kind: str = JSON, query: str = "", **headers: str):
        "POST /predict; what is no bytes goes as JSON."
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask.post(
            f"/predict{query}", content=content, headers={"Content-Type": kind, **headers}
        )

    def raw(self, request: bytes) -> httpx.Response:
        "The answer to bytes that no decent client would send."
        with socket.create_connection(self.address, timeout=20) as connection:
            connection.sendall(request)
            return answer_on(connection)

    def stop(self) -> int:
        "End it, and nothing else; its exit code."
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        return self.process.returncode


def answer_on(connection: socket.socket) -> httpx.Response:
    "The next answer on a connection."
    found = HTTPResponse(connection)
    found.begin()
    return httpx.Response(found.status, headers=found.getheaders(), content=found.read())


@contextmanager
def serving(project: Path, *words: str, ready: bool = True, **more: Any) -> Iterator[Server]:
    "A server that is stopped whatever happens; it has its champion first, if `ready`."
    server = Server(project, *words, **more)
    try:
        server.meet()
        if ready:
            until(server.version)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(trained) -> Iterator[Server]:
    "One server for everybody who only asks; it takes bodies of 1 MB."
    with serving(trained, RF_MLOPS_SERVE__BODY_MB="1") as found:
        yield found


@pytest.fixture(scope="module")
def champion(trained):
    "The model that the server must answer like."
    return load("iris@champion", load_settings(trained))


@pytest.fixture(scope="module")
def flowers(trained) -> pd.DataFrame:
    "The 150 rows of iris, in the model's order of columns."
    settings = load_settings(trained)
    case = load_case("iris", params=load_params(settings))
    return read(case.data, settings.root, case.target)[NAMES]


def train_here(*sets: str, case: str = "iris", seed: int = -1, promote: bool = True):
    "The run notebook's steps in this process, over the project that RF_MLOPS_PROJECT names."
    session = runs.begin(case, "small", seed, " ".join(sets))
    taken = ingest(session.case, session.settings)
    training = train(session.case, taken.schema, taken.frame)
    return runs.conclude(session, runs.keep(session, training, taken), promote)


def is_problem(answer: httpx.Response, status: int, path: str, *words: str) -> dict:
    "The problem document in an answer that has all of one, and nothing of our insides."
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    document = answer.json()
    assert document["type"] == "about:blank"
    assert document["title"] == {422: "Unprocessable Content", 413: "Content Too Large"}.get(
        status, HTTPStatus(status).phrase
    )
    assert (document["status"], unquote(document["instance"])) == (status, path)
    assert document["detail"] and "\n" not in document["detail"]
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert answer.headers["X-Model-Version"]
    assert [w for w in words if w not in json.dumps(document, ensure_ascii=False)] == [], document
    assert not INTERNAL.search(answer.text), answer.text
    return document


# --- one answer, whatever the way -----------------------------------------------------------------


def test_the_order_of_parameters_does_not_matter(server):
    assert server.ask.get(f"/score?{QUERY}").text == "[1.0]"
    orders = list(permutations(ROW.items()))
    answers = [server.ask.get("/score", params=dict(order)) for order in orders]
    assert len(answers) == 24
    assert {(a.status_code, a.text) for a in answers} == {(200, "[1.0]")}
    assert {a.headers["X-Model-Version"] for a in answers} == {"1"}


def parquet(frame: pd.DataFrame) -> bytes:
    "A frame as the bytes of a Parquet file."
    buffer = BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


BODIES: dict[str, tuple[str, Callable[[pd.DataFrame], bytes]]] = {
    "records": (JSON, lambda frame: json.dumps(frame.to_dict("records")).encode()),
    "arrays": (JSON, lambda frame: json.dumps(frame.to_numpy().tolist()).encode()),
    "columns": (JSON, lambda frame: json.dumps(frame.to_dict("list")).encode()),
    "CSV": (CSV, lambda frame: frame.to_csv(index=False).encode()),
    "CSV, columns turned round": (CSV, lambda f: f[f.columns[::-1]].to_csv(index=False).encode()),
    "Parquet": (PARQUET, parquet),
}


def in_json(answer: httpx.Response) -> tuple[list[str], np.ndarray]:
    "Names and probabilities of a JSON answer."
    assert answer.status_code == 200, answer.text
    document = answer.json()
    return document["predictions"], np.array(list(document["probabilities"].values())).T


def in_csv(answer: httpx.Response) -> tuple[list[str], np.ndarray]:
    "Names and probabilities of a CSV answer."
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith(CSV)
    rows = list(csv.DictReader(StringIO(answer.text)))
    columns = [name for name in rows[0] if name.startswith("probability_")]
    numbers = [[float(row[name]) for name in columns] for row in rows]
    return [row["prediction"] for row in rows], np.array(numbers)


def same_bits(labels: list[str], probabilities: np.ndarray, champion, frame) -> None:
    "What came over HTTP is what the champion says, to the bit."
    expected = champion.predict_proba(frame)
    assert labels == champion.predict(frame).tolist() and len(set(labels)) == 3
    assert probabilities.dtype == np.float64 and expected.dtype == np.float32
    found = np.ascontiguousarray(probabilities)
    assert found.astype(np.float32).tobytes() == expected.tobytes()
    assert found.tobytes() == expected.astype(np.float64).tobytes()
    assert len(np.unique(expected)) > 20, "or equality says nothing"


@pytest.mark.parametrize("answered", ["JSON", "CSV", "CSV joined"])
@pytest.mark.parametrize("body", BODIES)
def test_every_body_and_every_answer_give_the_same_bits(server, champion, flowers, body, answered):
    kind, pack = BODIES[body]
    query = "?proba=true&join=true" if answered == "CSV joined" else "?proba=true"
    accept = JSON if answered == "JSON" else CSV
    answer = server.predict(pack(flowers), kind, query, Accept=accept)
    labels, probabilities = (in_json if answered == "JSON" else in_csv)(answer)
    same_bits(labels, probabilities, champion, flowers)
    if answered == "CSV joined":
        came = pd.read_csv(StringIO(answer.text))[NAMES]
        assert came.equals(flowers)


def test_one_record_at_a_time_gives_the_same_bits(server, champion, flowers):
    records = flowers.to_dict("records")
    found = [in_json(server.predict(record, query="?proba=true")) for record in records]
    labels = [labels[0] for labels, _ in found]
    same_bits(labels, np.concatenate([p for _, p in found]), champion, flowers)


def test_queries_give_the_same_labels(server, champion, flowers):
    codes = dict(zip(champion.schema.classes, champion.schema.codes, strict=True))
    answers = [server.ask.get("/score", params=r).json() for r in flowers.to_dict("records")]
    assert answers == [[float(codes[name])] for name in champion.predict(flowers)]


def test_an_answer_says_which_model_gave_it(server, champion):
    document = server.predict([ROW]).json()
    assert document["predictions"] == ["versicolor"] and "probabilities" not in document
    expected = {"case": "iris", "version": 1, "hash": champion.bundle.model_hash}
    assert document["model"] == expected


# --- what does not fit ----------------------------------------------------------------------------


def wrong(status: int, name: str, request: str, body: Any = None, *, says: str, **headers: str):
    "A row of the table of mistakes: `says` holds the words expected, with `|` between them."
    method, path = request.split(" ", 1)
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    named = {k.replace("_", "-"): v for k, v in headers.items()}
    words = [w.strip() for w in says.split("|")]
    return pytest.param(status, method, path, content, named, words, id=f"{status} {name}")


def asked(**values: Any) -> str:
    "GET /score with some values changed, and those that are None left out."
    pairs = {**ROW, **values}.items()
    return "GET /score?" + "&".join(f"{k}={v}" for k, v in pairs if v is not None)


HEADER, LINE = ",".join(NAMES).encode() + b"\n", b"5.1,3.5,1.4,0.2\n"
GOOD = [[5.1, 3.5, 1.4, 0.2]]
MISTAKES = [
    wrong(400, "broken", "POST /predict", b'[{"a": 4,]', says="not valid JSON | line 1, column 10"),
    wrong(400, "line", "POST /predict", b"[\n [1, 2,\n  oops]]", says="line 3, column 3"),
    wrong(400, "not NaN", "POST /predict", b"[[1, 2, 3, nan]]", says="not valid JSON | column 12"),
    wrong(422, "NaN", "POST /predict", b"[[1, 2, 3, NaN]]", says="not empty | nothing"),
    wrong(400, "Infinity", "POST /predict", b"[[1, 2, 3, Infinity]]", says="line 1, column 12"),
    wrong(400, "NaN, broken", "POST /predict", b"[[1, 2, 3, NaN]", says="not valid JSON | column"),
    wrong(400, "deep", "POST /predict", b"[" * 100_000, says="nested too deeply | 1,024 levels"),
    wrong(400, "empty", "POST /predict", b"", says="empty", content_type=JSON),
    wrong(404, "path", "GET /scor", says="did you mean '/score'?"),
    wrong(404, "case", "GET /models/irs/score", says="no case 'irs' | did you mean 'iris'?"),
    wrong(404, "case's docs", "GET /models/Iris/docs", says="did you mean 'iris'?"),
    wrong(404, "file", "GET /docs/ui/nothing.js", says="nothing here"),
    wrong(405, "GET", "GET /predict", says="GET is not for this path | POST"),
    wrong(405, "POST", "POST /schema", b"", says="POST is not for this path | GET"),
    wrong(405, "DELETE", "DELETE /models", says="DELETE is not for this path | GET"),
    wrong(406, "HTML", "POST /predict", GOOD, says=f"{JSON} or {CSV}", accept="text/html"),
    wrong(406, "q=0", "POST /predict", GOOD, says=f"{JSON} or {CSV}", accept=f"{JSON};q=0"),
    wrong(415, "text", "POST /predict", GOOD, says="text/html", content_type="text/html"),
    wrong(422, "misspelt", asked(petal_width=None, petal_widht=1),
          says="Unknown parameter 'petal_widht' | did you mean 'petal_width'?"),
    wrong(422, "missing", asked(petal_width=None),
          says="'petal_width' is missing | from 0 up to 30 cm | for example petal_width="),
    wrong(422, "nothing", "GET /score", says="'sepal_length' is missing"),
    wrong(422, "twice", f"{asked()}&petal_width=2", says="'petal_width' is there twice"),
    wrong(422, "word", asked(petal_width="wide"), says="petal_width | from 0 up to 30 cm | 'wide'"),
    wrong(422, "empty value", asked(petal_width=""), says="petal_width | not empty"),
    wrong(422, "nan", asked(petal_width="nan"), says="petal_width | not empty | nan"),
    wrong(422, "inf", asked(petal_width="inf"), says="petal_width | inf"),
    wrong(422, "above", asked(petal_width=30.5), says="petal_width | from 0 up to 30 cm | 30.5"),
    wrong(422, "below", asked(petal_width=-1), says="petal_width | from 0 up to 30 cm | -1"),
    wrong(422, "1_0", asked(petal_width="1_0"), says="petal_width | 1_0"),
    wrong(422, "no UTF-8", asked(petal_width="%ff"), says="query cannot be read"),
    wrong(422, "too many", f"GET /score?{'a=1&' * 10_001}", says="query cannot be read"),
    wrong(422, "proba on /score", asked(proba="true"), says="Unknown parameter 'proba'"),
    wrong(422, "proba misspelt", "POST /predict?prob=1", GOOD, says="'prob' | mean 'proba'?"),
    wrong(422, "proba's value", "POST /predict?proba=maybe", GOOD, says="'proba' | 'maybe'"),
    wrong(422, "option", "POST /predict?on_error=skip", GOOD, says="on_error | quarantine | skip"),
    wrong(422, "option twice", "POST /predict?proba=1&proba=0", GOOD, says="proba | twice"),
    wrong(422, "join to JSON", "POST /predict?join=true", GOOD, says=f"joined | Accept: {CSV}"),
    wrong(422, "short row", "POST /predict", [[1, 2, 3]], says="row 1 | 4 values | 3 values"),
    wrong(422, "long row", "POST /predict", [*GOOD, [1, 2, 3, 4, 5]], says="row 2 | 5 values"),
    wrong(422, "one row", "POST /predict", [1, 2, 3, 4], says="one row, not a table | brackets"),
    wrong(422, "text", "POST /predict", b'"text"', says="no table", content_type=JSON),
    wrong(422, "null", "POST /predict", b"null", says="no table", content_type=JSON),
    wrong(422, "column", "POST /predict", [ROW, {**ROW, "petal_lenght": 1}],
          says="Unknown column 'petal_lenght' | row 2 | did you mean 'petal_length'?"),
    wrong(422, "cell", "POST /predict", [[1, 2, 3, "x"]], says='"row": 1 | petal_width | \'x\''),
    wrong(422, "true", "POST /predict", [[1, 2, 3, True]], says="petal_width | True"),
    wrong(422, "no cell", "POST /predict", [[1, 2, 3, None]], says="petal_width | nothing"),
    wrong(422, "huge", "POST /predict", [[1, 2, 3, 10**30]], says="petal_width | 1e+30"),
    wrong(422, "lengths", "POST /predict", {**ROW, "petal_width": [1, 2]}, says="equally long"),
    wrong(422, "empty CSV", "POST /predict", b"", says="CSV file is empty", content_type=CSV),
    wrong(422, "twice in CSV", "POST /predict", b"petal_width,petal_width\n1,2\n", says="'petal_width' | twice"),
    wrong(422, "short line", "POST /predict", HEADER + b"1,2,3\n", says="4 cells | 3 cells: 1,2,3"),
    wrong(422, "no text", "POST /predict", b"\x81," + HEADER, says="not UTF-8", content_type=CSV),
    wrong(422, "Parquet", "POST /predict", b"PAR1", says="Parquet file", content_type=PARQUET),
]  # fmt: skip


@pytest.mark.parametrize(("status", "method", "path", "body", "headers", "words"), MISTAKES)
def test_a_mistake_is_told(server, status, method, path, body, headers, words):
    answer = server.ask.request(method, path, content=body, headers=headers)
    is_problem(answer, status, path.partition("?")[0], *words)


def test_a_method_that_is_not_for_a_path_is_told_with_those_that_are(server):
    assert server.ask.get("/predict").headers["Allow"] == "POST"


def test_many_bad_cells_are_counted_and_some_are_told(server):
    answer = server.predict([[1, 2, 3, "x"]] * 300)
    document = is_problem(answer, 422, "/predict", "300 value(s)")
    assert document["errors_total"] == 300 and len(document["errors"]) == 20
    first = {"row": 1, "column": "petal_width", "got": "'x'"}
    assert first.items() <= document["errors"][0].items()
    assert [e["row"] for e in document["errors"]] == list(range(1, 21))


MEGABYTE = 1 << 20


def test_a_body_that_says_it_is_too_large_is_not_waited_for(server):
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MEGABYTE + 1}\r\n\r\n"
    answer = server.raw(head.encode())
    is_problem(answer, 413, "/predict", "at most 1 MB")
    assert answer.headers["Connection"] == "close"


def test_a_body_that_becomes_too_large_is_refused_on_the_way(server):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"40000\r\n" + b" " * 0x40000 + b"\r\n"
    is_problem(server.raw(head + chunk * 4 + b"1\r\n \r\n"), 413, "/predict", "at most 1 MB")
    fits = HEADER + LINE * ((MEGABYTE - len(HEADER)) // 16)
    assert MEGABYTE - 16 < len(fits) <= MEGABYTE
    assert server.predict(fits, CSV).status_code == 200


def test_a_slip_of_ours_tells_its_id_and_nothing_else(trained, monkeypatch, caplog):
    "In this process, where something can be broken on purpose."
    from starlette.testclient import TestClient

    def broken(*_):
        raise RuntimeError("the password is hunter2")

    app = serve.make_app(open_house(load_settings(trained)))
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get(f"/score?{QUERY}").text == "[1.0]"
    for room, name in ((questions, "answer"), (serve, "model_card"), (serve, "to_json")):
        monkeypatch.setattr(room, name, broken)
    large = HEADER + LINE * (questions.LARGE // len(LINE))  # worked on in a thread
    for found in (
        client.get(f"/score?{QUERY}"),
        client.post("/predict", json=GOOD),
        client.post("/predict", content=large),
        client.get("/model"),
        client.get("/models/iris/schema", headers={"X-Request-Id": "mine"}),
    ):
        document = is_problem(found, 500, found.request.url.path, "mistake", "request id")
        assert not re.search("hunter2|RuntimeError|password", found.text)
        assert document["request_id"] in caplog.text
        assert found.headers["X-Model-Version"] == "1"


def test_secrets_stay_inside(trained):
    "An address with a password in it, of a store that is out of reach."
    store = {"RF_MLOPS_TRACKING__URI": "http://reader:" + "hunter2@127.0.0.1:9"}
    with serving(trained, ready=False, **store) as server:
        until(lambda: server.ask.get("/models").json()[0]["trouble"])
        is_problem(server.ask.get("/ready"), 503, "/ready", "out of reach")
        paths = ("/ready", "/model", "/models", "/docs", "/openapi.json", f"/score?{QUERY}")
        seen = [server.ask.get(path).text for path in paths]
        said = server.said + server.line()
        assert "hunter2" not in "".join([*seen, said, server.told])


def test_a_secret_in_a_cell_is_not_repeated(server):
    row = {**ROW, "petal_width": "postgresql://me:" + "hunter2@db/flowers"}
    answer = server.predict([row])
    is_problem(answer, 422, "/predict", "petal_width")
    assert "hunter2" not in answer.text


# --- headers --------------------------------------------------------------------------------------

PLACES = ["/live", "/ready", "/model", "/models", "/schema", "/template.csv", "/docs"]
PLACES += ["/openapi.json", f"/score?{QUERY}", "/", "/docs/docs.js", "/docs/docs.css"]
PLACES += ["/docs/ui/swagger-ui.css", "/docs/ui/swagger-ui-bundle.js"]


@pytest.mark.parametrize("path", PLACES)
def test_every_answer_says_who_gave_it(server, path):
    for method in ("GET", "PATCH"):
        answer = server.ask.request(method, path)
        assert answer.status_code < 400 if method == "GET" else answer.status_code == 405
        assert answer.headers["X-Model-Version"] == "1"
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_root_leads_to_the_docs(server):
    found = server.ask.get("/", follow_redirects=True)
    assert found.status_code == 200 and found.url.path == "/docs"
    own = set(re.findall(r'(?:src|href)="([^"]+)"', found.text))
    assert own and all(server.ask.get(path).status_code == 200 for path in own)
    assert "default-src 'none'" in found.headers["Content-Security-Policy"]


@pytest.mark.parametrize("given", ["a", "7f3c-11.b_Z", "x" * 64])
def test_a_plain_request_id_is_kept(server, given):
    for path in ("/live", f"/score?{QUERY}", "/nothing"):
        answer = server.ask.get(path, headers={"X-Request-Id": given})
        assert answer.headers["X-Request-Id"] == given
    assert answer.json()["request_id"] == given


@pytest.mark.parametrize(
    "given",
    [b"x" * 65, b"", b"two words", b"a;b", b"../x", b"\xe4", b"a%0d%0aX-Evil: 1", b"a\tb", b"<b>"],
)
def test_another_request_id_is_replaced(server, given):
    answer = server.ask.get("/nothing", headers=[(b"X-Request-Id", given)])
    document = is_problem(answer, 404, "/nothing")
    assert re.fullmatch("[0-9a-f]{32}", document["request_id"])


@pytest.mark.parametrize("given", [b"a\nX-Evil: 1", b"a\rX-Evil: 1", b"a\r\n X-Evil: 1", b"a\0b"])
def test_a_request_id_makes_no_header(server, given):
    request = b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-Id: "
    answer = server.raw(request + given + b"\r\n\r\n")
    assert answer.status_code == 400 and "X-Evil" not in answer.headers
    assert not INTERNAL.search(answer.text)


# --- the champion is followed ---------------------------------------------------------------------


class Asker(Thread):
    "Somebody who asks all the while, and notes each answer: status, version, probabilities."

    def __init__(self, server: Server, frame: pd.DataFrame):
        super().__init__(daemon=True)
        self.server, self.body, self.enough = server, frame.to_dict("records"), Event()
        self.seen: list[tuple[int, int, bytes]] = []
        self.failed: list[str] = []

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                self.note(self.server.predict(self.body, query="?proba=true"))
            except Exception as error:  # noqa: BLE001  whatever it is, nobody should see it
                self.failed.append(repr(error))

    def note(self, answer: httpx.Response) -> None:
        "Keep an answer, if its header and its body name the same model."
        version = answer.json().get("model", {}).get("version")
        if answer.status_code != 200 or answer.headers["X-Model-Version"] != str(version):
            self.failed.append(f"{answer.status_code} {dict(answer.headers)} {answer.text[:300]}")
            return
        bits = in_json(answer)[1].astype(np.float32).tobytes()
        self.seen.append((answer.status_code, version, bits))

    def stop(self) -> list[int]:
        "Enough; the versions that answered, one after the other."
        self.enough.set()
        self.join(timeout=60)
        assert self.failed == [] and len(self.seen) > 20
        versions = [version for _, version, _ in self.seen]
        return [v for i, v in enumerate(versions) if i == 0 or versions[i - 1] != v]


def test_promotion_and_rollback_are_followed_without_a_failed_request(trained_copy, flowers):
    with serving(trained_copy) as server:
        asker = Asker(server, flowers)
        asker.start()
        until(lambda: asker.seen)
        assert train_here(QUICK, seed=5).verdict == "promoted"
        until(lambda: server.version() == 2, within=5)
        second = server.ask.get("/model").json()
        many = len(asker.seen)
        until(lambda: len(asker.seen) > many + 20)
        assert registry.rollback("iris") == (2, 1)
        until(lambda: server.version() == 1, within=5)
        assert server.ask.get(f"/score?{QUERY}").headers["X-Model-Version"] == "1"
        assert server.ask.get("/model").json()["version"] == 1
        assert asker.stop() == [1, 2, 1]
        expected = {v: load(f"iris/{v}").predict_proba(flowers).tobytes() for v in (1, 2)}
        assert expected[1] != expected[2], "or the answers say nothing"
        assert {(v, bits) for _, v, bits in asker.seen} == set(expected.items())
        assert (second["version"], second["hash"]) == (2, load("iris/2").bundle.model_hash)
        assert second["decided"]["event"] == "promoted" and second["gates"]
        assert "Traceback" not in server.told


def bundle_of(version: int) -> Path:
    "The folder of a version's bundle, in the present project."
    run_id = open_store().get_model_version("iris", str(version)).run_id
    return Path("mlruns/artifacts/iris") / run_id / "artifacts" / "bundle"


def cut_the_graph(folder: Path) -> None:
    "Half of the model is gone."
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])


def falsify_the_golden_rows(folder: Path) -> None:
    "The answers it should give are others, and the manifest knows of it."
    golden = json.loads((folder / "golden.json").read_bytes())
    golden["answers"] = [[1 - p for p in row] for row in golden["answers"]]
    (folder / "golden.json").write_bytes(as_json(golden))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["golden.json"] = digest(as_json(golden))
    manifest["model_hash"] = model_hash(manifest["files"])
    (folder / "manifest.json").write_bytes(as_json(manifest))


def has_trouble(server: Server, *words: str) -> None:
    "The alias points at a model that is not taken, and the old one answers as if nothing were."
    trouble = until(lambda: server.ask.get("/model").json()["trouble"], within=5)
    assert all(word in trouble for word in words) and not INTERNAL.search(trouble)
    assert server.ask.get("/models").json()[0] == {"case": "iris", "version": 1, "trouble": trouble}
    assert server.ask.get("/ready").status_code == 200 and server.version() == 1
    assert server.ask.get(f"/score?{QUERY}").headers["X-Model-Version"] == "1"
    assert "Traceback" not in server.told


def test_a_damaged_champion_is_not_taken_until_it_is_repaired(trained_copy, flowers):
    assert train_here(QUICK, seed=5, promote=False).verdict == "waiting"
    folder = bundle_of(2)
    shutil.copytree(folder, "good")
    cut_the_graph(folder)
    with serving(trained_copy) as server:
        asker = Asker(server, flowers)
        asker.start()
        open_store().set_registered_model_alias("iris", "champion", "2")
        has_trouble(server, "changed")
        shutil.copytree("good", folder, dirs_exist_ok=True)
        until(lambda: server.version() == 2, within=AGAIN + 5)
        assert server.ask.get("/model").json()["trouble"] is None
        until(lambda: asker.seen[-1][1] == 2)
        assert asker.stop() == [1, 2]


def test_a_champion_with_wrong_golden_rows_is_not_taken(trained_copy):
    assert train_here(QUICK, seed=5, promote=False).verdict == "waiting"
    falsify_the_golden_rows(bundle_of(2))
    with serving(trained_copy) as server:
        open_store().set_registered_model_alias("iris", "champion", "2")
        has_trouble(server, "golden rows")
        open_store().set_registered_model_alias("iris", "champion", "1")
        until(lambda: server.ask.get("/model").json()["trouble"] is None, within=5)


def test_the_champion_in_memory_outlives_its_files(trained_copy):
    with serving(trained_copy) as server:
        shutil.rmtree(bundle_of(1))
        store = Path("mlruns/mlflow.db")
        store.rename("mlflow.db")
        has_trouble(server, "no model 'iris@champion'")
        Path("mlflow.db").rename(store)
        until(lambda: server.ask.get("/model").json()["trouble"] is None, within=5)
        assert server.version() == 1


def test_a_project_without_a_champion_waits_for_one(project):
    with serving(project, ready=False) as server:
        assert "waits for a champion" in server.said
        assert server.ask.get("/live").status_code == 200
        assert server.ask.get("/docs").status_code == 200
        assert server.ask.get("/openapi.json").status_code == 200
        assert server.ask.get("/models").json()[0]["version"] is None
        for path in ("/ready", "/score", "/model", "/schema", "/template.csv"):
            answer = server.ask.get(path)
            is_problem(answer, 503, path, "no model 'iris@champion'", "rf-mlops train iris")
            assert answer.headers["X-Model-Version"] == "none"
            assert answer.headers["Retry-After"].isdigit()
        is_problem(server.predict(GOOD), 503, "/predict", "rf-mlops train iris")
        assert train_here(QUICK).verdict == "promoted"
        assert until(server.version, within=5) == 1
        assert server.ask.get(f"/score?{QUERY}").text == "[1.0]"
        assert server.ask.get("/models").json() == [{"case": "iris", "version": 1, "trouble": None}]
        assert "/score" in server.ask.get("/openapi.json").json()["paths"]
        assert "Traceback" not in server.told


# --- several cases --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town(town_project) -> Iterator[Server]:
    "A server with three cases, of which `visits` stands at the root."
    with serving(town_project, "--case", "visits") as found:
        until(lambda: all(model["version"] for model in found.ask.get("/models").json()))
        yield found


ASKED = {"iris": ROW, "visits": VISIT, "houses": {"size": 80.5, "rooms": 3}}


def test_a_case_stands_at_the_root(town):
    assert town.said.startswith("visits v1 answers")
    assert town.ask.get("/ready").json()["case"] == "visits"
    assert town.ask.get("/schema").json() == town.ask.get("/models/visits/schema").json()
    assert [m["case"] for m in town.ask.get("/models").json()] == ["iris", "visits", "houses"]
    first, second = (
        town.ask.get(path, params=VISIT) for path in ("/score", "/models/visits/score")
    )
    assert first.status_code == 200 and first.json() == second.json()
    is_problem(town.ask.get(f"/score?{QUERY}"), 422, "/score", "Unknown parameter 'petal_length'")


@pytest.mark.parametrize("case", ASKED)
def test_every_case_has_all_there_is(town, case):
    model, row = load(f"{case}@champion", load_settings(town.project)), ASKED[case]
    under = f"/models/{case}"
    for path in ("/ready", "/model", "/schema", "/template.csv", "/docs", "/openapi.json"):
        answer = town.ask.get(under + path)
        assert answer.status_code == 200 and answer.headers["X-Model-Version"] == "1"
        assert case in answer.text or path in ("/schema", "/template.csv")
    assert town.ask.get(f"{under}/model").json()["hash"] == model.bundle.model_hash
    predicted = model.predict([row]).tolist()
    assert town.ask.post(f"{under}/predict", json=[row]).json()["predictions"] == predicted
    classes = dict(zip(model.schema.classes, model.schema.codes, strict=True))
    expected = [float(classes[p]) if classes else p for p in predicted]
    assert town.ask.get(f"{under}/score", params=row).json() == expected
    template = town.ask.get(f"{under}/template.csv").content
    assert town.ask.post(f"{under}/predict", content=template).status_code == 200
    paths = town.ask.get(f"{under}/openapi.json").json()["paths"]
    assert {f"{under}/score", f"{under}/predict"} <= set(paths)
    assert "/score" not in paths


@pytest.mark.parametrize("body", ["records", "columns", "CSV", "Parquet"])
def test_kinds_of_columns_travel_whole(town, body):
    "Gaps, umlauts, quotes and commas, truth values and moments."
    model = load("visits@champion", load_settings(town.project))
    frame = pd.read_csv(town.project / "visits.csv").drop(columns="come")
    frame = frame.astype({"town": object}).where(frame.notna(), None)
    kind, pack = BODIES[body]
    for query in ("?proba=true", "?proba=true&join=true"):
        answer = town.predict(pack(frame), kind, query, Accept=CSV)
        labels, probabilities = in_csv(answer)
        expected = model.predict_proba(frame)
        assert labels == model.predict(frame).tolist() and set(labels) == {"yes", "no"}
        assert probabilities.tobytes() == expected.astype(np.float64).tobytes()
    joined = pd.read_csv(StringIO(answer.text))
    assert joined["town"].fillna("").tolist() == frame["town"].fillna("").tolist()


def test_queries_of_every_kind(town):
    model = load("visits@champion", load_settings(town.project))
    for change in ({}, {"town": 'Ober "Dorf", B'}, {"town": "A & B's"}, {"town": "Unknown"}):
        row = {**VISIT, **change}
        (name,) = model.predict([row])
        code = model.schema.codes[model.schema.classes.index(name)]
        assert town.ask.get("/score", params=row).json() == [float(code)]
    without = {k: v for k, v in VISIT.items() if k != "town"}
    assert town.ask.get("/score", params=without).json() == (
        town.ask.get("/score", params={**VISIT, "town": ""}).json()
    )
    for name, value in (("member", "perhaps"), ("at", "yesterday"), ("amount", "much")):
        answer = town.ask.get("/score", params={**VISIT, name: value})
        is_problem(answer, 422, "/score", name, value)


def test_a_regression_has_no_probabilities(town):
    row, path = ASKED["houses"], "/models/houses/predict"
    is_problem(town.ask.post(f"{path}?proba=true", json=[row]), 422, path, "regression")
    entry = town.ask.get("/models/houses/openapi.json").json()["paths"][path]["post"]
    assert "proba" not in [p["name"] for p in entry["parameters"]]


@pytest.mark.parametrize("body", ["records", "arrays", "columns", "CSV", "Parquet"])
def test_a_regression_gives_the_same_bits(town, body):
    frame = pd.read_csv(town.project / "houses.csv")[["size", "rooms"]]
    expected = load("houses@champion", load_settings(town.project)).predict(frame)
    kind, pack = BODIES[body]
    post = {"url": "/models/houses/predict", "content": pack(frame)}
    as_json_ = town.ask.post(**post, headers={"Content-Type": kind}).json()["predictions"]
    answer = town.ask.post(**post, headers={"Content-Type": kind, "Accept": CSV})
    as_csv_ = [float(row["prediction"]) for row in csv.DictReader(StringIO(answer.text))]
    assert as_json_ == as_csv_ == expected.astype(np.float64).tolist()


def test_a_number_too_large_for_the_model_is_no_broken_json(town):
    "Finite as a double, infinite as the float32 that a model reads."
    answer = town.ask.get("/models/houses/score", params={"size": "1e300", "rooms": 3})

    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON: {answer.text}")

    json.loads(answer.text, parse_constant=refuse)


def test_what_to_try_first_can_be_copied(town):
    "The line that the terminal shows is a command that works, whatever stands in the examples."
    line = town.line()
    found = re.fullmatch(r"  curl '(http://[^\s']+)'\n", line)
    assert found, line
    assert httpx.get(found[1], trust_env=False).status_code == 200


# --- the description ------------------------------------------------------------------------------

DOCUMENTS = ["/openapi.json", "/models/iris/openapi.json", "/models/houses/openapi.json"]


def nodes(document: Any) -> Iterator[dict]:
    "Every mapping in a document."
    if isinstance(document, dict):
        yield document
    for value in document.values() if isinstance(document, dict) else document:
        if isinstance(value, (dict, list)):
            yield from nodes(value)


def operations(document: dict) -> Iterator[tuple[str, str, dict]]:
    "Method, path and description of everything that can be asked."
    for path, entry in document["paths"].items():
        for method, operation in entry.items():
            yield method, path, operation


def bodies_of(operation: dict) -> Iterator[tuple[str | None, bytes]]:
    "Each example of a body with its media type; one of nothing where no body is taken."
    if "requestBody" not in operation:
        yield None, b""
    for kind, entry in operation.get("requestBody", {}).get("content", {}).items():
        values = [e["value"] for e in entry.get("examples", {}).values()]
        values += [entry["example"]] if "example" in entry else []
        for value in values:
            yield kind, (json.dumps(value) if kind == JSON else value).encode()


def queries_of(operation: dict) -> Iterator[dict[str, str]]:
    "The query of all examples; then each value of an option that is named."
    parameters = operation.get("parameters", [])
    assert all("example" in p for p in parameters if p.get("required"))
    given = {p["name"]: p["example"] for p in parameters if p.get("example") is not None}
    yield {k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()}
    for parameter in parameters:
        default = parameter["schema"].get("default")
        for value in parameter["schema"].get("enum", [default] if default is not None else []):
            yield {parameter["name"]: value if isinstance(value, str) else json.dumps(value)}


def check(value: Any, schema: dict, document: dict) -> None:
    "A value is as a schema of the document says."
    from jsonschema import Draft202012Validator

    whole = {**schema, "components": document["components"]}
    found = [error.message for error in Draft202012Validator(whole).iter_errors(value)]
    assert found == [], found


def accepted(operation: dict) -> dict:
    "What an operation answers where all is well."
    return next(r for status, r in operation["responses"].items() if status.startswith("2"))


@pytest.mark.parametrize("path", DOCUMENTS)
def test_the_description_is_openapi(town, path):
    import schemathesis
    from jsonschema import Draft202012Validator

    document = town.ask.get(path).json()
    assert document["openapi"].startswith("3.1.") and document["info"]["version"]
    schemathesis.openapi.from_dict(document).validate()
    referred = {node["$ref"] for node in nodes(document) if "$ref" in node}
    assert referred
    for reference in referred:
        place = document
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]
    for node in nodes(document):
        if isinstance(node.get("schema"), dict):
            Draft202012Validator.check_schema(node["schema"])
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    found = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(found)) == len(found) >= 6
    assert all(accepted(o)["description"] for _, _, o in operations(document))


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_example_works(town, path):
    document, tried = town.ask.get(path).json(), 0
    for method, place, operation in operations(document):
        for kind, body in bodies_of(operation):
            for query in queries_of(operation):
                headers = {"Content-Type": kind} if kind else {}
                answer = town.ask.request(
                    method, place, params=query, content=body, headers=headers
                )
                assert answer.is_success, (method, place, query, body, answer.text)
                told = operation["responses"][str(answer.status_code)].get("content", {})
                if answer.headers["Content-Type"] == JSON:
                    check(answer.json(), told[JSON]["schema"], document)
                tried += 1
    assert tried > 20


@pytest.mark.parametrize("path", DOCUMENTS)
def test_examples_are_as_they_are_described(town, path):
    document = town.ask.get(path).json()
    for _, _, operation in operations(document):
        for parameter in operation.get("parameters", []):
            if "example" in parameter:
                check(parameter["example"], parameter["schema"], document)
        content = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
        for example in content.get("examples", {}).values():
            check(example["value"], content["schema"], document)


def test_answers_with_gaps_and_problems_are_as_they_are_described(server):
    document = server.ask.get("/openapi.json").json()
    told = document["paths"]["/predict"]["post"]["responses"]
    refused = server.predict([[1, 2, 3, "x"]])
    check(refused.json(), told["422"]["content"][PROBLEM]["schema"], document)
    for query in ("?proba=true", "?proba=true&on_error=quarantine"):
        answer = server.predict(
            [*GOOD, *([[1, 2, 3, "x"]] if "quarantine" in query else [])], query=query
        )
        assert answer.status_code == 200
        check(answer.json(), told["200"]["content"][JSON]["schema"], document)


# --- the process ----------------------------------------------------------------------------------

SPY = """
import atexit, json, os, sys
from rf_mlops import cli

def tell():
    with open(os.environ["SPY"], "w") as file:
        json.dump(sorted(sys.modules), file)

atexit.register(tell)
cli.main()
"""


def loaded_after(project: Path, told: Path, ask: Callable[[Server], Any]) -> set[str]:
    "The packages that a serving process has loaded when it ends."
    command = (sys.executable, "-c", SPY)
    with serving(project, command=command, SPY=str(told)) as server:
        ask(server)
        assert server.stop() == 0, server.told
    names = {name.partition(".")[0] for name in json.loads(told.read_text())}
    assert {"rf_mlops", "uvicorn", "onnxruntime", "pyarrow"} <= names
    return names


def ask_everything(server: Server) -> None:
    "Every route, and a table in every shape."
    frame = pd.DataFrame([ROW])
    for place in PLACES:
        assert server.ask.get(place).status_code < 400
    for kind, pack in BODIES.values():
        for accept in (JSON, CSV):
            query = "?proba=true&join=true" if accept == CSV else "?on_error=quarantine"
            assert server.predict(pack(frame), kind, query, Accept=accept).status_code == 200
    large = HEADER + LINE * 100_000
    assert server.predict(large, CSV, "?join=true", Accept=CSV).status_code == 200


def ask_with_moments(server: Server) -> None:
    "A Parquet file as pandas writes it, with a moment to the nanosecond beside the features."
    moments = pa.array([1], pa.timestamp("ns"))
    table = pa.table({**{k: [v] for k, v in ROW.items()}, "at": moments})
    buffer = BytesIO()
    pq.write_table(table, buffer)
    assert server.predict(buffer.getvalue(), PARQUET).status_code == 200


@pytest.mark.parametrize("ask", [ask_everything, ask_with_moments])
def test_the_process_loads_nothing_that_trains(trained, tmp_path, ask):
    loaded = loaded_after(trained, tmp_path / "told.json", ask)
    assert loaded & HEAVY == set()


def test_a_taken_port_is_told(trained, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = {"RF_MLOPS_PROJECT": str(trained)}
        found = run_script("serve", "--port", port, cwd=tmp_path, env=env, timeout=60)
    assert found.returncode == 2 and found.stdout == ""
    for word in ("port cannot be used", port, "choose another one", "--port"):
        assert word in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--case", "irs"), "did you mean 'iris'?"),
        (("--host", "no.such.host.invalid"), "no.such.host.invalid"),
        (("--port", "many"), "--port"),
    ],
)
def test_a_wrong_option_is_told(trained, tmp_path, words, says):
    env = {"RF_MLOPS_PROJECT": str(trained)}
    found = run_script("serve", "--port", "0", *words, cwd=tmp_path, env=env, timeout=60)
    assert found.returncode == 2 and says in found.stderr and "Traceback" not in found.stderr


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_when_requests_are_answered(trained, how):
    with serving(trained) as server, socket.create_connection(server.address, 20) as slow:
        body = json.dumps(GOOD).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        slow.sendall(head.encode() + body[:5])
        assert server.ask.get("/live").status_code == 200  # it has read the half, and waits
        server.process.send_signal(getattr(signal, how))
        until(lambda: not is_open(server.address))
        slow.sendall(body[5:])
        assert answer_on(slow).status_code == 200
        assert server.process.wait(timeout=20) == 0
        assert "Traceback" not in server.told


def is_open(address: tuple[str, int]) -> bool:
    "Does anybody listen there?"
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def test_a_child_ends_with_its_parent(trained):
    with serving(trained, "--child") as server:
        assert server.process.stdin
        server.process.stdin.close()
        assert server.process.wait(timeout=20) == 0
        server.process.stdin = None  # or `communicate` would close it again
        assert "Traceback" not in server.told


# --- CSV files as people have them ----------------------------------------------------------------

READABLE = {
    "a byte order mark": b"\xef\xbb\xbf" + HEADER + LINE,
    "Windows' line ends": (HEADER + LINE).replace(b"\n", b"\r\n"),
    "no line end": (HEADER + LINE).rstrip(),
    "an empty line at the end": HEADER + LINE + b"\n",
    "an extra column": b"id," + HEADER + b"7," + LINE,
    "spaces": b" sepal_length, sepal_width ,petal_length,petal_width\n 5.1, 3.5 ,1.4,0.2\n",
    "everything quoted": b'"' + (HEADER + LINE.rstrip()).replace(b",", b'","').replace(
        b"\n", b'"\n"'
    ) + b'"\n',
    "a line end in the header": b'"a\nb",' + HEADER + b"7," + LINE,
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE)
def test_a_csv_file_as_people_have_it(server, name):
    answer = server.predict(READABLE[name], CSV)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == ["setosa"]


@pytest.mark.parametrize("content", [HEADER, HEADER.rstrip()], ids=["a line", "no line end"])
def test_a_header_alone_is_a_table_of_no_rows(server, content):
    answer = server.predict(content, CSV, "?proba=true")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["predictions"] == []
    assert document["probabilities"] == {"setosa": [], "versicolor": [], "virginica": []}
    joined = server.predict(content, CSV, "?join=true", Accept=CSV)
    assert next(csv.reader(StringIO(joined.text))) == [*NAMES, "prediction"]
    assert len(joined.text.splitlines()) == 1


def joined(server: Server, table: list[list[str]], query: str = "") -> list[list[str]]:
    "The cells of a table that went out and came back with its predictions."
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    answer = server.predict(text.getvalue().encode(), CSV, f"?join=true{query}", Accept=CSV)
    assert answer.status_code == 200, answer.text
    return list(csv.reader(StringIO(answer.text, newline="")))


def test_cells_with_commas_quotes_and_line_ends_come_back(server):
    notes = ["one, two", 'say "so"', "two\nlines", "", " space ", "Grüße 🌸", "=1+1", "a\r\nb"]
    values = ["5.10", "3.5", "1.4", "0.2"]  # 5.10 as it was written
    table = [["note", *NAMES], *([note, *values] for note in notes)]
    back = joined(server, table)
    assert back == [[*table[0], "prediction"], *([*row, "setosa"] for row in table[1:])]


def test_a_column_that_is_called_prediction_stays(server):
    table = [["prediction", "prediction_", *NAMES], ["mine", "too", "5.1", "3.5", "1.4", "0.2"]]
    header, row = joined(server, table)
    assert header == [*table[0], "prediction__"] and row == [*table[1], "setosa"]


def test_one_bad_cell_of_many_is_set_aside(server, champion, flowers):
    "10,000 rows, a word in one of them."
    frame = pd.concat([flowers] * 67, ignore_index=True).iloc[:10_000]
    expected: list[str | None] = champion.predict(frame).tolist()
    expected[6543] = None
    frame = frame.astype({"petal_width": object})
    frame.loc[6543, "petal_width"] = "wide"
    content = frame.to_csv(index=False).encode()
    refused = is_problem(server.predict(content, CSV), 422, "/predict", "1 value(s)")
    assert refused["errors_total"] == 1
    document = server.predict(content, CSV, "?on_error=quarantine").json()
    assert document["predictions"] == expected
    (reason,) = document["errors"]
    assert {"row": 6544, "column": "petal_width", "got": "'wide'"}.items() <= reason.items()
    header, *rows = joined(server, [list(frame), *frame.values.tolist()], "&on_error=quarantine")
    assert header == [*NAMES, "prediction", "error"] and len(rows) == 10_000
    assert [row[4] or None for row in rows] == expected
    assert [i for i, row in enumerate(rows) if row[5]] == [6543]
    assert "petal_width" in rows[6543][5] and rows[6543][3] == "wide"
    assert [row[:4] for row in rows] == [[str(v) for v in row] for row in frame.values.tolist()]


@pytest.mark.parametrize("megabytes", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_large_file_is_joined(trained, champion, flowers, megabytes):
    content = flowers.to_csv(index=False, header=False).encode()
    times = megabytes * 1_000_000 // len(content) + 1
    with serving(trained) as server:
        answer = server.predict(HEADER + content * times, CSV, "?join=true", Accept=CSV)
    assert answer.status_code == 200, answer.text[:300]
    header, _, rest = answer.content.partition(b"\n")
    assert len(rest) % times == 0
    block = rest[: len(rest) // times]
    assert rest == block * times, "every row, in its order"
    found = [*csv.reader(StringIO(block.decode()))]
    assert [row[-1] for row in found] == champion.predict(flowers).tolist()
    assert [[float(v) for v in row[:-1]] for row in found] == flowers.to_numpy().tolist()


# --- what comes from people who mean no good ------------------------------------------------------


def table_bytes(table: pa.Table) -> bytes:
    "A Parquet file of an Arrow table."
    buffer = BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def columns(**more: Any) -> dict[str, Any]:
    "A table of one row as columns, and more beside it."
    return {**{name: [value] for name, value in ROW.items()}, **more}


ARRAYS = [pa.array([value]) for value in ROW.values()]
TWICE = pa.Table.from_arrays([*ARRAYS, ARRAYS[0]], names=[*ROW, "petal_length"])
EXTRA = pa.Table.from_arrays([*ARRAYS, ARRAYS[0], ARRAYS[0]], names=[*ROW, "x", "x"])
NOT_UTF8 = pa.table({**columns(), "note": pa.array(["abcdefgh"])})
HOSTILE: dict[str, tuple[str, Any]] = {
    "ragged columns": (JSON, {name: [[1], [1, 2]] for name in NAMES}),
    "a ragged row": (JSON, [[1, [2, 3], 4, 5]]),
    "a deep cell": (JSON, b"[[1,2,3," + b"[" * 100 + b"]" * 100 + b"]]"),
    "deep rows": (JSON, b"[" * 900 + b"]" * 900),
    "a list in a cell": (JSON, [[1, 2, 3, [4]]]),
    "a record in a cell": (JSON, [[1, 2, 3, {"a": 4}]]),
    "records and arrays": (JSON, [ROW, [1, 2, 3, 4]]),
    "arrays and records": (JSON, [[1, 2, 3, 4], ROW]),
    "empty rows": (JSON, [[], []]),
    "empty records": (JSON, [{}, {}]),
    "an empty record": (JSON, {}),
    "null bytes": (JSON, [[1, 2, 3, "\0"]]),
    "a long number": (JSON, b"[[1, 2, 3, " + b"9" * 5000 + b"]]"),
    "one more list to join": (JSON, columns(note=["a", "b"])),
    "one more value to join": (JSON, columns(note=5)),
    "one more text to join": (JSON, columns(note="ab")),
    "a byte order mark alone": (CSV, b"\xef\xbb\xbf"),
    "a byte order mark before JSON": (JSON, b"\xef\xbb\xbf[[1, 2, 3, 4]]"),
    "the old Mac's line ends": (CSV, (HEADER + LINE).replace(b"\n", b"\r")),
    "an empty line before the header": (CSV, b"\n" + HEADER + LINE),
    "a quote without end": (CSV, b'"' + b"a" * 200_000),
    "null bytes in CSV": (CSV, b"\0" * 1000),
    "null bytes in a header": (CSV, b"\0" + HEADER + LINE),
    "UTF-16": (CSV, (HEADER + LINE).decode().encode("utf-16")),
    "a binary file": (CSV, bytes(range(256)) * 10),
    "commas": (CSV, b"," * 50_000 + b"\n" + b"," * 50_000 + b"\n"),
    "a Parquet column twice": (PARQUET, table_bytes(TWICE)),
    "an extra Parquet column twice": (PARQUET, table_bytes(EXTRA)),
    "Parquet with bytes that are no text": (
        PARQUET,
        table_bytes(NOT_UTF8).replace(b"abcdefgh", b"abc\xff\xfefgh"),
    ),
    "Parquet with lists and nothing to join": (
        PARQUET,
        table_bytes(pa.table(columns(note=[[1]], gap=pa.nulls(1), raw=[b"\xff"]))),
    ),
    "Parquet without columns": (PARQUET, table_bytes(pa.table({}))),
    "JSON that says it is Parquet": (PARQUET, b"[[1, 2, 3, 4]]"),
    "compressed": (JSON, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_that_comes_is_our_mistake(server, name):
    kind, body = HOSTILE[name]
    wanted = ("?join=true", CSV) if name.endswith("to join") else ("", JSON)
    answer = server.predict(body, kind, wanted[0], Accept=wanted[1])
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code != 200:
        is_problem(answer, answer.status_code, "/predict")


def test_a_damaged_parquet_file_is_never_our_mistake(server):
    whole, draw = table_bytes(NOT_UTF8), np.random.default_rng(3)
    found = {}
    for place, byte in zip(draw.integers(0, len(whole), 300), draw.bytes(300), strict=True):
        damaged = bytearray(whole)
        damaged[place] = byte
        answer = server.predict(bytes(damaged), PARQUET)
        found.setdefault(answer.status_code, (int(place), byte))
    assert set(found) <= {200, 422}, found


TRICKS = [
    "/models/../score", "/models/iris/../../etc/passwd", "/docs/ui/../../__init__.py",
    "/docs/ui/..%2f..%2f__init__.py", "/docs/ui/%2e%2e/__init__.py", "/docs/ui//etc/passwd",
    "/docs/ui/%00", "/docs/ui/..%5c..%5cx", "//evil.example/score", "/models/%00/ready",
    "/models/%ff/ready", "/models//ready", "/%2e%2e/%2e%2e/etc/passwd", "/docs/ui/" + "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS, ids=[path[:40] for path in TRICKS])
def test_no_path_leads_anywhere_else(server, path):
    answer = server.raw(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1")
    )
    assert answer.status_code == 404, answer.text
    assert answer.json()["title"] == "Not Found" and answer.headers["X-Request-Id"]


@pytest.mark.parametrize("where", ["query", "record", "path"])
def test_a_long_word_keeps_nobody_waiting(server, where):
    "An unknown name of 24 kB that looks like a secret's, again and again."
    name = "password" * 3000
    begun = time.monotonic()
    if where == "query":
        answer = server.ask.get(f"/score?{name}=1")
    elif where == "record":
        answer = server.predict([{**ROW, name: 1}])
    else:
        answer = server.ask.get(f"/{name}")
    assert answer.status_code in (404, 422)
    assert time.monotonic() - begun < 1, f"{time.monotonic() - begun:.1f} s"
    assert len(answer.content) < 5000, f"an answer of {len(answer.content)} bytes"


def peak_of(process: subprocess.Popen) -> int:
    "The most memory a process has ever had, in MB."
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    return int(found[1]) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory")
def test_a_small_body_takes_little_memory(trained):
    "One long text among many short ones: 140 kB."
    body = {"sepal_length": ["x" * 10_000, *[""] * 10_000], "sepal_width": [1]}
    with serving(trained) as server:
        before = peak_of(server.process)
        assert server.predict(body).status_code == 422
        assert peak_of(server.process) - before < 100


def test_somebody_who_leaves_is_no_mistake_of_ours(trained):
    with serving(trained) as server:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n["
        for _ in range(3):
            with socket.create_connection(server.address, 20) as connection:
                connection.sendall(head)
                assert server.ask.get("/live").status_code == 200
        assert server.stop() == 0
        assert "Traceback" not in server.told and "failed" not in server.told


def test_slow_bodies_keep_nobody_waiting(server):
    "A hundred clients that begin a body and do not go on."
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n["
    slow = [socket.create_connection(server.address, 20) for _ in range(100)]
    try:
        for connection in slow:
            connection.sendall(head)
        begun = time.monotonic()
        assert server.ask.get(f"/score?{QUERY}").text == "[1.0]"
        assert time.monotonic() - begun < 1
    finally:
        for connection in slow:
            connection.close()


def test_names_in_any_script_are_told_as_they_came(server):
    answer = server.ask.get(f"/score?{QUERY}&{quote('größe 🌸')}=1")
    is_problem(answer, 422, "/score", "größe 🌸")
