"""CSV as people really have it: every oddity is a file with its expected rows or its message."""

import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rf_mlops.schema import Column, Schema
from rf_mlops.settings import UserError
from rf_mlops.tables import from_csv, typed

SHOP = Schema(
    "shop",
    "classification",
    "bought",
    (
        Column("price", "number", minimum=-5000, maximum=5_000_000, example=20.5),
        Column("pieces", "integer", missing=True, example=3),
        Column("city", "category", missing=True, example="Lyon"),
    ),
    ("no", "yes"),
    (0, 1),
)
ROWS = [(1234.5, 3.0, "Zürich"), (0.25, np.nan, "a, b"), (-7.0, 12.0, None)]
PLAIN = 'price,pieces,city\n1234.5,3,Zürich\n0.25,,"a, b"\n-7,12,\n'
SEMICOLON = "price;pieces;city\n1234,5;3;Zürich\n0,25;;a, b\n-7;12;\n"
THOUSANDS = "price;pieces;city\n1.234,5;3;Zürich\n0,25;;a, b\n-7;12;\n"


def tab(text: str) -> str:
    return text.replace(";", "\t")


# Files that mean ROWS, each written in its own way.
ODDITIES: dict[str, bytes] = {
    "plain": PLAIN.encode(),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "CRLF": PLAIN.replace("\n", "\r\n").encode(),
    "CR alone": PLAIN.replace("\n", "\r").encode(),
    "no line end at the end": PLAIN.rstrip("\n").encode() + b"",
    "empty lines at the end": PLAIN.encode() + b"\n\n",
    "semicolon and decimal comma": SEMICOLON.encode(),
    "semicolon, thousands and decimal comma": THOUSANDS.encode(),
    "semicolon and decimal point": SEMICOLON.replace(",5", ".5").replace(",25", ".25").encode(),
    "tab": tab(SEMICOLON).encode(),
    "bar": SEMICOLON.replace(";", "|").encode(),
    "Latin-1": SEMICOLON.encode("latin-1"),
    "Windows-1252": SEMICOLON.encode("cp1252"),
    "UTF-16 as Excel writes Unicode text": tab(SEMICOLON).encode("utf-16"),
    "sep=; before the header": ("sep=;\n" + SEMICOLON).encode(),
    "sep=; with CRLF": ("sep=;\r\n" + SEMICOLON.replace("\n", "\r\n")).encode(),
    "quoted numbers with decimal comma": PLAIN.replace("1234.5", '"1234,5"').replace("0.25", '"0,25"').encode(),
    "quoted thousands": PLAIN.replace("1234.5", '"1,234.5"').encode(),
    "thousands by apostrophe": SEMICOLON.replace("1234,5", "1'234,5").encode(),
    "thousands by narrow space": SEMICOLON.replace("1234,5", "1\u202f234,5").encode(),
    "thousands by a space": SEMICOLON.replace("1234,5", "1 234,5").encode(),
    "spaces around": PLAIN.replace("1234.5,3", " 1234.5 , 3 ").replace("price,", " price ,").encode(),
    "the target still inside": PLAIN.replace("city", "city,bought").replace("Zürich", "Zürich,yes").replace('"a, b"', '"a, b",no').replace("12,\n", "12,,yes\n").encode(),
    "an extra column": "note,price,pieces,city\nx,1234.5,3,Zürich\n,0.25,,\"a, b\"\ny,-7,12,\n".encode(),
    "an extra column twice": "n,n,price,pieces,city\nx,1,1234.5,3,Zürich\n,2,0.25,,\"a, b\"\ny,3,-7,12,\n".encode(),
    "another order": "city,price,pieces\nZürich,1234.5,3\n\"a, b\",0.25,\n,-7,12\n".encode(),
    "all quoted": '"price","pieces","city"\n"1234.5","3","Zürich"\n"0.25","","a, b"\n"-7","12",""\n'.encode(),
    "exponents": PLAIN.replace("1234.5", "1.2345e3").encode(),
    "a sign": PLAIN.replace("1234.5", "+1234.5").encode(),
    "words for nothing": PLAIN.replace("0.25,,", "0.25,n/a,").encode(),
}  # fmt: skip


def rows_of(content: bytes, schema: Schema = SHOP) -> list[tuple]:
    "The rows of a file; fails if a cell does not fit."
    columns, bad = typed(from_csv(content, schema), schema)
    assert not bad, bad.first(3)
    return list(zip(*columns.values(), strict=True))


@pytest.mark.parametrize("name", ODDITIES)
def test_every_way_of_writing_means_the_same(name):
    for found, expected in zip(rows_of(ODDITIES[name]), ROWS, strict=True):
        assert found[2] == expected[2]
        np.testing.assert_array_equal(found[:2], expected[:2])


def test_a_quoted_line_break_is_part_of_its_cell():
    assert rows_of(b'city,price\n"two\nlines",1\nOslo,2\n')[0][2] == "two\nlines"


@pytest.mark.parametrize(
    "content", [b"price,pieces,city\n", b"price;pieces;city", b"\xef\xbb\xbfprice\n"]
)
def test_a_header_alone_is_a_table_of_no_rows(content):
    assert rows_of(content) == []


# What cannot be read, or means two things, is told.
REFUSED = {
    "empty": (b"", "The CSV file is empty"),
    "white space": (b" \n \n", "The CSV file is empty"),
    "mark alone": (b"\xef\xbb\xbf", "The CSV file is empty"),
    "a column twice": (b"price,price\n1,2\n", "The column 'price' is there twice"),
    "a short line": (b"price,city\n1,a\n2\n", "got: 1 cells: 2"),
    "a long line": (b"price,city\n1,a\n2,b,c\n", "got: 3 cells: 2,b,c"),
    "no header": (b"1,2,Oslo\n3,4,Lyon\n", "No column 'price'"),
    "a misspelt column": (b"prise,city\n1,a\n", "rename 'prise' to 'price'"),
    "a spreadsheet": (b"PK\x03\x04\x14\x00", "save it as CSV"),
    "an old spreadsheet": (b"\xd0\xcf\x11\xe0\xa1\xb1", "save it as CSV"),
    "bytes": (b"price\x00,city\n1,2\n", "no CSV file"),
    "no encoding": (b"price,city\n1,\x81\n", "byte 13"),
    "half of UTF-16": ("price\n1\n".encode("utf-16") + b"\x00", "UTF-16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_told(name):
    content, words = REFUSED[name]
    with pytest.raises(UserError) as told:
        rows_of(content)
    assert words in str(told.value)


# One thing or another: the cell is refused with what stands in it, never read as one of the two.
UNCERTAIN = {
    "one comma and three digits": (b"price;city\n1,234;a\n", [(1, "'1,234'")]),
    "both marks as decimals": (b"price;city\n1,5;a\n2.5;b\n", [(1, "'1,5'")]),
    "thousands at the wrong place": (b"price;city\n1.23.4,5;a\n0,5;b\n", [(1, "'1.23.4,5'")]),
    "a comma too many": (b"price;city\n1,2,3;a\n0,5;b\n", [(1, "'1,2,3'")]),
    "a word": (b"price;city\n0,5;a\ncheap;b\n", [(2, "'cheap'")]),
    "infinite": (b"price,city\ninf,a\n1e999,b\n", [(1, "'inf'"), (2, "'1e999'")]),
    "a broken number": (b"price,pieces\n1,2.5\n", [(1, "2.5")]),
}


@pytest.mark.parametrize("name", UNCERTAIN)
def test_what_is_not_certain_is_refused_cell_by_cell(name):
    content, cells = UNCERTAIN[name]
    _, bad = typed(from_csv(content, SHOP), SHOP)
    assert [(e.row, e.got) for e in bad] == cells


def test_the_schema_decides_which_separator_it_is():
    schema = replace(SHOP, columns=(Column("a,b", "number"), Column("c", "number")))
    assert rows_of(b"a,b;c\n1;2\n", schema) == [(1.0, 2.0)]


def test_five_thousand_damaged_files_crash_nothing():
    "Whatever is done to a file: rows, or a message; as many rows as the file has lines, where it is read."
    dice = random.Random(21)  # noqa: S311  the same damage every time
    sources = list(ODDITIES.values())
    read = 0
    for _ in range(5000):
        content = bytearray(dice.choice(sources))
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(content) + 1)
            kind = dice.randrange(4)
            if kind == 0:
                content[place:place] = bytes(
                    dice.choices(b"\x00\xff,;\t\"'\n\r.-1e\xc3\x28", k=dice.randint(1, 4))
                )
            elif kind == 1:
                del content[place : place + dice.randint(1, 9)]
            elif kind == 2 and content:
                content[min(place, len(content) - 1)] = dice.randrange(256)
            else:
                content = content + content[place:]
        try:
            columns, bad = typed(from_csv(bytes(content), SHOP), SHOP)
        except UserError:
            continue
        read += 1
        sizes = {len(values) for values in columns.values()}
        assert len(sizes) == 1 and all(0 < e.row <= max(sizes) for e in bad)
        assert max(sizes) <= len(bytes(content).splitlines())
    assert read > 500, "or the damage was too great to test anything"


def test_reading_loads_no_pandas():
    files = [v for k, v in ODDITIES.items() if k in ("plain", "Latin-1", "quoted thousands")]
    code = f"""
import sys
from rf_mlops.schema import Column, Schema
from rf_mlops.tables import from_csv, typed
schema = Schema("shop", "classification", "bought", (Column("price", "number"), Column("city", "category", missing=True)))
for content in {files!r}:
    assert len(typed(from_csv(content, schema), schema)[0]["price"]) == 3
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stdout + done.stderr
