from __future__ import annotations

import copy
import gzip
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError, InputTypeError
from enformer_features.inference.tracks import (
    TrackSelection,
    assay_ranges,
    read_tracks,
    resolve_tracks,
    select_tracks,
)

HEADER = "index\tidentifier\tclip\tdescription\n"
ROWS = [
    "0\tENCFF001\t64\tDNASE:liver, adult",
    "1\tENCFF002\t32\tCHIP:CTCF:K562",
    "2\tENCFF003\t32\tCHIP:POLR2A:eGFP:A549",
    "3\tCNhs1\t384\tCAGE:liver, adult",
]


def write(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    path = folder / "targets.txt"
    path.write_text(header + "".join(row + "\n" for row in rows))
    return path


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    return read_tracks(write(tmp_path, ROWS))


@pytest.mark.parametrize(
    ("organism", "n_tracks", "index", "description"),
    [
        # the indices that the literature uses (Basenji's tables, 2020 release)
        ("human", 5_313, 41, "DNASE:CD14-positive monocyte female"),
        ("human", 5_313, 4767, "CAGE:Neutrophils,"),
        ("human", 5_313, 5110, "CAGE:B lymphoblastoid cell line: GM12878 ENCODE"),
        ("mouse", 1_643, 0, "DNASE:B6D2F1/J 416B"),
    ],
)
def test_published_tables_agree_with_assay_ranges_and_known_tracks(
    shared: Path, organism: str, n_tracks: int, index: int, description: str
) -> None:
    table = read_tracks(shared / "data" / "tracks" / f"targets_{organism}.txt")
    assert table["index"].tolist() == list(range(n_tracks))
    assert table["identifier"].is_unique
    assert table.loc[index, "description"].startswith(description)
    for assay, tracks in assay_ranges(organism).items():
        assert table.index[table["assay"] == assay].tolist() == list(tracks)
    assert (table["mark"] != "").sum() == len(assay_ranges(organism)["CHIP"])


def test_table_without_a_name_for_its_first_column_that_is_a_part_is_refused(
    shared: Path,
) -> None:
    with pytest.raises(InputError, match=r"txt:2: the first track index is 6068"):
        read_tracks(shared / "data" / "tracks" / "borzoi_targets_rna.txt")


def test_descriptions_are_split_into_assay_mark_and_biosample(
    table: pd.DataFrame,
) -> None:
    columns = "index identifier assay biosample description mark clip"
    assert list(table.columns) == columns.split()
    assert table["assay"].tolist() == ["DNASE", "CHIP", "CHIP", "CAGE"]
    assert table["mark"].tolist() == ["", "CTCF", "POLR2A", ""]
    assert table["biosample"].tolist() == [
        "liver, adult",
        "K562",
        "eGFP:A549",
        "liver, adult",
    ]
    assert table["clip"].tolist() == [64.0, 32.0, 32.0, 384.0]


def test_description_without_colon_has_no_assay(tmp_path: Path) -> None:
    table = read_tracks(write(tmp_path, ["0\tmine\t1\tmy assay"]))
    assert table.loc[0, ["assay", "biosample", "mark"]].tolist() == ["", "my assay", ""]


def test_mouse_numbering_of_the_joint_table_starts_at_zero(tmp_path: Path) -> None:
    header = "index\tgenome\tidentifier\tdescription\n"
    rows = ["5313\t1\tm0\tCAGE:a", "5314\t1\tm1\tCAGE:b"]
    assert read_tracks(write(tmp_path, rows, header))["index"].tolist() == [0, 1]


def test_gzip_crlf_and_trailing_blank_lines_are_read(tmp_path: Path) -> None:
    text = (HEADER + "\n".join(ROWS) + "\n\n").replace("\n", "\r\n")
    path = tmp_path / "targets.txt.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert read_tracks(path)["identifier"].tolist()[-1] == "CNhs1"


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS, "index\tid\tclip\tdescription\n", r"no column identifier; found index"),
        (ROWS[:2] + ROWS[3:], HEADER, r"txt:4: track index 3, expected 2"),
        (ROWS[1:], HEADER, r"txt:2: the first track index is 1, expected 0"),
        (["0\tA\t1"], HEADER, r"txt:2: 3 fields, the header has 4"),
        (["0\tA\tx\td"], HEADER, r"txt:2: clip 'x' is not a number"),
        (["0\t\t1\td"], HEADER, r"txt:2: the identifier is empty"),
        (["0\tA\t1\td", "1\tA\t1\te"], HEADER, r"more than once: A; .*unique"),
        ([], HEADER, r"0 tracks"),
        (
            ["0\t0\tA\td", "1\t1\tB\td"],
            "index\tgenome\tidentifier\tdescription\n",
            r"tracks of 2 heads",
        ),
    ],
)
def test_malformed_tables_are_refused_with_the_line(
    tmp_path: Path, rows: list[str], header: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_tracks(write(tmp_path, rows, header))


def test_missing_or_binary_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.txt cannot be read"):
        read_tracks(tmp_path / "absent.txt")
    with pytest.raises(InputTypeError, match="path is list, expected a str or a"):
        read_tracks([tmp_path])  # type: ignore[arg-type]
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.txt cannot be read"):
        read_tracks(tmp_path / "binary.txt")


@pytest.mark.parametrize(
    ("criteria", "indices"),
    [
        ({}, (0, 1, 2, 3)),
        ({"index": 2}, (2,)),
        ({"index": np.array([3, 0])}, (0, 3)),
        ({"identifier": ["CNhs1", "ENCFF001"]}, (0, 3)),
        ({"assay": "chip"}, (1, 2)),
        ({"assay": ["CAGE", "DNASE"]}, (0, 3)),
        ({"pattern": "LIVER"}, (0, 3)),
        ({"pattern": "liver", "assay": "CAGE"}, (3,)),
    ],
)
def test_criteria_are_joined_with_and_in_table_order(
    table: pd.DataFrame, criteria: dict[str, object], indices: tuple[int, ...]
) -> None:
    selection = select_tracks(table, **criteria)  # type: ignore[arg-type]
    assert selection.indices == indices
    assert selection.names == tuple(table["identifier"].iloc[list(indices)])


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({"identifier": "ENCFF01"}, r"identifier not .*: ENCFF01; did you mean ENCFF"),
        ({"assay": "CAGEE"}, r"assay not in .*did you mean CAGE\?"),
        ({"index": [1, 9]}, r"index not in the track table: 9; .*0 to 3"),
        ({"pattern": "livr"}, r"pattern meets 0 of 4\); did you mean liver\?"),
        ({"pattern": "K562", "assay": "CAGE"}, r"assay meets 1, pattern meets 1 of 4"),
        ({"pattern": "(a"}, r"not a regular expression.*re\.escape"),
    ],
)
def test_what_is_not_in_the_table_is_refused_with_close_matches(
    table: pd.DataFrame, criteria: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        select_tracks(table, **criteria)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tracks", "indices"),
    [
        (None, tuple(range(7))),
        (3, (3,)),
        ([5, 2], (5, 2)),
        (np.array([5, 2]), (5, 2)),
        (range(2, 4), (2, 3)),
        (np.array(3), (3,)),
        (pd.Series([5, 2]), (5, 2)),
    ],
)
def test_indices_keep_their_order_and_get_plain_names(
    tracks: object, indices: tuple[int, ...]
) -> None:
    selection = resolve_tracks(tracks, organism="human", n_tracks=7)
    assert selection.indices == indices
    assert selection.names == tuple(f"human_{index:04d}" for index in indices)
    assert all(type(index) is int for index in selection.indices)


def test_assay_and_selection_resolve_to_themselves() -> None:
    cage = resolve_tracks("cage", organism="mouse", n_tracks=1_643)
    assert cage.indices == tuple(range(1_286, 1_643))
    chosen = TrackSelection((2,), ("ENCFF003",))
    assert resolve_tracks(chosen, organism="human", n_tracks=3) is chosen


@pytest.mark.parametrize(
    ("tracks", "n_tracks", "error", "message"),
    [
        ([0, 7], 7, InputError, r"out of range: 7; the human head has 7 tracks"),
        (TrackSelection((9,), ("a",)), 7, InputError, r"out of range: 9"),
        (-1, 7, InputError, r"index -1 is negative"),
        ([2, 3, 2], 7, InputError, r"index given more than once: 2"),
        ([], 7, InputError, r"no tracks are selected"),
        ("CAGE", 7, InputError, r"published heads only, .*head has 7 tracks"),
        ("CAG", 5_313, InputError, r"no assay of .*mean CAGE\?.*read_tracks"),
        (["ENCFF001"], 7, InputError, r"read_tracks\(path\)"),
        ([1.0], 7, InputTypeError, r"integers, not 1\.0 \(float\)"),
        (True, 7, InputTypeError, r"integers, not True"),
        (2.5, 7, InputTypeError, r"integers, not 2\.5"),
        ([[1]], 7, InputTypeError, r"integers, not \[1\]"),
        (b"CAGE", 7, InputTypeError, r"tracks=b'CAGE' is a bytes; expected None"),
        ({1, 2}, 7, InputTypeError, r"is a set; .* a list of indices"),
        ({1: 2}, 7, InputTypeError, r"is a dict; expected"),
        (iter([1]), 7, InputTypeError, r"is a list_iterator; expected"),
        (np.array(2.5), 7, InputTypeError, r"integers, not 2\.5"),
    ],
)
def test_tracks_that_cannot_be_resolved_say_why(
    tracks: object, n_tracks: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        resolve_tracks(tracks, organism="human", n_tracks=n_tracks)


def test_unknown_organism_is_refused() -> None:
    with pytest.raises(InputError, match="organism 'yeast'; there are human and mouse"):
        assay_ranges("yeast")


def test_selection_is_a_value() -> None:
    selection = TrackSelection([1, 2], ["a", "b"])  # type: ignore[arg-type]
    assert selection == TrackSelection((1, 2), ("a", "b"))
    assert hash(selection) == hash(copy.deepcopy(selection))
    assert pickle.loads(pickle.dumps(selection)) == selection


@pytest.mark.parametrize(
    ("indices", "names", "error", "message"),
    [
        ((1, 2), ("a",), InputError, "2 track indices, but 1 names"),
        ((1, 2), ("a", "a"), InputError, "name given more than once: a"),
        ((1,), (7,), InputTypeError, "names of tracks must be text, not 7"),
        ((1,), 7, InputTypeError, "names of tracks must be text, not 7"),
    ],
)
def test_selection_checks_its_parts(
    indices: object, names: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TrackSelection(indices, names)  # type: ignore[arg-type]
