"""Readers of video sets: each turns one published layout into clips with labels and official protocols.

``get_reader(name)`` gives a module with ``find(source, splits)``; imported on demand.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from icube_common.errors import unknown

if TYPE_CHECKING:
    from actprompt.data.readers.base import Reader


@dataclass(frozen=True)
class ReaderInfo:
    """A format by name, the module that reads it, one line for people.

    Attributes:
        split_files: it has official files of splits, which ``--splits`` names.
        lists: its source is a list of clips, or one for each part of a split.
        official: its classes are those of a published set; ``--class-names`` does not go with it.
    """

    name: str
    module: str
    description: str
    split_files: bool = False
    lists: bool = False
    official: bool = True


FORMATS: dict[str, ReaderInfo] = {
    info.name: info
    for info in (
        ReaderInfo("folder", "folder", "one folder of videos per class", official=False),
        ReaderInfo("csv", "lists.csv_list", "lists of clips and labels", lists=True, official=False),
        ReaderInfo("ucf101", "ucf101", "UCF101 with trainlist01-03 and testlist01-03", True),
        ReaderInfo("hmdb51", "hmdb51", "HMDB51 with <class>_test_split1-3.txt", True),
        ReaderInfo("kinetics", "kinetics", "Kinetics: CSV files and <id>_<start>_<end>.mp4", True),
        ReaderInfo("ntu-rgbd", "ntu_rgbd", "NTU RGB+D 60, 120: SsssCcccPpppRrrrAaaa_rgb.avi", True),
        ReaderInfo("smarthome", "smarthome", "Toyota Smarthome: Label_pXX_rXX_vXX_cXX.mp4"),
        ReaderInfo("etri", "etri", "ETRI-Activity3D: Aaaa_Pppp_Gggg_Cccc.mp4"),
        ReaderInfo("florence3d", "florence3d", "Florence 3D: index.csv, clips, features.txt"),
    )
}


def get_reader(name: str) -> Reader:
    """The reader of a format, imported now.

    Raises:
        InputError: no such format; the nearest name is given.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return cast("Reader", importlib.import_module(f"{__name__}.{FORMATS[name].module}"))
