"""The shapes a question and an answer may have: MLflow's, ours, files; and MLflow's own client against the API."""

import io
import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from conftest import running

from rf_mlops import load
from rf_mlops.settings import load_settings

PARQUET = "application/vnd.apache.parquet"
ROW = {"sepal_length": 5.0, "sepal_width": 2.5, "petal_length": 4.0, "petal_width": 1.0}
NAMES = list(ROW)


@pytest.fixture(scope="module")
def api(trained):
    "The address of a server over the trained project."
    with running("serve", "--port", "0", cwd=trained) as (_, (address,)):
        yield address


@pytest.fixture(scope="module")
def flowers(trained) -> pd.DataFrame:
    "The 150 flowers."
    (snapshot,) = (trained / "mlruns" / "snapshots").glob("*.parquet")
    return pd.read_parquet(snapshot)[NAMES]


def post(address: str, path: str, body, kind: str = "application/json", accept: str = "*/*"):
    "Status, content and headers of an answer."
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    question = Request(f"{address}{path}", content, {"Content-Type": kind, "Accept": accept})  # noqa: S310
    try:
        with urlopen(question) as answer:  # noqa: S310
            return answer.status, answer.read(), answer.headers
    except HTTPError as error:
        return error.code, error.read(), error.headers


SHAPES = {
    "dataframe_split": lambda f: {"dataframe_split": f.to_dict("split")},
    "dataframe_split without its index": lambda f: {"dataframe_split": {"columns": NAMES, "data": f.values.tolist()}},
    "dataframe_records": lambda f: {"dataframe_records": f.to_dict("records")},
    "instances of records": lambda f: {"instances": f.to_dict("records")},
    "instances of arrays": lambda f: {"instances": f.values.tolist()},
    "inputs by column": lambda f: {"inputs": f.to_dict("list")},
    "inputs of arrays": lambda f: {"inputs": f.values.tolist()},
    "inputs and params": lambda f: {"inputs": f.to_dict("list"), "params": {}},
    "columns and data": lambda f: {"columns": NAMES[::-1], "data": f[NAMES[::-1]].values.tolist()},
    "records": lambda f: f.to_dict("records"),
    "arrays": lambda f: f.values.tolist(),
}  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/predict", "/models/iris/predict", "/invocations", "/models/iris/invocations"]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_bits(api, trained, flowers, shape, path):
    status, content, _ = post(api, f"{path}?proba=true", SHAPES[shape](flowers))
    assert status == 200, content
    document, model = json.loads(content), load("iris", load_settings(trained))
    assert document["predictions"] == model.predict(flowers).tolist()
    exact = np.array(list(document["probabilities"].values())).T
    assert (exact == model.predict_proba(flowers)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_table_is_scored_whole(api, trained, flowers, shape):
    many = pd.concat([flowers] * 20)
    status, content, _ = post(api, "/score", SHAPES[shape](many.reset_index(drop=True)))
    model = load("iris", load_settings(trained))
    codes = dict(zip(model.schema.classes, model.schema.codes, strict=True))
    assert status == 200 and json.loads(content) == [codes[n] for n in model.predict(many)]


def test_a_table_may_be_a_file(api, flowers):
    status, content, _ = post(api, "/score", flowers.to_csv(index=False).encode(), "text/csv")
    assert status == 200 and len(json.loads(content)) == 150


def test_one_record_is_scored(api):
    assert post(api, "/score", ROW)[:2] == (200, b"[1.0]")


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/predict", {"dataframe_split": {"columns": NAMES, "data": [[1, 2, 3]]}}, "3 values"),
        (
            "/predict",
            {"dataframe_split": {"columns": [*NAMES, "petal_width"], "data": []}},
            "twice",
        ),
        ("/predict", {"dataframe_split": 5}, "no table"),
        ("/predict", {"columns": NAMES, "data": 5}, "two lists"),
        ("/predict", {"columns": NAMES, "data": [5]}, "no list"),
        ("/predict", {"instances": [{"petal_lenght": 1}]}, "petal_length"),
        ("/predict", {"dataframe_split": []}, "columns and data"),
        ("/predict", {"dataframe_split": {"columns": NAMES}}, "columns and data"),
        ("/predict", {"instances": [ROW], "inputs": [ROW]}, "several tables"),
        ("/predict", {"inputs": [ROW], "params": {"a": 1}}, "takes no params"),
        ("/predict", {**ROW, "petal_width": [1]}, "one value"),
        ("/predict", "rows", "'rows'"),
        ("/score?a=1", ROW, "takes no parameters"),
    ],
)
def test_a_wrong_shape_is_told(api, path, body, told):
    status, content, _ = post(api, path, body)
    assert status == 422 and told in content.decode()


def test_an_answer_may_be_a_parquet_file(api, trained, flowers):
    where = "/predict?proba=true&join=true"
    body = flowers.to_csv(index=False).encode()
    status, content, headers = post(api, where, body, "text/csv", PARQUET)
    assert status == 200 and headers["Content-Type"] == PARQUET
    found = pd.read_parquet(io.BytesIO(content))
    model = load("iris", load_settings(trained))
    assert found["prediction"].tolist() == model.predict(flowers).tolist()
    assert (found.iloc[:, -3:].to_numpy() == model.predict_proba(flowers)).all()
    assert found["petal_width"].astype(float).tolist() == flowers["petal_width"].tolist()


def test_what_training_never_saw_is_answered_with_a_warning(api):
    status, content, _ = post(api, "/predict", [ROW, {**ROW, "petal_width": 9}])
    document = json.loads(content)
    assert status == 200 and len(document["predictions"]) == 2
    (warning,) = document["warnings"]
    assert (warning["row"], warning["column"], warning["got"]) == (2, "petal_width", "9")
    assert "0.1 to 2.5" in warning["expected"] and document["warnings_total"] == 1
    assert "warnings" not in json.loads(post(api, "/predict", [ROW])[1])


def form(name: str, content: bytes, kind: str, part: str = "file") -> tuple[bytes, str]:
    "A body and its media type, as a browser's form sends a file."
    head = f'--x\r\nContent-Disposition: form-data; name="{part}"; filename="{name}"\r\n'
    body = head.encode() + f"Content-Type: {kind}\r\n\r\n".encode() + content + b"\r\n--x--\r\n"
    return body, "multipart/form-data; boundary=x"


@pytest.mark.parametrize("path", ["/predict", "/score"])
@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_a_file_in_a_form_is_read(api, flowers, path, kind):
    buffer = io.BytesIO()
    flowers.to_parquet(buffer)
    content = {
        "csv": flowers.to_csv(index=False).encode(),
        "parquet": buffer.getvalue(),
        "json": flowers.to_json(orient="records").encode(),
    }[kind]
    said = "application/json" if kind == "json" else "application/octet-stream"
    body, header = form(f"flowers.{kind}", content, said)
    status, found, _ = post(api, path, body, header)
    assert status == 200, found
    answers = json.loads(found)
    assert len(answers if path == "/score" else answers["predictions"]) == 150


def test_a_form_without_a_file_is_told(api):
    body, header = form("a.csv", b"x", "text/csv", part="upload")
    assert post(api, "/predict", body, header)[0] == 422
    assert post(api, "/predict", b"nonsense", header)[0] in (400, 422)
    assert post(api, "/predict", b"nonsense", "multipart/form-data")[0] == 400


def test_a_small_file_of_very_many_rows_is_refused(api):
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({n: pa.array(np.zeros(12_000_000, np.int8)) for n in NAMES}), buffer)
    status, content, _ = post(api, "/predict", buffer.getvalue(), PARQUET)
    assert status == 422 and "12,000,000 rows" in json.loads(content)["got"]


def test_mlflows_own_client_works(api, trained, flowers):
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    host, port = api.removeprefix("http://").split(":")
    client = ScoringServerClient(host=host, port=int(port))
    client.wait_server_ready(timeout=10, scoring_server_proc=None)
    client.ping()  # raises where nobody answers
    assert client.get_version()
    found = client.invoke(flowers).get_predictions()
    expected = load("iris", load_settings(trained)).predict(flowers).tolist()
    assert found.iloc[:, 0].tolist() == expected


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/octet-stream",
        "application/vnd.ms-excel",
        "application/x-parquet",
    ],
)
def test_a_vague_media_type_is_what_it_begins_like(api, flowers, kind):
    buffer = io.BytesIO()
    flowers.to_parquet(buffer)
    bodies = [flowers.to_csv(index=False).encode(), buffer.getvalue()]
    for body in [*bodies, flowers.to_json(orient="records").encode()]:
        status, content, _ = post(api, "/score", body, kind)
        assert status == 200 and len(json.loads(content)) == 150


def test_curls_own_media_type_is_told_of(api):
    status, content, _ = post(api, "/predict", ROW, "application/x-www-form-urlencoded")
    assert status == 415 and "Content-Type: application/json" in json.loads(content)["todo"]


def test_mlflows_client_may_send_what_is_missing(town_project):
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient
    from town import VISIT

    frame = pd.DataFrame([VISIT, {**VISIT, "town": np.nan}])
    with running("serve", "--port", "0", "--case", "visits", cwd=town_project) as (_, (address,)):
        host, port = address.removeprefix("http://").split(":")
        found = ScoringServerClient(host, int(port)).invoke(frame).get_predictions()
    expected = load("visits", load_settings(town_project)).predict(frame)
    assert found.iloc[:, 0].tolist() == expected.tolist()


def test_infinity_is_no_number(api):
    body = json.dumps({**ROW, "petal_width": float("inf")}).encode()
    status, content, _ = post(api, "/predict", body)
    assert status == 400 and "not valid JSON" in content.decode()
