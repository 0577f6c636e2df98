import gzip
import logging
import os
import shutil

import numpy as np
import pytest

from enformer_features.exceptions import GenomeError
from enformer_features.genomics import _faidx
from enformer_features.genomics._faidx import build_index, load_index
from tests.genomics.fasta import fasta_text, random_contigs, write_bgzf, write_fasta

CONTIGS = random_contigs()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("ENFORMER_FEATURES_CACHE", str(folder))
    return folder


@pytest.fixture
def genome(tmp_path):
    folder = tmp_path / "genomes"
    folder.mkdir()
    return write_fasta(folder / "toy.fa", CONTIGS)


@pytest.fixture
def builds(monkeypatch):
    """Collect the files that are read as a whole."""
    seen = []

    def spy(path, compressed):
        seen.append(path)
        return build_index(path, compressed)

    monkeypatch.setattr(_faidx, "build_index", spy)
    return seen


def fai_of(path):
    return path.with_name(f"{path.name}.fai")


def lengths(index):
    return {contig.name: contig.length for contig in index.contigs}


def expected(contigs):
    return {name: len(sequence) for name, sequence in contigs.items()}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("last_newline", [True, False])
@pytest.mark.parametrize("width", [1, 60, 97, 5000])
def test_a_built_index_passes_its_own_check(
    tmp_path, builds, width, newline, last_newline
):
    layout = {"width": width, "newline": newline, "last_newline": last_newline}
    path = write_fasta(tmp_path / "toy.fa", CONTIGS, **layout)
    built = load_index(path)
    again = load_index(path)
    assert lengths(built) == expected(CONTIGS)
    assert again.contigs == built.contigs
    assert builds == [path]


def test_lines_and_contigs_may_lie_across_the_chunks_of_a_file(genome, monkeypatch):
    whole = build_index(genome, compressed=False)
    for chunk in (1, 7, 61, 1000):
        monkeypatch.setattr(_faidx, "CHUNK_BYTES", chunk)
        assert build_index(genome, compressed=False).contigs == whole.contigs


def test_blank_lines_may_end_a_contig_and_begin_a_file(tmp_path, builds):
    path = tmp_path / "toy.fa"
    path.write_text("\n>a\nACGT\nAC\n\n\n>b\nGG\n\n")
    assert lengths(load_index(path)) == {"a": 6, "b": 2}
    assert lengths(load_index(path)) == {"a": 6, "b": 2}
    assert builds == [path]


def test_real_index_files_of_samtools_are_believed_and_equal_ours(shared, builds):
    path = shared / "data" / "human" / "regions.fa.gz"
    believed = load_index(path)
    assert builds == []
    built = build_index(path, compressed=True)
    assert believed.contigs == built.contigs
    np.testing.assert_array_equal(believed.blocks, built.blocks)


def _rows(text):
    return [line.split("\t") for line in text.splitlines()]


def _text(rows):
    return "".join("\t".join(row) + "\n" for row in rows)


def _shifted(row, column, by):
    changed = list(row)
    changed[column] = str(int(changed[column]) + by)
    return changed


DAMAGE = {
    "empty": lambda rows: "",
    "not a table": lambda rows: "nothing\n",
    "binary": lambda rows: "\x00\x01",
    "cut within a line": lambda rows: _text(rows)[:-9],
    "last contig missing": lambda rows: _text(rows[:-1]),
    "first contig missing": lambda rows: _text(rows[1:]),
    "middle contig missing": lambda rows: _text(rows[:2] + rows[3:]),
    "contig twice": lambda rows: _text([*rows, rows[-1]]),
    "other name": lambda rows: _text([["chrX", *rows[0][1:]], *rows[1:]]),
    "names swapped": lambda rows: _text(
        [[rows[1][0], *rows[0][1:]], [rows[0][0], *rows[1][1:]], *rows[2:]]
    ),
    "offset + 1": lambda rows: _text([*rows[:3], _shifted(rows[3], 2, 1), *rows[4:]]),
    "offset - 1": lambda rows: _text([*rows[:3], _shifted(rows[3], 2, -1), *rows[4:]]),
    "offset beyond the file": lambda rows: _text([_shifted(rows[0], 2, 10**9)]),
    "shorter": lambda rows: _text([*rows[:3], _shifted(rows[3], 1, -1), *rows[4:]]),
    "longer": lambda rows: _text([*rows[:3], _shifted(rows[3], 1, 1), *rows[4:]]),
    "last longer": lambda rows: _text([*rows[:-1], _shifted(rows[-1], 1, 1)]),
    "other line length": lambda rows: _text(
        [_shifted(_shifted(rows[0], 3, 1), 4, 1), *rows[1:]]
    ),
    "no line length": lambda rows: _text([[*rows[0][:3], "0", "1"], *rows[1:]]),
    "wide terminator": lambda rows: _text([_shifted(rows[0], 4, 2), *rows[1:]]),
    "negative": lambda rows: _text([[rows[0][0], "-5", *rows[0][2:]], *rows[1:]]),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", ["fa", "fa.gz"])
def test_a_wrong_fai_is_noticed_left_alone_and_not_used(
    tmp_path, builds, caplog, damage, suffix
):
    path = tmp_path / f"toy.{suffix}"
    path = _written(path)
    right = load_index(path)
    fai = fai_of(path)
    wrong = DAMAGE[damage](_rows(fai.read_text()))
    fai.write_text(wrong)
    builds.clear()
    assert load_index(path).contigs == right.contigs
    assert fai.read_text() == wrong
    assert f"{fai} is not used for {path}" in caplog.text
    assert load_index(path).contigs == right.contigs  # from the cache folder
    assert builds == [path]


def _written(path):
    if path.suffix == ".gz":
        return write_bgzf(path, fasta_text(CONTIGS))
    return write_fasta(path, CONTIGS)


def test_a_fai_older_than_the_file_is_not_used(genome, builds):
    load_index(genome)
    os.utime(fai_of(genome), ns=(0, 0))
    load_index(genome)
    assert builds == [genome] * 2


def test_the_fai_of_another_file_is_not_used_whatever_its_time(genome, builds):
    load_index(genome)
    other = random_contigs(seed=1, lengths=(997, 1, 61, 2002, 0, 121))
    write_fasta(genome, other)
    os.utime(genome, ns=(0, 0))  # a backup that was restored
    assert lengths(load_index(genome)) == expected(other)


def test_a_file_from_the_future_is_indexed_once(genome, builds):
    os.utime(genome, (4e9, 4e9))
    load_index(genome)
    load_index(genome)
    assert builds == [genome]


def test_a_folder_that_cannot_be_written_sends_the_index_to_the_cache(
    genome, cache, builds, monkeypatch
):
    write = _faidx.write_at_once

    def refuse(path, content, mtime_ns):
        if path.parent == genome.parent:
            raise PermissionError(13, "read-only")
        write(path, content, mtime_ns)

    monkeypatch.setattr(_faidx, "write_at_once", refuse)
    load_index(genome)
    assert os.listdir(genome.parent) == ["toy.fa"]
    assert lengths(load_index(genome)) == expected(CONTIGS)
    assert builds == [genome]
    assert len(list(cache.rglob("*.fai"))) == 1


def test_an_index_that_can_be_kept_nowhere_works_from_memory(genome, monkeypatch):
    def refuse(path, content, mtime_ns):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_faidx, "write_at_once", refuse)
    assert lengths(load_index(genome)) == expected(CONTIGS)
    assert os.listdir(genome.parent) == ["toy.fa"]


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_an_interrupt_while_publishing_leaves_no_trace(genome, monkeypatch, step):
    with monkeypatch.context() as patch:
        patch.setattr(f"pathlib.Path.{step}", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_index(genome)
    assert os.listdir(genome.parent) == ["toy.fa"]
    assert lengths(load_index(genome)) == expected(CONTIGS)


def _interrupt(*args):
    raise KeyboardInterrupt


def test_a_file_that_grows_while_it_is_read_is_refused(genome, monkeypatch):
    def grow(path, compressed):
        index = build_index(path, compressed)
        with path.open("a") as file:
            file.write(">late\nACGT\n")
        return index

    monkeypatch.setattr(_faidx, "build_index", grow)
    with pytest.raises(GenomeError, match="changed while it was read"):
        load_index(genome)
    assert os.listdir(genome.parent) == ["toy.fa"]


FAULTS = {
    "no FASTA": (b"chrom\tstart\nchr1\t5\n", "is not FASTA: it does not begin"),
    "no bases": (b">a\n>b\n", "holds no bases"),
    "nameless": (b">a\nAC\n> \nGT\n", r":3: the header b'> \\n' has no name"),
    "uneven": (b">a\nAC\n>b\nACG\nAC\nACG\n", ":6: uneven .* 3 bases.* contig b has 3"),
    "longer last line": (b">a\nACG\nACGT\n", ":3: uneven lines: this one has 4 bases"),
    "blank line within": (b">a\nACG\n\nACG\n", ":4: uneven lines"),
    "blank line first": (b">a\n\nACG\n", ":3: uneven lines"),
    "mixed line ends": (b">a\nAC\r\nGT\n>b\n", ":3: uneven lines"),
    "duplicate": (b">a\nAC\n>b\nG\n>a\nGT\n", "several contigs of one name: a; rename"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_are_no_proper_fasta_are_refused(tmp_path, fault):
    content, message = FAULTS[fault]
    path = tmp_path / "bad.fa"
    path.write_bytes(content)
    with pytest.raises(GenomeError, match=message):
        load_index(path)
    assert os.listdir(tmp_path) == ["bad.fa"]


def test_missing_empty_and_special_files_are_refused(tmp_path):
    with pytest.raises(GenomeError, match=r"cannot open the genome .*no\.fa: No such"):
        load_index(tmp_path / "no.fa")
    with pytest.raises(GenomeError, match="is a directory; expected a FASTA file"):
        load_index(tmp_path)
    (tmp_path / "empty.fa").touch()
    with pytest.raises(GenomeError, match=r"is empty \(0 bytes\)"):
        load_index(tmp_path / "empty.fa")
    with pytest.raises(GenomeError, match="not a regular file"):
        load_index(type(tmp_path)(os.devnull))


def test_plain_gzip_is_refused_with_the_command_that_recodes_it(tmp_path):
    path = tmp_path / "my toy.fa.gz"
    path.write_bytes(gzip.compress(fasta_text(CONTIGS).encode()))
    with pytest.raises(
        GenomeError, match=r"gunzip -c '.*toy\.fa\.gz' \| bgzip > '.*bgz"
    ):
        load_index(path)


def test_a_name_that_contradicts_the_content_is_refused(tmp_path):
    write_fasta(tmp_path / "toy.fa.gz", CONTIGS)
    with pytest.raises(GenomeError, match=r"is not compressed, but its name"):
        load_index(tmp_path / "toy.fa.gz")
    write_bgzf(tmp_path / "toy.fa", fasta_text(CONTIGS))
    with pytest.raises(GenomeError, match=r"is compressed \(BGZF\), but its name"):
        load_index(tmp_path / "toy.fa")


@pytest.mark.parametrize(
    ("kept", "message"), [(-28, "lacks the BGZF end"), (-40, "no whole BGZF block")]
)
def test_bgzf_that_is_cut_short_is_refused(tmp_path, kept, message):
    path = write_bgzf(tmp_path / "toy.fa.gz", fasta_text(CONTIGS))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(GenomeError, match=f"{message}.*copy or download it again"):
        load_index(path)


def test_bgzf_with_a_damaged_block_is_refused(tmp_path):
    path = write_bgzf(tmp_path / "toy.fa.gz", fasta_text(CONTIGS))
    content = bytearray(path.read_bytes())
    content[100] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(GenomeError, match="is damaged"):
        load_index(path)


@pytest.mark.parametrize("entry", range(3, 40, 7))
@pytest.mark.parametrize("column", [0, 1])
def test_a_wrong_gzi_is_noticed_and_not_used(tmp_path, shared, builds, entry, column):
    path = tmp_path / "regions.fa.gz"
    for suffix in ("", ".fai", ".gzi"):
        source = shared / "data" / "human" / f"regions.fa.gz{suffix}"
        shutil.copy2(source, f"{path}{suffix}")
    gzi = path.with_name("regions.fa.gz.gzi")
    content = bytearray(gzi.read_bytes())
    content[8 + 16 * entry + 8 * column] ^= 4
    gzi.write_bytes(content)
    load_index(path)
    assert builds == [path]
    assert gzi.read_bytes() == content


def test_a_gzi_without_its_last_block_is_not_used(tmp_path, builds):
    contigs = random_contigs(lengths=(200_000,))
    path = write_bgzf(tmp_path / "toy.fa.gz", fasta_text(contigs))
    load_index(path)
    gzi = path.with_name("toy.fa.gz.gzi")
    content = gzi.read_bytes()
    count = int.from_bytes(content[:8], "little") - 1
    gzi.write_bytes(count.to_bytes(8, "little") + content[8:-16])
    load_index(path)
    assert builds == [path] * 2


def test_bgzf_files_may_be_joined(tmp_path, builds):
    path = write_bgzf(tmp_path / "toy.fa.gz", ">a\nACGT\n")
    second = write_bgzf(tmp_path / "other.gz", ">b\nGG\n")
    path.write_bytes(path.read_bytes() + second.read_bytes())
    assert lengths(load_index(path)) == {"a": 4, "b": 2}
    assert lengths(load_index(path)) == {"a": 4, "b": 2}
    assert builds == [path]


def test_building_is_told(genome, caplog):
    with caplog.at_level(logging.INFO):
        load_index(genome)
    assert f"reading {genome} to index it" in caplog.text


def test_the_cache_folder_follows_the_environment_then_the_platform(monkeypatch):
    monkeypatch.setenv("ENFORMER_FEATURES_CACHE", "~/somewhere")
    assert str(_faidx.user_cache_folder()) == os.path.expanduser("~/somewhere")
    monkeypatch.delenv("ENFORMER_FEATURES_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(_faidx.user_cache_folder()) == "/xdg/enformer_features"
