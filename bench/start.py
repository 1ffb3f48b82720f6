"""How soon the package is there: imports, the command line, a model in a fresh process, and one answer.

    python bench/start.py [--runs 9] [--project FOLDER]

Everything is measured in one run, each pair in turn, and given as a median beside what it is compared
with, so that a slow machine slows both. Needs a trained champion of iris: without --project one is
trained in a temporary folder first. Never a test: it only prints.
"""

import sys

from common import SCRIPT, a_project, in_turn, limited, options, print_rows, process

LOAD = "from rf_mlops import load; load('iris@champion')"
ANSWER = LOAD + ".predict([[5.1, 3.5, 1.4, 0.2]])"


def lone_answers(runs: int) -> tuple[float, float]:
    "Seconds for one row's probabilities: ours and scikit-learn's own pipeline, fitted on the same rows."
    from rf_mlops import load
    from rf_mlops.data import ingest
    from rf_mlops.settings import load_case, load_settings
    from rf_mlops.train import train

    model, case = load("iris@champion"), load_case("iris")
    rows = ingest(case, load_settings())
    pipeline = train(case, rows.schema, rows.frame).pipeline
    frame = rows.frame[rows.schema.names].iloc[:1]
    record = frame.to_dict("records")[0]
    theirs, ours = in_turn(
        50 * runs, lambda: pipeline.predict_proba(frame), lambda: model.predict_proba(record)
    )
    return ours, theirs


def measured(runs: int) -> list[tuple[str, float, str, str, str]]:
    "Rows of the table."
    python = sys.executable
    bare, imported, shown, loaded, answered = in_turn(
        runs,
        process(python, "-c", "pass"),
        process(python, "-c", "import rf_mlops"),
        process(SCRIPT, "--help"),
        process(python, "-c", LOAD),
        process(python, "-c", ANSWER),
    )
    ours, theirs = lone_answers(runs)

    def row(what: str, seconds: float, beside: str, limit: float | None = None):
        return what, seconds * 1000, "ms", beside, limited(seconds * 1000, "ms", limit)

    times = f"{loaded / bare:.1f} × bare Python"
    return [
        row("bare Python", bare, "–"),
        row("import rf_mlops, over bare Python", imported - bare, f"{imported / bare:.2f} ×", 50),
        row("rf-mlops --help, whole process", shown, f"{shown / bare:.1f} × bare Python", 300),
        row("load('iris@champion'), whole process", loaded, times),
        row("… and a first answer", answered, f"{answered / loaded:.2f} × load alone"),
        row("one answer, scikit-learn's pipeline", theirs, "1"),
        row("one answer, ours", ours, f"{ours / theirs:.4f} × scikit-learn's"),
    ]


def main() -> None:
    "Measure and print."
    asked = options(__doc__ or "", 9)
    with a_project(asked.project):
        rows = measured(asked.runs)
    note = f"Medians of {asked.runs} processes each, in turn; single answers of {50 * asked.runs}."
    print_rows(rows, note)


if __name__ == "__main__":
    main()
