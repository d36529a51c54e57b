"""Catalogue of the methods by name, in the order of a table."""

from __future__ import annotations

from collections.abc import Sequence

from icube_common.errors import InputError, unknown
from icube_common.experiments.methods.adapters import TaskRes, TipAdapter, TipAdapterF
from icube_common.experiments.methods.base import Method
from icube_common.experiments.methods.heads import LinearProbe, NearestMean, ZeroShot
from icube_common.experiments.methods.plain import NearestNeighbours, RandomisedTrees
from icube_common.experiments.methods.prompts import CoCoOp, CoOp, KgCoOp


def all_methods() -> dict[str, Method]:
    """Name -> method with its default settings."""
    methods: list[Method] = [
        ZeroShot(),
        ZeroShot(texts="ensemble"),
        ZeroShot(texts="descriptions"),
        NearestMean(),
        NearestNeighbours(),
        RandomisedTrees(),
        LinearProbe(),
        TipAdapter(),
        TipAdapterF(),
        TaskRes(),
        CoOp(),
        CoCoOp(),
        KgCoOp(),
    ]
    return {method.name: method for method in methods}


def select_methods(names: str | Sequence[str]) -> list[Method]:
    """Methods by their names, or all of them.

    Args:
        names: ``"all"``, ``"none"``, names with commas between them, or a list of names.

    Raises:
        InputError: an unknown name, or one twice.
    """
    methods = all_methods()
    if names == "all":
        return list(methods.values())
    listed = [] if names == "none" else names.split(",") if isinstance(names, str) else list(names)
    chosen = [name.strip() for name in listed]
    for name in chosen:
        if name not in methods:
            raise unknown("method", name, list(methods))
        if chosen.count(name) > 1:
            raise InputError(f"method {name}: named twice")
    return [methods[name] for name in chosen]
