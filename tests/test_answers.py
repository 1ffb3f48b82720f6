"""Answers: long ones sent while they are written, rows under their own names, thresholds, feedback, and the limits."""

import io
import json
from http.client import HTTPConnection

import httpx
import numpy as np
import pandas as pd
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from conftest import running, until
from town import VISIT

from rf_mlops import load
from rf_mlops.feedback import kept
from rf_mlops.settings import load_settings

CSV, PARQUET, JSON = "text/csv", "application/vnd.apache.parquet", "application/json"
MANY = 150_001  # rows: more than two parts, and one over


@pytest.fixture(scope="module")
def api(town_project):
    "A client of a server over three cases, of which `visits` stands at the root."
    with (
        running("serve", "--port", "0", "--case", "visits", cwd=town_project) as (_, (address,)),
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        until(lambda: all(m["version"] for m in client.get("/models").json()))
        yield client


@pytest.fixture(scope="module")
def houses() -> pd.DataFrame:
    "A great many houses."
    draw = np.random.default_rng(3)
    return pd.DataFrame({"size": draw.uniform(20, 200, MANY), "rooms": draw.integers(1, 8, MANY)})


@pytest.fixture(scope="module")
def values(town_project, houses) -> np.ndarray:
    "What the notebook says of them."
    return load("houses", load_settings(town_project)).predict(houses)


def exactly(file: io.BytesIO) -> pd.DataFrame:
    "A CSV file, each number to its last bit, which not every pandas reads by default."
    return pacsv.read_csv(file).to_pandas()


# --- many rows ------------------------------------------------------------------------------------


def sent(api, path, content, kind, accept):
    "A table's answer, which has to be complete."
    headers = {"Content-Type": kind, "Accept": accept}
    answer = api.post(path, content=content, headers=headers)
    assert answer.status_code == 200, answer.text[:500]
    assert answer.headers["X-Rows"] == str(MANY)
    assert answer.headers["Transfer-Encoding"] == "chunked", "it is sent while it is written"
    return answer.content


def test_a_long_list_is_complete(api, houses, values):
    body = houses.to_csv(index=False).encode()
    found = json.loads(sent(api, "/models/houses/score", body, CSV, "*/*"))
    assert np.array(found, dtype=np.float32).tobytes() == values.tobytes()


def test_a_long_json_answer_is_complete(api, houses, values):
    body = houses.to_json(orient="split", index=False, double_precision=15).encode()
    rows = pd.DataFrame(json.loads(body)["data"], columns=["size", "rooms"])
    found = json.loads(sent(api, "/models/houses/predict", body, JSON, JSON))
    assert len(found["predictions"]) == MANY and rows.shape == houses.shape
    assert np.abs(np.array(found["predictions"]) - values).max() < 1e-3


@pytest.mark.parametrize("accept", [CSV, PARQUET])
@pytest.mark.parametrize("join", [True, False])
def test_a_long_file_is_complete(api, houses, values, accept, join):
    buffer = io.BytesIO()
    houses.to_parquet(buffer)
    path = f"/models/houses/predict?join={join}"
    content = sent(api, path, buffer.getvalue(), PARQUET, accept)
    found = (exactly if accept == CSV else pd.read_parquet)(io.BytesIO(content))
    assert found["prediction"].to_numpy(np.float32).tobytes() == values.tobytes()
    assert ("size" in found) == join
    if join:
        assert found["size"].astype(float).tolist() == houses["size"].tolist()


def test_a_long_parquet_answer_is_one_file_of_parts(api, houses):
    body = houses.to_csv(index=False).encode()
    content = sent(api, "/models/houses/predict", body, CSV, PARQUET)
    assert pq.ParquetFile(io.BytesIO(content)).num_row_groups == 3


@pytest.mark.parametrize("bad", [0, 65_535, 65_536, MANY - 1])
def test_a_bad_row_far_down_is_found_before_anything_is_sent(api, houses, bad):
    body = houses.to_csv(index=False).splitlines()
    body[bad + 1] = "huge,3"
    content = "\n".join(body).encode()
    answer = api.post("/models/houses/predict", content=content, headers={"Content-Type": CSV})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"row": bad + 1, "column": "size", "expected": "a number, not empty", "got": "'huge'"}
    ]
    path = "/models/houses/predict?on_error=quarantine"
    headers = {"Content-Type": CSV, "Accept": CSV}
    answer = api.post(path, content=content, headers=headers)
    assert answer.headers["X-Rows-Failed"] == "1"
    found = pd.read_csv(io.BytesIO(answer.content))
    assert found.index[found["prediction"].isna()].tolist() == [bad]
    assert found.index[found["error"].notna()].tolist() == [bad] and len(found) == MANY


def test_a_client_that_leaves_in_the_middle_takes_nothing_with_it(api, houses):
    body = houses.to_csv(index=False).encode()
    for _ in range(3):
        url = httpx.URL(api.base_url)
        connection = HTTPConnection(url.host, url.port)
        connection.request("POST", "/models/houses/predict", body, {"Content-Type": CSV})
        assert connection.getresponse().read(100)
        connection.close()
    assert api.get("/models/houses/ready").status_code == 200


# --- rows under their own names --------------------------------------------------------------------

NAMED = [{"ticket": "0071", **VISIT}, {"ticket": "0072", **VISIT, "amount": 2.0}]


def test_rows_keep_their_names_in_json(api):
    assert api.post("/predict", json=NAMED).json()["ids"] == {"ticket": ["0071", "0072"]}
    assert "ids" not in api.post("/predict", json=[VISIT]).json(), "nobody has to name his rows"
    assert (
        api.post("/score", json=NAMED).json() == api.post("/score", json=[VISIT, NAMED[1]]).json()
    )


@pytest.mark.parametrize("kind", [CSV, PARQUET])
@pytest.mark.parametrize("accept", [CSV, PARQUET])
def test_rows_keep_their_names_in_files(api, kind, accept):
    frame, buffer = pd.DataFrame(NAMED)[[*VISIT, "ticket"]], io.BytesIO()
    frame.to_csv(buffer, index=False) if kind == CSV else frame.to_parquet(buffer)
    headers = {"Content-Type": kind, "Accept": accept}
    content = api.post("/predict", content=buffer.getvalue(), headers=headers).content
    read = pd.read_parquet if accept == PARQUET else lambda c: pd.read_csv(c, dtype=str)
    found = read(io.BytesIO(content))
    assert found.columns.tolist() == ["ticket", "prediction"]
    assert found["ticket"].tolist() == ["0071", "0072"], "as they came, zeros and all"


def test_a_name_is_no_feature(api):
    assert "ticket" not in [c["name"] for c in api.get("/schema").json()["columns"]]
    assert api.get("/score", params=NAMED[0]).json() == api.get("/score", params=VISIT).json()
    wrong = api.post("/predict", json={"ticket": ["1", "2"], **{k: [v] for k, v in VISIT.items()}})
    assert wrong.status_code == 422 and "equally long" in wrong.text


# --- a threshold ----------------------------------------------------------------------------------


def test_a_threshold_decides(api):
    rows = [{**VISIT, "amount": float(a)} for a in range(0, 100, 5)]
    asked = api.post("/predict?proba=true", json=rows).json()
    sure = asked["probabilities"]["yes"]
    for threshold in (0, 0.2, sure[10], 0.9, 1):
        found = api.post(f"/predict?threshold={threshold!r}", json=rows).json()["predictions"]
        assert found == ["yes" if p >= threshold else "no" for p in sure]
    assert len(set(sure)) > 3, "or nothing was decided"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/predict?threshold=1.5", "less than or equal to 1"),
        ("/predict?threshold=nan", "threshold"),
        ("/predict?threshold=high", "valid number"),
        ("/models/iris/predict?threshold=0.5", "two classes"),
        ("/models/houses/predict?threshold=0.5", "two classes"),
    ],
)
def test_a_wrong_threshold_is_told(api, path, told):
    answer = api.post(path, json=[VISIT])
    assert answer.status_code == 422 and told in answer.text


# --- feedback -------------------------------------------------------------------------------------


def test_feedback_is_kept(api, town_project):
    asked = api.post("/predict", json=[VISIT])
    name = asked.headers["X-Request-Id"]
    for said in ({"wrong": True}, {"label": "yes"}, {"label": 0}):
        answer = api.post("/feedback", json={"request_id": name, **said})
        assert answer.status_code == 201
    assert answer.json()["label"] == "no", "a code is a class"
    answer = api.post("/models/houses/feedback", json={"request_id": name, "row": 7, "label": 12.5})
    assert answer.json()["label"] == "12.5"
    folder = town_project / "mlruns"
    mine = [f for f in kept(folder, "visits") if f["request_id"] == name]
    assert [(f["row"], f["label"], f["wrong"]) for f in mine] == [(1, "no", False)]
    assert [f["row"] for f in kept(folder, "houses") if f["request_id"] == name] == [7]


@pytest.mark.parametrize(
    ("said", "status", "told"),
    [
        ({"request_id": "a", "label": "maybe"}, 422, "no such class"),
        ({"request_id": "a", "label": "yess"}, 422, "did you mean 'yes'"),
        ({"request_id": "a"}, 422, "either a label"),
        ({"request_id": "a", "label": "yes", "wrong": True}, 422, "either a label"),
        ({"request_id": "a", "wrong": False}, 422, "wrong"),
        ({"request_id": "a b", "wrong": True}, 422, "request_id"),
        ({"request_id": "a", "wrong": True, "row": 0}, 422, "row"),
        ({"request_id": "a", "wrong": True, "rwo": 1}, 422, "did you mean 'row'"),
        ({"label": "yes"}, 422, "request_id"),
        ([1], 422, "no feedback"),
        (None, 400, "empty"),
        ({"request_id": "a", "label": "x" * 70_000}, 413, "64 KB"),
    ],
)
def test_wrong_feedback_is_told(api, said, status, told):
    answer = api.post("/feedback", json=said)
    assert answer.status_code == status and told in answer.text


def test_a_value_for_a_regression_is_a_number(api):
    for label in ("dear", "nan", "inf"):
        said = {"request_id": "a", "label": label}
        assert api.post("/models/houses/feedback", json=said).status_code == 422


def test_another_sites_page_says_nothing(api):
    said = {"request_id": "foreign", "wrong": True}
    answer = api.post("/feedback", json=said, headers={"Origin": "https://example.org"})
    assert answer.status_code == 403 and "Another site" in answer.text
    own = str(api.base_url).rstrip("/")
    assert api.post("/feedback", json=said, headers={"Origin": own}).status_code == 201


# --- limits ---------------------------------------------------------------------------------------

LONG = "x" * 10_001


@pytest.mark.parametrize(
    ("content", "kind", "status", "told"),
    [
        (b"size,rooms\n" + b"1" * 1001 + b",3\n", CSV, 422, "at most 1,000 digits"),
        (b'[{"size": ' + b"1" * 1001 + b', "rooms": 3}]', JSON, 422, "at most 1,000 digits"),
        (b'[{"size": 1e' + b"1" * 1001 + b', "rooms": 3}]', JSON, 422, "at most 1,000 digits"),
        (b'[{"size": 0.' + b"1" * 600_000 + b', "rooms": 3}]', JSON, 422, "600,000 digits"),
        (b"[" * 1100 + b"]" * 1100, JSON, 400, "at most 1,024 levels"),
        (b'[{"size": ' + b"[" * 1000 + b"]" * 1000 + b', "rooms": 3}]', JSON, 422, "do not fit"),
        (b'[{"size": 1, "rooms": 3}, ' + b"[" * 1000 + b"]" * 1001, JSON, 422, "no record"),
        (f'[{{"size": "{LONG}", "rooms": 3}}]'.encode(), JSON, 422, "at most 10,000 characters"),
        (f"size,rooms\n{LONG},3\n".encode(), CSV, 422, "at most 10,000 characters"),
        (b"a," * 10_001 + b"size\n", CSV, 422, "too wide"),
        (b'{"size": ' + b"1" * 1000 + b', "rooms": 3}', JSON, 400, "number is infinity"),
        (b"size,rooms\n1,3\n" + b"," * 20_000_000, CSV, 422, "cannot be read"),
    ],
    ids=range(12),
)
def test_every_limit_is_told(api, content, kind, status, told):
    answer = api.post("/models/houses/predict", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status and told in answer.text, answer.text[:300]


def test_so_many_digits_are_still_a_number(api):
    row = b'[{"size": 80.' + b"3" * 900 + b', "rooms": 3}]'
    answer = api.post("/models/houses/predict", content=row, headers={"Content-Type": JSON})
    assert answer.status_code == 200


def test_a_query_has_its_limits_too(api):
    answer = api.get("/models/houses/score", params={"size": "1" * 1001, "rooms": 3})
    assert answer.status_code == 422 and "at most 1,000 digits" in answer.text


def test_too_many_rows_are_told(api):
    content = b"size,rooms\n" + b"1,1\n" * 10_000_001
    answer = api.post("/models/houses/score", content=content, headers={"Content-Type": CSV})
    assert answer.status_code == 422 and "at most 10,000,000 rows" in answer.text


# --- what an answer is made of ------------------------------------------------------------------------


def made_of(document: dict, output: str) -> np.ndarray:
    "The sum of an output's parts, one a row."
    part = document["contributions"]["outputs"][output]
    return part["base"] + np.sum(list(part["columns"].values()), axis=0)


def test_a_forests_parts_add_up_to_its_probabilities(api):
    rows = [{**VISIT, "town": town} for town in ("New York", "Nowhere", None)]
    found = api.post("/predict?proba=true&explain=true", json=rows).json()
    assert found["contributions"]["unit"] == "probability"
    for name, sure in found["probabilities"].items():
        assert np.abs(made_of(found, name) - sure).max() < 1e-6
        columns = found["contributions"]["outputs"][name]["columns"]
        assert list(columns) == ["town", "member", "amount", "at"], "by the columns that came"
    yes = found["contributions"]["outputs"]["yes"]["columns"]
    assert abs(yes["amount"][0]) > abs(yes["at"][0]), "a large amount decides, the hour does not"


def test_a_linear_models_parts_add_up_to_its_value(api):
    rows = [{"size": 80.5, "rooms": 3}, {"size": 30, "rooms": 7}]
    found = api.post("/models/houses/predict?explain=true", json=rows).json()
    assert found["contributions"]["unit"] == "value"
    values = np.array(found["predictions"])
    assert np.abs(made_of(found, "prediction") / values - 1).max() < 1e-5


def test_parts_are_the_same_by_every_way(api):
    frame = pd.DataFrame([VISIT, {**VISIT, "amount": 3.5}])
    whole = api.post("/predict?explain=true", json=frame.to_dict("records")).json()
    content = frame.to_csv(index=False)
    for accept, read in ((CSV, exactly), (PARQUET, pd.read_parquet)):
        headers = {"Content-Type": CSV, "Accept": accept}
        table = read(
            io.BytesIO(api.post("/predict?explain=true", content=content, headers=headers).content)
        )
        for name, output in whole["contributions"]["outputs"].items():
            assert table[f"contribution_{name}_base"].tolist() == [output["base"]] * 2
            for column, values in output["columns"].items():
                assert table[f"contribution_{name}_{column}"].tolist() == values


def test_a_row_without_an_answer_has_no_parts(api):
    rows = [VISIT, {**VISIT, "amount": "much"}]
    found = api.post("/predict?explain=true&on_error=quarantine", json=rows).json()
    values = found["contributions"]["outputs"]["yes"]["columns"]["amount"]
    assert values[1] is None and abs(values[0]) > 0


def test_very_many_rows_are_not_taken_apart_at_once(api):
    flower = "sepal_length,sepal_width,petal_length,petal_width\n"
    content = flower + "5.0,2.5,4.0,1.0\n" * 1_500_000
    answer = api.post(
        "/models/iris/predict?explain=true", content=content, headers={"Content-Type": CSV}
    )
    assert answer.status_code == 422 and "not taken apart at once" in answer.text
    assert "of this model" in answer.json()["expected"]


def test_a_model_without_parts_says_so(town_project, tmp_path):
    "A bundle from before there were parts, in this process."
    import dataclasses

    from starlette.testclient import TestClient

    from rf_mlops.house import open_house
    from rf_mlops.predictor import Predictor
    from rf_mlops.serve import make_app

    house = open_house(load_settings(town_project), "visits")
    old = house.follower().predictor
    bundle = dataclasses.replace(old.bundle, explain=b"", busy=())
    house.follower().predictor = Predictor(bundle, old.version)
    answer = TestClient(make_app(house)).post("/predict?explain=true", json=[VISIT])
    assert answer.status_code == 501 and "did not do so" in answer.json()["got"]


# --- slips that would be answered wrongly ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["twn", "Town", "towm"])
def test_a_misspelt_column_is_not_taken_for_a_missing_one(api, name):
    "`town` may be left out, but not by a slip of the finger."
    row = {**{k: v for k, v in VISIT.items() if k != "town"}, name: "New York"}
    body = pd.DataFrame([row]).to_csv(index=False)
    for content, kind in ((body, CSV), (json.dumps({k: [v] for k, v in row.items()}), JSON)):
        answer = api.post("/predict", content=content, headers={"Content-Type": kind})
        assert answer.status_code == 422 and answer.json()["todo"] == f"rename '{name}' to 'town'"
    without = pd.DataFrame([row]).rename(columns={name: "weather"}).to_csv(index=False)
    answer = api.post("/predict", content=without, headers={"Content-Type": CSV})
    assert answer.status_code == 200, "a column of another name is nobody's"


def test_each_column_is_meant_once(api):
    row = {k.title(): v for k, v in VISIT.items()}
    content = pd.DataFrame([row]).to_csv(index=False)
    answer = api.post("/predict", content=content, headers={"Content-Type": CSV})
    for name in ("member", "at", "amount"):
        assert f"rename '{name.title()}' to '{name}'" in answer.json()["todo"]
    assert answer.json()["todo"].count("rename") == 3


def test_numbers_of_two_meanings_are_told_so(api):
    content = "size;rooms\n1,125;3\n2,250;4\n"
    answer = api.post("/models/houses/predict", content=content, headers={"Content-Type": CSV})
    assert answer.status_code == 422 and "decimals or thousands" in answer.json()["todo"]


def test_a_row_of_another_length_is_found(api):
    body = ["size,rooms", *["80.5,3"] * 200_000]
    body[150_000] = "80.5,3,1"
    content = "\n".join(body)
    answer = api.post("/models/houses/predict", content=content, headers={"Content-Type": CSV})
    told = answer.json()
    assert answer.status_code == 422 and told["where"] == "line 150001 of the file"
    assert told["expected"] == "2 cells, as the header has" and told["got"] == "3 cells: 80.5,3,1"


def test_excels_own_nothing_is_nothing(api):
    rows = pd.DataFrame([VISIT, {**VISIT, "town": None}])
    content = rows.to_csv(index=False, na_rep="#N/A")
    answer = api.post("/predict?proba=true", content=content, headers={"Content-Type": CSV})
    assert (
        answer.json()["probabilities"]
        == api.post("/predict?proba=true", json=[VISIT, {**VISIT, "town": None}]).json()[
            "probabilities"
        ]
    )


def test_warnings_stand_in_files_too(api):
    content = "size,rooms\n80.5,3\n900,3\n"
    headers = {"Content-Type": CSV, "Accept": CSV}
    answer = api.post("/models/houses/predict", content=content, headers=headers)
    found = pd.read_csv(io.BytesIO(answer.content))
    assert answer.headers["X-Warnings"] == "1" and found["warning"].isna().tolist() == [True, False]
    assert "size: expected as training saw" in found["warning"][1]


# --- answers that are none, and values as large as can be ------------------------------------------------

HUGE = {"size": 3e38, "rooms": 3}


def test_a_row_without_a_finite_answer_is_not_answered(api):
    answer = api.post("/models/houses/predict", json=[HUGE])
    assert answer.status_code == 422 and "no finite answer" in answer.json()["errors"][0]["got"]
    rows = [{"size": 80.5, "rooms": 3}, HUGE, {"size": 30, "rooms": 2}]
    answer = api.post("/models/houses/predict?on_error=quarantine&explain=true", json=rows)
    found = answer.json()
    assert answer.headers["X-Rows-Failed"] == "1" and found["errors"][0]["row"] == 2
    assert [p is None for p in found["predictions"]] == [False, True, False]
    size = found["contributions"]["outputs"]["prediction"]["columns"]["size"]
    assert size[1] is None and None not in (size[0], size[2])
    headers = {"Accept": CSV}
    content = api.post(
        "/models/houses/predict?on_error=quarantine", json=rows, headers=headers
    ).content
    assert pd.read_csv(io.BytesIO(content))["prediction"].isna().tolist() == [False, True, False]
    tensor = {"name": "rows", "shape": [1, 2], "datatype": "FP64", "data": [3e38, 3]}
    assert api.post("/v2/models/houses/infer", json={"inputs": [tensor]}).status_code == 422


def test_an_outlier_does_not_hide_what_others_are_made_of(api):
    rows = [{"size": 1e12, "rooms": 3}] + [{"size": 50 + i / 100, "rooms": 3} for i in range(3000)]
    answer = api.post("/models/houses/predict?explain=true", json=rows)
    size = answer.json()["contributions"]["outputs"]["prediction"]["columns"]["size"]
    assert answer.status_code == 200 and None not in size


def test_a_row_in_quarantine_is_not_warned_of(api):
    rows = [{"size": 900, "rooms": -3e39}, {"size": 901, "rooms": 3}]
    found = api.post("/models/houses/predict?on_error=quarantine", json=rows).json()
    assert [e["row"] for e in found["errors"]] == [1]
    assert [w["row"] for w in found["warnings"]] == [2] and found["warnings_total"] == 1


@pytest.mark.parametrize("name", [[1], {"a": 1}, 123456789012345678901, [[[]]]])
def test_a_name_comes_back_as_it_is_or_not_at_all(api, name):
    answer = api.post("/predict", json=[{"ticket": name, **VISIT}])
    assert answer.status_code == 422 and "id cannot come back" in answer.text


def test_names_of_every_kind_come_back(api):
    names = ["a", 7, 2.5, None, True, 2**53]
    rows = [{"ticket": name, **VISIT} for name in names]
    assert api.post("/predict", json=rows).json()["ids"]["ticket"] == names


def test_the_target_is_joined_by_every_way(api):
    row = {"size": 80.5, "rooms": 3, "price": 290.0}
    for body in ({"json": [row]}, {"content": pd.DataFrame([row]).to_csv(index=False)}):
        content = api.post(
            "/models/houses/predict?join=true", headers={"Accept": CSV}, **body
        ).content
        found = pd.read_csv(io.BytesIO(content))
        assert {"size", "rooms", "price", "prediction"} == set(found) and found["price"][0] == 290


@pytest.mark.parametrize("origin", ["http://[::1", "null", "https://", "http://127.0.0.1"])
def test_a_broken_origin_is_foreign(api, origin):
    said = {"request_id": "foreign", "wrong": True}
    assert api.post("/feedback", json=said, headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize(
    "content",
    [
        b'[{"\\ud800": NaN}]',
        b'[{"ticket": "\\ud800", "amount": NaN}]',
        b'[{"amount": -Infinity, "town": NaN}]',
        b'[{"amount": NaN, "ticket": ' + b"1" * 400 + b"}]",
        b"[NaN" + b"[" * 5000,
        b"[NaN, " + b"[" * 900 + b"]" * 900 + b"]",
    ],
    ids=range(6),
)
@pytest.mark.parametrize(
    "path", ["/predict", "/predict?on_error=quarantine", "/feedback", "/v2/models/visits/infer"]
)
def test_what_python_writes_is_read_no_further_than_json(api, content, path):
    assert api.post(path, content=content, headers={"Content-Type": JSON}).status_code in (400, 422)


def test_feedback_that_cannot_be_kept_is_told(town_project, monkeypatch):
    "A database that somebody else holds, in this process."
    import sqlite3

    from starlette.testclient import TestClient

    from rf_mlops import feedback
    from rf_mlops.house import open_house
    from rf_mlops.serve import make_app

    monkeypatch.setattr(feedback, "BUSY", 0.1)
    said = {"request_id": "held", "wrong": True}
    client = TestClient(make_app(open_house(load_settings(town_project), "visits")))
    assert client.post("/feedback", json=said).status_code == 201
    holder = sqlite3.connect(town_project / "mlruns" / "feedback.db", isolation_level=None)
    holder.execute("begin exclusive")
    answer = client.post("/feedback", json=said)
    holder.execute("rollback")
    holder.close()
    assert answer.status_code == 503 and str(town_project) not in answer.text
    assert client.post("/feedback", json=said).status_code == 201
