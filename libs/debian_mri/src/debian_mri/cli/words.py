"""The command around reports: verify. Nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from icube_common.errors import InputError


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", metavar="REPORT", help="a report (.json), or a folder that is searched for reports")


def _verify(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.explanation.verify import verify_files

    result = verify_files(args.report)
    if wrong := result["problems"]:
        file, problems = next(iter(wrong.items()))
        more = sum(map(len, wrong.values())) - 1
        raise InputError(f"{file}: {problems[0]}" + (f" (and {more} more problems)" if more else ""))
    return result


def _render(result: Mapping[str, Any]) -> str:
    count = result["reports"]
    return f"{count} report{'' if count == 1 else 's'}: every number agrees with the computation"


COMMANDS: Mapping[str, cli.Command] = {
    "verify": cli.Command("check the text of reports against what was computed", _verify, _verify_arguments, _render),
}
