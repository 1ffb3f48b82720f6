"""The Open Inference Protocol: tensors in JSON and in binary, asked with Triton's own client and by hand."""

import json
import struct
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from conftest import running, until
from town import VISIT

from rf_mlops import load
from rf_mlops.settings import load_settings

ENDS = "Inference-Header-Content-Length"
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ROW = [5.0, 2.5, 4.0, 1.0]


@pytest.fixture(scope="module")
def api(town_project):
    "The address of a server over three cases."
    with running("serve", "--port", "0", "--case", "visits", cwd=town_project) as (_, (address,)):
        until(lambda: all(m["version"] for m in json.load(urlopen(f"{address}/models"))))  # noqa: S310
        yield address


@pytest.fixture
def triton(api):
    "Triton's client, as it comes."
    from tritonclient.http import InferenceServerClient

    client = InferenceServerClient(api.removeprefix("http://"))
    yield client
    client.close()


@pytest.fixture(scope="module")
def flowers(town_project) -> pd.DataFrame:
    "The 150 flowers."
    from sklearn.datasets import load_iris

    return pd.DataFrame(load_iris().data, columns=NAMES)


def ask(address: str, path: str, body=None, **headers: str):
    "Status, content and headers of an answer."
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    kinds = {k.replace("_", "-"): v for k, v in headers.items()}
    try:
        with urlopen(Request(f"{address}{path}", content, kinds)) as answer:  # noqa: S310
            return answer.status, answer.read(), answer.headers
    except HTTPError as error:
        return error.code, error.read(), error.headers


def table(frame: pd.DataFrame, datatype: str, binary: bool = True):
    "One tensor of whole rows, for Triton's client."
    from tritonclient.http import InferInput
    from tritonclient.utils import triton_to_np_dtype

    tensor = InferInput("rows", list(frame.shape), datatype)
    tensor.set_data_from_numpy(frame.to_numpy().astype(triton_to_np_dtype(datatype)), binary)
    return [tensor]


def columns(frame: pd.DataFrame, binary: bool = True):
    "A tensor a column, for Triton's client."
    from tritonclient.http import InferInput

    out = []
    for name in reversed(frame.columns):
        out.append(InferInput(name, [len(frame), 1], "FP64"))
        out[-1].set_data_from_numpy(frame[[name]].to_numpy(), binary)
    return out


WAYS = {
    "a table of doubles": lambda f: table(f, "FP64"),
    "a table of floats": lambda f: table(f, "FP32"),
    "a table as JSON": lambda f: table(f, "FP64", False),
    "columns": columns,
    "columns as JSON": lambda f: columns(f, False),
}


@pytest.mark.parametrize("way", WAYS)
def test_tritons_client_gets_the_same_bits(triton, town_project, flowers, way):
    model = load("iris", load_settings(town_project))
    found = triton.infer("iris", WAYS[way](flowers), request_id="mine")
    assert found.get_response()["id"] == "mine"
    assert found.as_numpy("probabilities").tobytes() == model.predict_proba(flowers).tobytes()
    labels = [name.decode() for name in found.as_numpy("prediction")]
    assert labels == model.predict(flowers).tolist()
    codes = dict(zip(model.schema.classes, model.schema.codes, strict=True))
    assert found.as_numpy("code").tolist() == [codes[name] for name in labels]


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_can_be_chosen(triton, town_project, flowers, binary):
    from tritonclient.http import InferRequestedOutput

    wanted = [InferRequestedOutput("probabilities", binary_data=binary)]
    found = triton.infer("iris", table(flowers, "FP64"), model_version="1", outputs=wanted)
    assert [o["name"] for o in found.get_response()["outputs"]] == ["probabilities"]
    expected = load("iris", load_settings(town_project)).predict_proba(flowers)
    assert found.as_numpy("probabilities").astype(np.float32).tobytes() == expected.tobytes()


def test_a_regression_answers_values(triton, town_project):
    rows = pd.DataFrame({"size": [80.5, 120.0], "rooms": [3.0, 4.0]})
    found = triton.infer("houses", table(rows, "FP64")).as_numpy("prediction")
    expected = load("houses", load_settings(town_project)).predict(rows)
    assert found.dtype == np.float32 and found.tobytes() == expected.tobytes()


def test_texts_truths_and_moments_travel(triton, town_project):
    from tritonclient.http import InferInput

    frame = pd.DataFrame([VISIT, VISIT | {"town": "Saint-Étienne", "member": False}])
    tensors = []
    for name, datatype in (
        ("town", "BYTES"),
        ("member", "BOOL"),
        ("at", "BYTES"),
        ("amount", "FP64"),
    ):
        values = frame[name].to_numpy(dtype=object if datatype == "BYTES" else None)
        tensors.append(InferInput(name, [2], datatype))
        tensors[-1].set_data_from_numpy(values)
    found = triton.infer("visits", tensors).as_numpy("probabilities")
    expected = load("visits", load_settings(town_project)).predict_proba(frame)
    assert found.tobytes() == expected.tobytes()


def test_the_server_speaks_of_itself(triton):
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready("iris") and triton.is_model_ready("iris", "1")
    assert not triton.is_model_ready("iris", "7") and not triton.is_model_ready("irsi")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    told = triton.get_model_metadata("visits")
    assert told["versions"] == ["1"]
    assert {t["name"]: t["datatype"] for t in told["inputs"]} == {
        "town": "BYTES", "member": "BOOL", "at": "BYTES", "amount": "FP64",
    }  # fmt: skip
    assert told["outputs"][-1] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}


def test_tritons_client_hears_what_is_wrong(triton, flowers):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match="no case 'irsi'"):
        triton.infer("irsi", table(flowers, "FP64"))
    with pytest.raises(InferenceServerException, match="Version 7 of 'iris' is not served"):
        triton.infer("iris", table(flowers, "FP64"), model_version="7")
    with pytest.raises(InferenceServerException, match="1 value.s. do not fit"):
        triton.infer("iris", table(pd.DataFrame([[5, 2, -4, 1.0]]), "FP64"))


def test_values_unlike_training_are_counted(api):
    tensor = {"name": "rows", "shape": [1, 4], "datatype": "FP64", "data": [5, 2.5, 4, 9]}
    status, content, _ = ask(api, "/v2/models/iris/infer", {"inputs": [tensor]})
    assert status == 200 and json.loads(content)["parameters"] == {"warnings_total": 1}


def tensor(**changes) -> dict:
    "A question of one row, changed."
    one = {"name": "rows", "shape": [1, 4], "datatype": "FP64", "data": ROW}
    return {"inputs": [{**one, **changes}]}


BINARY = {"parameters": {"binary_data_size": 32}, "data": None}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (tensor(shape=[1, 3], data=[1, 2, 3]), "Unknown tensor 'rows'"),
        (tensor(shape=[2, 4]), "8 values, as its shape says"),
        (tensor(shape=[-1, -4]), "a shape from 0"),
        (tensor(shape=[]), "shape"),
        (tensor(shape=[1, 1, 4]), "shape"),
        (tensor(datatype="FP128"), "datatype is not known"),
        (tensor(name="petal_lenght", shape=[1, 1], data=[1]), "did you mean 'petal_length'"),
        (tensor(name="petal_length", shape=[1, 2], data=[1, 2]), "too wide"),
        (tensor(name="petal_length", shape=[1], data=[1]), "No column 'sepal_length'"),
        (tensor(data=["a", 1, 1, 1]), "values of FP64"),
        (tensor(data=[[[5]], 1, 1, 1]), "a list of 4 values"),
        (tensor(data=[-5, 1, 1, 1]), "do not fit"),
        (tensor(shape=[2, 4], data=[[5, 2]] * 4), "a list of 4 values"),
        (tensor(datatype="INT64", data=[5.5, 1, 1, 1]), "values of INT64"),
        (tensor(datatype="BOOL", data=[1, 1, 1, 1]), "values of BOOL"),
        (tensor(parameters={"binary_data_size": 32}), "values twice"),
        (tensor(**BINARY), "of 0 bytes that are left"),
        (tensor(parameters={"binary_data_size": -1}, data=None), "bytes that are left"),
        (tensor(parameters={"binary_data_size": "many"}, data=None), "bytes that are left"),
        ({**tensor(), "outputs": [{"name": "code"}] * 2}, "asked for twice"),
        ({"inputs": tensor()["inputs"] * 2}, "there twice"),
        ({"inputs": []}, "inputs"),
        ({}, "inputs"),
        (b"[1, 2]", "no inference request"),
        (b"{", "not valid JSON"),
        (b"", "empty"),
        ({**tensor(), "outputs": [{"name": "probability"}]}, "did you mean 'probabilities'"),
    ],
)
def test_a_wrong_question_is_told(api, body, told):
    status, content, headers = ask(api, "/v2/models/iris/infer", body)
    document = json.loads(content)
    assert status in (400, 422) and headers["Content-Type"] == "application/problem+json"
    assert told in json.dumps(document, ensure_ascii=False)
    assert document["error"].startswith(document["detail"]), "where the protocol's clients look"
    assert told in document["error"], "all of it"


@pytest.mark.parametrize("ends", ["-5", "ten", "99999", "1e3", "9" * 30])
def test_a_wrong_end_of_the_json_is_told(api, ends):
    headers = {ENDS.replace("-", "_"): ends}
    assert ask(api, "/v2/models/iris/infer", tensor(), **headers)[0] == 422


@pytest.mark.parametrize(
    "blob", [b"", b"\1", struct.pack("<I", 9) + b"abc", struct.pack("<I", 2**32 - 1) + b"a", struct.pack("<I", 1) + b"\xff", struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b"]
)  # fmt: skip
def test_damaged_texts_are_told(api, blob):
    size = {"parameters": {"binary_data_size": len(blob)}}
    one = {"name": "town", "shape": [1], "datatype": "BYTES", **size}
    head = json.dumps({"inputs": [one]}).encode()
    headers = {ENDS.replace("-", "_"): str(len(head))}
    status, content, _ = ask(api, "/v2/models/visits/infer", head + blob, **headers)
    assert status == 422 and "cannot be read" in content.decode()


def test_deeply_nested_data_are_told(api):
    deep = "[" * 1000 + "]" * 1000
    body = json.dumps(tensor(shape=[1000, 4], data=["DEEP"] + [0] * 3999)).replace('"DEEP"', deep)
    status, content, _ = ask(api, "/v2/models/iris/infer", body.encode())
    assert status == 422 and b"a list of 4 values" in content


def test_nothing_may_be_said_by_null(api):
    body = {**tensor(parameters=None), "parameters": None, "outputs": None, "id": None}
    assert ask(api, "/v2/models/iris/infer", body)[0] == 200


def test_bytes_too_many_are_told(api):
    one = {
        "name": "rows",
        "shape": [1, 4],
        "datatype": "FP64",
        "parameters": {"binary_data_size": 32},
    }
    head = json.dumps({"inputs": [one]}).encode()
    headers = {ENDS.replace("-", "_"): str(len(head))}
    blob = np.array(ROW).tobytes()
    assert ask(api, "/v2/models/iris/infer", head + blob, **headers)[0] == 200
    status, content, _ = ask(api, "/v2/models/iris/infer", head + blob + b"more", **headers)
    assert status == 422 and json.loads(content)["got"] == "4 bytes"
    status, content, _ = ask(api, "/v2/models/iris/infer", head + blob[:-4], **headers)
    document = json.loads(content)
    assert "binary_data_size: 32, of 28 bytes that are left" in document["expected"]


def test_no_rows_are_answered_with_none(api):
    none = {"name": "rows", "shape": [0, 4], "datatype": "FP64", "data": []}
    status, content, _ = ask(api, "/v2/models/iris/infer", {"inputs": [none]})
    assert status == 200
    assert {o["name"]: o["shape"] for o in json.loads(content)["outputs"]} == {
        "prediction": [0], "code": [0], "probabilities": [0, 3],
    }  # fmt: skip
