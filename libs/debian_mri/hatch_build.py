"""Build hook: depend on icube-common in the way that the kind of build can resolve.

It lies next to this library in the repository and on no package index, so no single line of pyproject.toml fits an
editable install, a normal one and a build from an sdist.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where hatchling brings tomli
    import tomli as tomllib

EXTRAS: tuple[str, ...] = ("vlm", "offline")


def common_requirements(sibling: Path, version: str) -> list[str]:
    """The requirement lines that bring icube-common.

    Args:
        sibling: where ``libs/icube_common`` would be.
        version: hatch's name of the build, ``"editable"`` or ``"standard"``.
    """
    wanted = "icube-common" + (f"[{','.join(EXTRAS)}]" if EXTRAS else "")
    manifest = sibling / "pyproject.toml"
    if not manifest.is_file():
        return [wanted]
    if version != "editable":
        return [f"{wanted} @ {sibling.as_uri()}"]
    # `dev-mode-dirs` puts the sibling's sources on the path, live; what is missing is what they need themselves
    project = tomllib.loads(manifest.read_text(encoding="utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    return lines


class CommonDependency(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the requirement lines while the wheel is made."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before each build."""
        sibling = (Path(self.root).parent / "icube_common").resolve()
        build_data["dependencies"].extend(common_requirements(sibling, version))
