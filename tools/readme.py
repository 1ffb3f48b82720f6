"""Make README.md from nbs/index.ipynb; with --check only say whether it is current.

nbdev's own nbdev-readme needs Quarto, which no Python registry carries.
"""

import re
import sys
from pathlib import Path

from fastcore.nbio import read_nb
from nbconvert import MarkdownExporter
from nbdev.processors import FilterDefaults

ROOT = Path(__file__).resolve().parents[1]
SOURCE, README = ROOT / "nbs/index.ipynb", ROOT / "README.md"
HEAD = "<!-- Made from nbs/index.ipynb by `make readme`. Edit the notebook. -->\n\n"
CALLOUT = re.compile(r"^::: ?\{\.callout-(\w+)[^}]*\}\n(.*?)\n:::$", re.M | re.S)
DIRECTIVE = re.compile(r"^#\|.*\n", re.M)
BELOW = re.compile(r'(\]\(|src=")((?:images|cases|runs)/)')  # links are written as seen from nbs/
ABOVE = re.compile(r"(\]\()\.\./")


class Readme(FilterDefaults):
    "nbdev's filters without the three meant for a documentation site: front matter, a warning, links into it."

    def base_procs(self):
        left_out = {"FrontmatterProc", "insert_warning", "add_links"}
        return [proc for proc in super().base_procs() if proc.__name__ not in left_out]


def callout(match: re.Match) -> str:
    "A Quarto callout as GitHub writes one: every line quoted, the kind on top."
    lines = [f"[!{match[1].upper()}]", *match[2].strip().splitlines()]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def render() -> str:
    "README.md's text. Pictures belong in nbs/images/, shown by Markdown, so that they are files here too."
    nb = read_nb(SOURCE)
    nb.metadata["language_info"] = {"name": "python"}  # so that code is coloured
    Readme().nb_proc(nb).process()
    nb.cells = [cell for cell in nb.cells if cell.cell_type != "raw"]
    text, resources = MarkdownExporter().from_notebook_node(nb)
    if resources.get("outputs"):
        sys.exit(
            "nbs/index.ipynb draws a picture in an output. Save it in nbs/images/ and show it with ![…](images/…)."
        )
    text = CALLOUT.sub(callout, DIRECTIVE.sub("", text))
    text = ABOVE.sub(r"\1", BELOW.sub(r"\1nbs/\2", text))
    return HEAD + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        README.write_text(render(), encoding="utf-8")
    elif not README.exists() or README.read_text(encoding="utf-8") != render():
        sys.exit(
            "README.md is not what nbs/index.ipynb makes. Run `make readme` and commit the result."
        )
    else:
        print("README.md is current.")
