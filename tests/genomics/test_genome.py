import copy
import multiprocessing
import os
import pickle
import random
import threading

import numpy as np
import pandas as pd
import psutil
import pytest

from enformer_features.exceptions import GenomeError, InputError, InputTypeError
from enformer_features.genomics.encoding import decode
from enformer_features.genomics.genome import (
    Genome,
    fitting_style,
    open_genome,
    rename_contigs,
)
from tests.genomics.fasta import (
    fasta_text,
    random_contigs,
    read_plainly,
    write_bgzf,
    write_fasta,
)

CONTIGS = random_contigs()
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ENFORMER_FEATURES_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def toy(tmp_path):
    return write_fasta(tmp_path / "toy.fa", CONTIGS)


def assert_random_intervals_agree(genome, contigs, n=300, seed=3, longest=300):
    rng = random.Random(seed)
    names = [name for name, sequence in contigs.items() if sequence]
    for _ in range(n):
        name = rng.choice(names)
        start = rng.randrange(len(contigs[name]))
        end = rng.randint(start, min(len(contigs[name]), start + longest))
        assert decode(genome.fetch(name, start, end)) == contigs[name][start:end]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("last_newline", [True, False])
@pytest.mark.parametrize("width", [1, 60, 61, 5000])
def test_every_layout_of_lines_gives_the_same_bases(
    tmp_path, width, newline, last_newline
):
    layout = {"width": width, "newline": newline, "last_newline": last_newline}
    path = write_fasta(tmp_path / "toy.fa", CONTIGS, **layout)
    upper = {name: sequence.upper() for name, sequence in CONTIGS.items()}
    with Genome(path) as genome:
        assert_random_intervals_agree(genome, upper)
        for name, sequence in upper.items():
            assert decode(genome.fetch(name, 0, len(sequence))) == sequence


@pytest.mark.parametrize("suffix", ["gz", "bgz"])
def test_bgzf_gives_the_same_bases_also_where_a_block_begins(tmp_path, suffix):
    contigs = random_contigs(lengths=(150_000, 70_000))
    text = fasta_text(contigs)
    path = write_bgzf(tmp_path / f"toy.fa.{suffix}", text)
    upper = {name: sequence.upper() for name, sequence in contigs.items()}
    with Genome(path) as genome:
        assert_random_intervals_agree(genome, upper, n=100, longest=90_000)
        border = 2**16 - text.index("\n") - 1  # in the text behind the first header
        near = border - border // 61 - 3
        for start in range(near, near + 7):
            expected = upper["chr1"][start : start + 2]
            assert decode(genome.fetch("chr1", start, start + 2)) == expected


def test_real_sequence_agrees_with_plain_reading(shared):
    path = shared / "data" / "human" / "regions.fa.gz"
    contigs = read_plainly(path)
    with Genome(path) as genome:
        assert genome.contigs == {name: len(bases) for name, bases in contigs.items()}
        assert_random_intervals_agree(genome, contigs, n=40, longest=196_608)


def test_contigs_keep_the_order_of_the_file(toy):
    with Genome(toy) as genome:
        assert list(genome.contigs.items()) == [
            (name, len(sequence)) for name, sequence in CONTIGS.items()
        ]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (-3, 4, "NNNACGT"),
        (4, 9, "ACNNN"),
        (-2, 8, "NNACGTACNN"),
        (-5, -1, "NNNN"),
        (-5, 0, "NNNNN"),
        (6, 8, "NN"),
        (90, 93, "NNN"),
        (2, 2, ""),
        (0, 6, "ACGTAC"),
    ],
)
def test_positions_outside_the_contig_are_n(tmp_path, start, end, expected):
    path = tmp_path / "toy.fa"
    path.write_text(">a\nACGT\nac\n>b\nTTTT\n")
    with Genome(path) as genome:
        codes = genome.fetch("a", start, end)
    assert decode(codes) == expected
    assert codes.dtype == np.uint8


def test_an_interval_that_ends_before_it_starts_is_refused(toy):
    with (
        Genome(toy) as genome,
        pytest.raises(InputError, match="chr1:9-5 ends before it starts"),
    ):
        genome.fetch("chr1", 9, 5)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("chr1", 1.0, 3), "start=1.0 is no whole number of bases"),
        (("chr1", 1, "3"), "end='3' is no whole number"),
        (("chr1", None, 3), "start=None is no whole number"),
        (("chr1", True, 3), "start=True is no whole number"),
        ((1, 1, 3), "chrom=1 is int, expected text"),
        ((["chr1"], 1, 3), r"chrom=\['chr1'\] is list, expected text"),
    ],
)
def test_an_interval_of_other_types_is_refused(toy, place, message):
    with Genome(toy) as genome, pytest.raises(InputTypeError, match=message):
        genome.fetch(*place)


def test_an_unknown_contig_is_named_with_the_file_and_five_others(toy):
    message = (
        r"no contig 'chr77' in .*toy\.fa; it has "
        r"chr1, chr2, chr3, chr4, chr5, \.\.\. \(6 in all\)$"
    )
    with Genome(toy) as genome, pytest.raises(GenomeError, match=message):
        genome.fetch("chr77", 0, 5)


def test_an_unknown_contig_that_a_renaming_would_find_says_so(toy):
    with (
        Genome(toy) as genome,
        pytest.raises(GenomeError, match='pass contig_style="ucsc" to rename'),
    ):
        genome.fetch("1", 0, 5)


def test_other_letters_are_an_error_with_their_position_or_n_on_request(tmp_path):
    path = tmp_path / "toy.fa"
    path.write_text(">a\nACGT\nARGT\n")
    with Genome(path) as genome:
        assert decode(genome.fetch("a", 0, 5)) == "ACGTA"
        with pytest.raises(InputError, match="'R' at position 5"):
            genome.fetch("a", 3, 8)
    with Genome(path, ambiguous="N") as genome:
        assert decode(genome.fetch("a", 3, 8)) == "TANGT"


def test_letters_that_are_not_ascii_are_an_error(tmp_path):
    path = tmp_path / "toy.fa"
    path.write_text(">a\nACGé\n", encoding="utf-8")
    with Genome(path, ambiguous="N") as genome:
        for end in (4, 5):  # within and behind the two bytes of the letter
            with pytest.raises(GenomeError, match=r"a:0-\d of .*toy\.fa"):
                genome.fetch("a", 0, end)


def test_a_header_within_a_contig_is_noticed_when_it_is_read(tmp_path):
    path = write_fasta(tmp_path / "toy.fa", {"a": "ACGT" * 900}, width=40)
    with Genome(path, ambiguous="N") as genome:
        content = path.read_bytes().replace(b"\nACGT", b"\n>chr", 7)
        times = path.stat()
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(GenomeError, match="is not plain letters in even"):
            genome.fetch("a", 0, 3600)


def test_a_file_that_changes_while_it_is_open_is_refused(toy):
    with Genome(toy) as genome:
        genome.fetch("chr1", 0, 5)
        write_fasta(toy, random_contigs(seed=5, lengths=(10, 900)))
        with pytest.raises(GenomeError, match="changed since it was opened"):
            genome.fetch("chr1", 0, 5)


def test_a_damaged_block_fails_each_time_it_is_read(tmp_path):
    contigs = random_contigs(lengths=(300_000,))
    path = write_bgzf(tmp_path / "toy.fa.gz", fasta_text(contigs))
    Genome(path).close()
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 10] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    damaged = range(70_000, 120_000, 10_000)
    with Genome(path) as genome:
        first = contigs["chr1"][:9].upper()
        assert decode(genome.fetch("chr1", 0, 9)) == first
        for start in damaged:
            with pytest.raises(GenomeError, match=r"cannot read chr1:.*copy or"):
                genome.fetch("chr1", start, start + 9)
        assert decode(genome.fetch("chr1", 0, 9)) == first


@pytest.mark.parametrize("path", [None, 5, ["a.fa"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(
        InputTypeError, match="is no path; expected the path of a FASTA"
    ):
        Genome(path)


def test_an_unknown_rule_for_other_letters_is_refused_at_once(toy):
    with pytest.raises(InputError, match="ambiguous='skip' is unknown"):
        Genome(toy, ambiguous="skip")


def test_the_digest_covers_names_and_lengths_and_no_more(tmp_path):
    def digest(contigs):
        with Genome(write_fasta(tmp_path / "toy.fa", contigs)) as genome:
            return genome.digest

    plain = digest({"a": "ACGT", "b": "CC"})
    assert plain.startswith("sha256:")
    assert digest({"b": "GG", "a": "TTTT"}) == plain
    assert digest({"a": "ACG", "b": "CC"}) != plain
    assert digest({"x": "ACGT", "b": "CC"}) != plain


@pytest.mark.parametrize("name", ["with space.fa", "génome 基因.fa", "x" * 200 + ".fa"])
def test_unusual_file_names_work(tmp_path, name):
    path = write_fasta(tmp_path / name, CONTIGS)
    with Genome(path) as genome:
        assert decode(genome.fetch("chr1", 0, 5)) == CONTIGS["chr1"][:5].upper()


def test_a_unicode_contig_name_works(tmp_path):
    path = write_fasta(tmp_path / "toy.fa", {"chr_ü": "ACGT"})
    with Genome(path) as genome:
        assert decode(genome.fetch("chr_ü", 1, 3)) == "CG"


def test_a_relative_path_survives_a_change_of_folder(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    genome = Genome("toy.fa")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert genome.path == toy
    with pickle.loads(pickle.dumps(genome)) as again:
        assert again.fetch("chr1", 0, 5).size == 5


def test_the_home_folder_is_expanded(toy, monkeypatch):
    monkeypatch.setenv("HOME", str(toy.parent))
    assert Genome("~/toy.fa").path == toy


def test_a_genome_can_be_pickled_and_copied(toy):
    with Genome(toy, ambiguous="N") as genome:
        genome.fetch("chr1", 0, 5)
        for other in (pickle.loads(pickle.dumps(genome)), copy.deepcopy(genome)):
            with other:
                assert other.digest == genome.digest
                assert other.ambiguous == "N"
                np.testing.assert_array_equal(
                    other.fetch("chr4", 3, 99), genome.fetch("chr4", 3, 99)
                )


def test_open_genome_follows_a_file_replaced_by_one_of_the_same_size_and_time(tmp_path):
    path, other = tmp_path / "toy.fa", tmp_path / "other.fa"
    path.write_text(">a\nACGT\n")
    assert decode(open_genome(path).fetch("a", 0, 4)) == "ACGT"
    other.write_text(">a\nTTTT\n")
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.replace(path)
    assert decode(open_genome(path).fetch("a", 0, 4)) == "TTTT"


def test_open_genome_opens_an_unchanged_file_once(toy):
    genome = open_genome(toy)
    assert open_genome(str(toy)) is genome
    assert open_genome(genome) is genome
    assert open_genome(toy, ambiguous="N") is not genome
    write_fasta(toy, {"new": "ACGT"})
    assert list(open_genome(toy).contigs) == ["new"]


def test_handles_are_given_back(toy):
    process = psutil.Process()
    with Genome(toy) as genome:
        genome.fetch("chr1", 0, 5)
        during = process.num_fds()
    assert process.num_fds() == during - 1
    for _ in range(20):
        Genome(toy).fetch("chr1", 0, 5)
    assert process.num_fds() == during - 1


def test_a_closed_genome_opens_itself_again(toy):
    genome = Genome(toy)
    before = genome.fetch("chr4", 0, 500)
    genome.close()
    np.testing.assert_array_equal(genome.fetch("chr4", 0, 500), before)
    genome.close()


def _read_much(genome, contigs, seed):
    """Return "" if all is well, else what was wrong."""
    try:
        assert_random_intervals_agree(genome, contigs, n=400, seed=seed, longest=5000)
    except Exception as error:
        return repr(error)[:500]
    return ""


def _read_in_process(genome, contigs, seed, results):
    results.put(_read_much(genome, contigs, seed))


def _open_in_process(paths, contigs, barrier, results):
    outcomes = []
    for path in paths:
        barrier.wait(60)
        try:
            with Genome(path) as genome:
                missing = sorted(set(contigs) - set(genome.contigs))
                outcomes.append(missing or _read_much(genome, contigs, os.getpid()))
        except Exception as error:
            outcomes.append(repr(error))
    results.put(outcomes)


def _outcomes(workers, results):
    outcomes = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    return outcomes


def _big_toy(tmp_path, suffix):
    contigs = random_contigs(lengths=(70_001, 40_000))
    path = tmp_path / f"toy.{suffix}"
    if suffix == "fa":
        write_fasta(path, contigs)
    else:
        write_bgzf(path, fasta_text(contigs))
    return path, {name: sequence.upper() for name, sequence in contigs.items()}


@FORK
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("suffix", "method"), [("fa", "fork"), ("fa.gz", "fork"), ("fa.gz", "spawn")]
)
def test_threads_and_child_processes_share_a_genome(tmp_path, suffix, method):
    path, contigs = _big_toy(tmp_path, suffix)
    context = multiprocessing.get_context(method)
    results = context.Queue()
    faults = []
    with Genome(path) as genome:
        genome.fetch("chr1", 0, 10)  # the handle is open when the children begin
        threads = [
            threading.Thread(
                target=lambda seed=seed: faults.append(
                    _read_much(genome, contigs, seed)
                )
            )
            for seed in range(8)
        ]
        children = [
            context.Process(
                target=_read_in_process,
                args=(genome, contigs, seed, results),
                daemon=True,
            )
            for seed in range(10, 13)
        ]
        for worker in [*threads, *children]:
            worker.start()
        for thread in threads:
            thread.join(60)
        assert _outcomes(children, results) == [""] * 3
    assert faults == [""] * 8


def test_processes_that_meet_fresh_files_together_all_read_them(tmp_path):
    paths = []
    for round_ in range(5):
        for suffix in ("fa", "fa.gz"):
            folder = tmp_path / f"{round_}_{suffix}"
            folder.mkdir()
            path, contigs = _big_toy(folder, suffix)
            paths.append(path)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    barrier = context.Barrier(4)
    workers = [
        context.Process(
            target=_open_in_process,
            args=(paths, contigs, barrier, results),
            daemon=True,
        )
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    assert _outcomes(workers, results) == [[""] * len(paths)] * 4
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("ucsc", ["chr1", "chr2", "chrX", "chrM", "chrM", "GL000220.1", "chrIV"]),
        ("ensembl", ["1", "2", "X", "MT", "MT", "GL000220.1", "IV"]),
        (None, ["1", "chr2", "X", "MT", "chrM", "GL000220.1", "IV"]),
    ],
)
def test_chromosomes_are_renamed_as_asked_and_scaffolds_never(style, expected):
    names = pd.Series(["1", "chr2", "X", "MT", "chrM", "GL000220.1", "IV"])
    for chroms in (names, names.to_numpy()):
        renamed = rename_contigs(chroms, style)
        assert renamed.tolist() == expected
        assert renamed.dtype == object


def test_missing_names_stay_missing():
    renamed = rename_contigs(pd.Series(["1", None, "2"]), "ucsc")
    assert renamed[0] == "chr1"
    assert pd.isna(renamed[1])


def test_an_unknown_contig_style_is_refused():
    with pytest.raises(InputError, match="contig_style='UCSC' is unknown; choose"):
        rename_contigs(pd.Series(["1"]), "UCSC")


def test_a_style_fits_only_if_it_finds_all():
    assert fitting_style(["1", "MT"], ["chr1", "chrM"]) == "ucsc"
    assert fitting_style(["chr1", "chrM"], ["1", "MT"]) == "ensembl"
    assert fitting_style(["1", "77"], ["chr1", "chrM"]) is None
