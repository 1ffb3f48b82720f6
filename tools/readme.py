"""Make README.md from nbs/index.ipynb; with --check only say whether it is current.

nbdev's own nbdev-readme needs Quarto, which no Python registry carries.
"""

import re
import sys
from pathlib import Path

from fastcore.nbio import read_nb
from nbconvert import MarkdownExporter
from nbdev.frontmatter import FrontmatterProc
from nbdev.processors import FilterDefaults

ROOT = Path(__file__).resolve().parents[1]
SOURCE, README = ROOT / "nbs/index.ipynb", ROOT / "README.md"
HEAD = "<!-- Made from nbs/index.ipynb by `make readme`. Edit the notebook. -->\n\n"
CALLOUT = re.compile(r"^::: ?\{\.callout-(\w+)[^}]*\}\n(.*?)\n:::$", re.M | re.S)
IMAGE = re.compile(r'(\]\(|src=")(images/)')


class Readme(FilterDefaults):
    "nbdev's filters without the one that turns the title into a web page's front matter."

    def base_procs(self):
        return [proc for proc in super().base_procs() if proc is not FrontmatterProc]


def callout(match: re.Match) -> str:
    "A Quarto callout as GitHub writes one: every line quoted, the kind on top."
    lines = [f"[!{match[1].upper()}]", *match[2].strip().splitlines()]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def render() -> str:
    "README.md's text. Pictures belong in nbs/images/, shown by Markdown, so that they are files here too."
    nb = read_nb(SOURCE)
    Readme().nb_proc(nb).process()
    text, resources = MarkdownExporter().from_notebook_node(nb)
    if resources.get("outputs"):
        sys.exit("nbs/index.ipynb draws a picture in an output. Save it in nbs/images/ and show it with ![…](images/…).")
    text = IMAGE.sub(r"\1nbs/\2", CALLOUT.sub(callout, text))
    return HEAD + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        README.write_text(render(), encoding="utf-8")
    elif not README.exists() or README.read_text(encoding="utf-8") != render():
        sys.exit("README.md is not what nbs/index.ipynb makes. Run `make readme` and commit the result.")
    else:
        print("README.md is current.")
