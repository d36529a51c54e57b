from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icube_common.data.file_names import ETRI_NAME, NTU_RGBD_NAME, FileNameGrammar
from icube_common.errors import InputError


def test_names_of_the_sets() -> None:
    assert NTU_RGBD_NAME.parse("S001C002P003R002A120") == {
        "setup": 1, "camera": 2, "performer": 3, "replication": 2, "action": 120,
    }  # fmt: skip
    assert ETRI_NAME.parse("a055_p100_g001_c008") == ETRI_NAME.parse("A055P100G001C008")
    assert ETRI_NAME.match("A099P999G001C001") is not None  # in the grammar, out of the ranges


@pytest.mark.parametrize(
    ("grammar", "stem", "message"),
    [
        (NTU_RGBD_NAME, "S001C002P003R002A121", "action 121 is not from 1 to 120"),
        (NTU_RGBD_NAME, "S001C002P003R002A001_rgb", "the name is not SsssCcccPpppRrrrAaaa"),
        (NTU_RGBD_NAME, "S000C002P003R002A001", "setup 0 is not from 1 to 32"),
        (ETRI_NAME, "A001_P101_G001_C001", "person 101 is not from 1 to 100"),
        (ETRI_NAME, "A001", "the name is not Aaaa_Pppp_Gggg_Cccc"),
    ],
)
def test_other_names_are_refused(grammar: FileNameGrammar, stem: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        grammar.parse(stem)


@given(st.from_regex(NTU_RGBD_NAME.pattern, fullmatch=True))
def test_any_name_of_the_grammar_has_five_numbers_or_one_out_of_range(stem: str) -> None:
    try:
        numbers = NTU_RGBD_NAME.parse(stem)
    except InputError as error:
        assert "is not from" in str(error) or not stem.isascii()
    else:
        assert len(numbers) == 5
