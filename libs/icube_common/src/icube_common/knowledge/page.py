"""The review page: one HTML file that loads nothing, shows every sentence, and hands out the decisions as JSON."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from icube_common.knowledge.bank import ClassKnowledge
from icube_common.runs import atomic_file


def review_page(knowledge: ClassKnowledge, *, remarks: Mapping[tuple[str, str], str] | None = None) -> str:
    """The page as text.

    Each sentence has its source, status and remark and buttons to accept, edit or reject it; the decisions stay in the
    browser's own store until "Download decisions" makes the file for `apply_decisions`. Nothing is sent anywhere.

    Args:
        knowledge: the sentences.
        remarks: (class, text) -> what to show with the sentence, such as its score.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("icube_common"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assert environment.loader is not None
    script = environment.loader.get_source(environment, "review.js")[0]
    return environment.get_template("review.html.j2").render(
        knowledge=knowledge,
        remarks=remarks or {},
        script=script,
        # the page runs this script and no other, whatever a sentence may hold
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    )


def save_review_page(
    knowledge: ClassKnowledge,
    path: str | Path,
    *,
    remarks: Mapping[tuple[str, str], str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `review_page`, whole or not at all.

    Raises:
        InputError: the file exists and ``overwrite`` is False.
    """
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(review_page(knowledge, remarks=remarks).encode("utf-8"))
    return Path(path)
