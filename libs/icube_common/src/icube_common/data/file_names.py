"""File-name grammars of public data sets that more than one library reads: NTU RGB+D and ETRI-Activity3D."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from icube_common.data.class_lists import ETRI_ACTIVITY3D, NTU_RGBD
from icube_common.errors import InputError


@dataclass(frozen=True)
class FileNameGrammar:
    """Numbers in a file name, with their ranges.

    Attributes:
        text: the name as the data set's page writes it, for messages.
        pattern: matches a name without suffix, in any case; each named group is a number.
        ranges: group -> smallest and largest number.
    """

    text: str
    pattern: str
    ranges: Mapping[str, tuple[int, int]]

    def match(self, stem: str) -> re.Match[str] | None:
        """Match of a file name without suffix; ranges are not checked."""
        return re.fullmatch(self.pattern, stem, re.IGNORECASE)

    def parse(self, stem: str) -> dict[str, int]:
        """Numbers of a file name without suffix.

        Raises:
            InputError: another name, or a number out of range.
        """
        match = self.match(stem)
        if match is None:
            raise InputError(f"the name is not {self.text}")
        numbers = {key: int(value) for key, value in match.groupdict().items()}
        for key, (low, high) in self.ranges.items():
            if not low <= numbers[key] <= high:
                raise InputError(f"{key} {numbers[key]} is not from {low} to {high}")
        return numbers


NTU_RGBD_NAME = FileNameGrammar(
    text="SsssCcccPpppRrrrAaaa",
    pattern=r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<performer>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})",
    ranges={
        "setup": (1, 32),
        "camera": (1, 3),
        "performer": (1, 106),
        "replication": (1, 2),
        "action": (1, len(NTU_RGBD)),
    },
)
"""github.com/shahroudy/NTURGB-D; Liu et al., "NTU RGB+D 120", TPAMI 2020."""

ETRI_NAME = FileNameGrammar(
    text="Aaaa_Pppp_Gggg_Cccc",
    pattern=r"A(?P<action>\d{3})_?P(?P<person>\d{3})_?G(?P<group>\d{3})_?C(?P<camera>\d{3})",
    ranges={"action": (1, len(ETRI_ACTIVITY3D)), "person": (1, 100), "camera": (1, 8)},
)
"""Jang et al., "ETRI-Activity3D", IROS 2020."""
