import numpy as np
import pytest

from enformer_features.exceptions import InputError, InputTypeError
from enformer_features.genomics.encoding import (
    check_codes,
    codes_from_one_hot,
    decode,
    encode,
    n_fraction,
    one_hot,
    resize_codes,
    reverse_complement,
)


@pytest.fixture
def codes():
    return np.random.default_rng(7).integers(0, 5, (3, 11)).astype(np.uint8)


def test_letters_become_codes_in_alphabet_order():
    codes = encode("ACGTN")
    assert codes.tolist() == [0, 1, 2, 3, 4]
    assert codes.dtype == np.uint8
    assert codes.flags.writeable


def test_lower_case_means_the_same_as_upper_case():
    np.testing.assert_array_equal(encode("acgtnACGTN"), [0, 1, 2, 3, 4] * 2)


def test_decoding_undoes_encoding():
    assert decode(encode("GATTACANN")) == "GATTACANN"
    assert decode(encode("")) == ""


@pytest.mark.parametrize("letter", ["R", "y", "U", "-", "*", " ", "\n", "é", "漢"])
def test_another_letter_is_named_with_its_position_and_count(letter):
    with pytest.raises(InputError, match=r"chr9 .* position 102 .* 2 in all") as e:
        encode(f"AC{letter}GT{letter}", label="chr9", first_position=100)
    assert repr(letter) in str(e.value)


@pytest.mark.parametrize("letter", ["R", "U", "-", "é", "漢"])
def test_another_letter_is_one_n_on_request(letter):
    assert decode(encode(f"AC{letter}G", ambiguous="N")) == "ACNG"


def test_encode_refuses_what_is_no_string():
    with pytest.raises(InputTypeError, match="row 3 is a bytes; expected a string"):
        encode(b"ACGT", label="row 3")


def test_encode_refuses_an_unknown_rule_for_other_letters():
    with pytest.raises(InputError, match="ambiguous='n' is unknown; choose \"error\""):
        encode("ACGT", ambiguous="n")


def test_decode_refuses_several_sequences_at_once(codes):
    with pytest.raises(InputError, match=r"shape \(3, 11\); decode one"):
        decode(codes)


def test_reverse_complement_by_hand():
    assert decode(reverse_complement(encode("AACGTN"))) == "NACGTT"


def test_reverse_complement_twice_is_the_identity(codes):
    once = reverse_complement(codes)
    np.testing.assert_array_equal(reverse_complement(once), codes)
    assert once.flags.c_contiguous
    assert once.dtype == np.uint8


def test_one_hot_has_channels_last_and_zeros_for_n():
    rows = one_hot(encode("ACGTN"))
    np.testing.assert_array_equal(rows[:4], np.eye(4))
    np.testing.assert_array_equal(rows[4], np.zeros(4))
    assert rows.dtype == np.float32


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float16, np.float64])
def test_one_hot_of_any_number_kind_becomes_codes_again(codes, dtype):
    np.testing.assert_array_equal(
        codes_from_one_hot(one_hot(codes).astype(dtype)), codes
    )


@pytest.mark.parametrize("value", [0.5, 0.25, -1.0, 2.0, np.nan, np.inf])
def test_one_hot_values_other_than_0_and_1_are_refused_with_their_place(codes, value):
    array = one_hot(codes)
    array[2, 5, 3] = value
    message = f"1 of 3 sequences .* sequence 2: value {value} at position 5, channel 3"
    with pytest.raises(InputError, match=message):
        codes_from_one_hot(array)


def test_two_ones_at_one_position_are_refused(codes):
    array = one_hot(codes)
    array[1, 4, :2] = 1
    with pytest.raises(InputError, match=r"sequence 1: more than one channel .* 4"):
        codes_from_one_hot(array)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((3, 4, 11), r"channels last: pass array.swapaxes\(1, 2\)"),
        ((11, 4), r"pass array\[None\]"),
        ((3, 11, 5), r"expected \(n, L, 4\)"),
        ((11,), r"expected \(n, L, 4\)"),
    ],
)
def test_one_hot_of_another_shape_is_refused_with_a_hint(shape, hint):
    with pytest.raises(InputError, match=hint):
        codes_from_one_hot(np.zeros(shape))


def test_one_hot_of_objects_is_refused():
    with pytest.raises(InputTypeError, match="dtype object"):
        codes_from_one_hot(np.full((2, 3, 4), None))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int8])
def test_codes_of_any_integer_kind_are_accepted(codes, dtype):
    checked = check_codes(codes.astype(dtype))
    np.testing.assert_array_equal(checked, codes)
    assert checked.dtype == np.uint8


@pytest.mark.parametrize("value", [5, -1, 255])
def test_codes_out_of_range_are_refused_with_their_place(codes, value):
    wide = codes.astype(np.int64)
    wide[1, 7] = value
    with pytest.raises(InputError, match=f"found {value} in sequence 1 at position 7"):
        check_codes(wide)


@pytest.mark.parametrize("dtype", [bool, np.float32, str, object])
def test_codes_that_are_no_integers_are_refused(dtype):
    with pytest.raises(InputTypeError, match="expected integers 0 to 4"):
        check_codes(np.zeros((2, 3), dtype))


def test_codes_of_one_dimension_are_refused_with_a_hint():
    with pytest.raises(InputError, match=r"shape \(3,\).*pass array\[None\]"):
        check_codes([0, 1, 2])


@pytest.mark.parametrize(
    ("sequence", "length", "expected"),
    [
        ("ACGT", 8, "NNACGTNN"),
        ("ACGT", 7, "NACGTNN"),
        ("ACG", 4, "NACG"),
        ("ACG", 8, "NNNACGNN"),
        ("ACG", 3, "ACG"),
    ],
)
def test_padding_puts_the_middle_letter_at_half_the_length(sequence, length, expected):
    assert decode(resize_codes(encode(sequence), length, resize="pad")) == expected


@pytest.mark.parametrize(
    ("sequence", "length", "expected"),
    [
        ("AACGTT", 2, "CG"),
        ("AACGTT", 3, "CGT"),
        ("AACGT", 4, "AACG"),
        ("AACGT", 5, "AACGT"),
    ],
)
def test_cropping_leaves_the_middle_letter_at_half_the_length(
    sequence, length, expected
):
    assert decode(resize_codes(encode(sequence), length, resize="crop")) == expected


@pytest.mark.parametrize(
    ("length", "resize", "message"),
    [
        (7, "error", 'row 1 is 5 bases long, 2 too few .*resize="pad"'),
        (3, "error", '2 too many .*resize="crop"'),
        (3, "pad", '2 too many .*resize="crop"'),
        (7, "crop", '2 too few .*resize="pad"'),
        (5, "trim", 'resize=\'trim\' is unknown; choose "error", "pad" or "crop"'),
    ],
)
def test_resizing_that_was_not_asked_for_is_refused(length, resize, message):
    with pytest.raises(InputError, match=message):
        resize_codes(encode("ACGTA"), length, resize=resize, label="row 1")


def test_n_fraction_counts_n():
    assert n_fraction(encode("ANNC")) == 0.5
    assert n_fraction(encode("")) == 0.0
