"""How much a server carries: large tables in one request, beside MLflow's server: time and memory.

    python bench/serving.py [--runs 7] [--project FOLDER]

10,000 rows as JSON and as CSV go to `rf-mlops serve` and to two `mlflow models serve`, one worker each:
the champion's forest as scikit-learn's pipeline, in the format people log it in, which is what the
limits are about; and the champion's own ONNX graph, a second peer without a limit. Each body is the same
for all, asked for in turn over one kept connection, answered as JSON; their labels must agree. Then
Parquet beside our own CSV, and 1,000,000 rows of CSV (half as many runs): seconds, and our server's peak
resident memory above idle, the largest of all runs; idle is after one small upload. Answers are read and
thrown away. Without --project an iris champion is trained first. Never a test: it only prints.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from common import Row, a_project, limited, megabytes, options, print_rows, reached
from servers import (
    CSV,
    JSON,
    PARQUET,
    Question,
    Server,
    ask,
    ask_in_turn,
    asked,
    mlflows,
    ours,
    save_models,
)

if TYPE_CHECKING:
    from pandas import DataFrame

THOUSANDS, MILLION = 10_000, 1_000_000


def flowers(rows: int) -> "DataFrame":
    "So many flowers: irises drawn at random, each measured anew to a tenth of a centimetre."
    import numpy as np

    from rf_mlops.data import ingest
    from rf_mlops.settings import load_case, load_settings

    found = ingest(load_case("iris"), load_settings())
    frame = found.frame[found.schema.names].sample(rows, replace=True, random_state=0)
    noise = np.random.default_rng(0).normal(0, 0.1, frame.shape)
    return (frame + noise).clip(0.1, 20).round(1).reset_index(drop=True)


def as_csv(frame: "DataFrame") -> bytes:
    "A CSV file."
    return frame.to_csv(index=False).encode()


def as_parquet(frame: "DataFrame") -> bytes:
    "A Parquet file."
    out = BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()


def as_json(frame: "DataFrame", shape: str) -> bytes:
    "JSON in one of MLflow's shapes, which both servers read."
    return json.dumps({f"dataframe_{shape}": frame.to_dict(shape, index=shape != "split")}).encode()


def labels(server: Server, question: Question) -> list[str]:
    "What a server predicts, by name: MLflow's answer with the numbers of the classes."
    from rf_mlops import load

    names = dict(enumerate(load("iris@champion").schema.classes))
    server.line.close()
    found = json.loads(asked(server, question).read())["predictions"]
    plain = (next(iter(f.values())) if isinstance(f, dict) else f for f in found)
    return [names.get(value, value) for value in plain]


def check(servers: list[Server], question: Question) -> None:
    "Stops where two servers predict differently."
    first, *others = ((s.name, labels(s, question)) for s in servers)
    for name, found in others:
        if wrong := sum(a != b for a, b in zip(first[1], found, strict=True)):
            raise SystemExit(f"{name} answers {wrong} rows otherwise than {first[0]}")


def beside_peers(
    runs: int, servers: list[Server], what: str, question: Question, least: float
) -> Iterator[Row]:
    "One body, all servers; the limit is the first peer's."
    check(servers, question)
    own, *others = ask_in_turn(runs, *((server, question) for server in servers))
    yield f"{what}: ours", own * 1000, "ms", f"{THOUSANDS / own:,.0f} rows/s", ""
    for server, took, limit in zip(servers[1:], others, (least, None), strict=True):
        ratio = took / own
        beside = f"{THOUSANDS / took:,.0f} rows/s; ours {ratio:.2f} ×"
        yield f"… {server.name}", took * 1000, "ms", beside, reached(ratio, "×", limit)


def tables(runs: int, servers: list[Server], frame: "DataFrame") -> Iterator[Row]:
    "10,000 rows beside MLflow's server."
    for shape in ("split", "records"):
        question = Question(as_json(frame, shape), JSON)
        yield from beside_peers(runs, servers, f"10,000 rows, JSON {shape}", question, 1.7)
    yield from beside_peers(runs, servers, "10,000 rows, CSV", Question(as_csv(frame), CSV), 1.3)


def parquet(runs: int, server: Server, frame: "DataFrame") -> Iterator[Row]:
    "Parquet beside our own CSV, both answered as CSV."
    first, second = Question(as_csv(frame), CSV, CSV), Question(as_parquet(frame), PARQUET, CSV)
    ask(server, second)  # imports the reader
    took, other = ask_in_turn(runs, (server, first), (server, second))
    rows = len(frame)
    yield f"{rows:,} rows, CSV → CSV", took * 1000, "ms", f"{rows / took:,.0f} rows/s", ""
    beside = f"{rows / other:,.0f} rows/s; {took / other:.2f} × CSV"
    yield "… Parquet → CSV", other * 1000, "ms", beside, ""


def million(
    runs: int, frame: "DataFrame", what: str, question: Question, limit: float | None
) -> Iterator[Row]:
    "Seconds of a large upload and the peak of memory above idle, on a server of its own."
    with ours() as server:
        ask(server, Question(as_csv(frame[:150]), CSV, question.accept, question.query))
        idle = megabytes(server.pid)
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak begins anew
        (took,) = ask_in_turn(runs, (server, question))
        peak = megabytes(server.pid, "VmHWM") - idle
    yield f"1,000,000 rows, {what}", took, "s", f"{len(frame) / took:,.0f} rows/s", ""
    yield (
        "… peak of memory above idle",
        peak,
        "MB",
        f"idle: {idle:.0f} MB",
        limited(peak, "MB", limit),
    )


def millions(runs: int, frame: "DataFrame") -> Iterator[Row]:
    "1,000,000 rows of CSV, answered in three ways."
    body = as_csv(frame)
    joined = Question(body, CSV, CSV, "?join=true")
    yield from million(runs, frame, "CSV → CSV", Question(body, CSV, CSV), 200)
    yield from million(runs, frame, "CSV → CSV, joined", joined, None)
    yield from million(runs, frame, "CSV → JSON", Question(body, CSV), None)


def measured(runs: int, folder: Path) -> Iterator[Row]:
    "Rows of the table, section by section."
    few, many, rarely = flowers(THOUSANDS), flowers(MILLION), max(1, runs // 2)
    with ExitStack() as stack:
        server = stack.enter_context(ours())
        models = save_models(folder, few)
        peers = [stack.enter_context(mlflows(*model)) for model in models.items()]
        yield from tables(runs, [server, *peers], few)
    with ours() as server:
        yield from parquet(runs, server, few)
        yield from parquet(rarely, server, many)
    yield from millions(rarely, many)


def main() -> None:
    "Measure and print."
    chosen = options(__doc__ or "", 7)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with a_project(chosen.project), TemporaryDirectory() as folder:
        rows = list(measured(chosen.runs, Path(folder)))
    print_rows(
        rows, f"Medians of {chosen.runs}, in turn; of a million rows {max(1, chosen.runs // 2)}."
    )


if __name__ == "__main__":
    main()
