"""The API does what its OpenAPI document says, whatever comes: thousands of right and wrong requests made from it."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from urllib.request import urlopen

from conftest import running, until

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def made(address: str, folder: Path) -> int:
    "How many requests were made from the document at this address; each was answered as it says."
    script = Path(sysconfig.get_path("scripts")) / "schemathesis"
    how = ["--max-examples", "100", "--generation-deterministic", "--continue-on-failure"]
    how += ["--no-color", "--checks", ",".join(CHECKS)]
    command = [str(script), "run", address, *how]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found and found[1] == found[2], done.stdout[-2000:]
    return int(found[1])


def test_the_api_answers_as_it_is_described(town_project, tmp_path):
    with running("serve", "--port", "0", "--case", "visits", cwd=town_project) as (_, (address,)):
        until(lambda: all(m["version"] for m in json.load(urlopen(f"{address}/models"))))  # noqa: S310
        places = ("", "/models/iris", "/models/houses")
        requests = [made(f"{address}{place}/openapi.json", tmp_path) for place in places]
        assert sum(requests) >= 2000
