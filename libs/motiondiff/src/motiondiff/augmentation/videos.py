"""Store as videos in class folders, for training recognition from video."""

from __future__ import annotations

from pathlib import Path

from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from motiondiff.data.store import MotionStore
from motiondiff.export.images.render import write_mp4

SIZE = (240, 240)


def render_store(
    store: MotionStore, folder: str | Path, *, split: str | None = None, size: tuple[int, int] = SIZE
) -> int:
    """Draw every labelled clip into ``<class>/<clip>.mp4``, without text in the image (it names the class).

    Args:
        store: what is drawn.
        folder: made where it is not there.
        split: only one split.
        size: (width, height) pixels.

    Returns:
        How many videos were written.

    Raises:
        InputError: a clip without an action, an action or id that is no file name, or a file that cannot be written.
    """
    clips = store.select(split)
    store.check_actions(clips, "it has no class folder")
    actions = store.names("action", clips)
    for clip, action in zip(clips.tolist(), actions, strict=True):
        for name in (action, store.clip_ids[clip]):
            if name != Path(name).name or name in {".", ".."} or "\\" in name:
                raise InputError(f"{store.path}: {name!r} cannot name a folder or file; rename it (prepare --labels)")
    with progress_bar(zip(clips.tolist(), actions, strict=True), desc="render", unit="clip", total=len(clips)) as bar:
        for clip, action in bar:
            path = Path(folder) / action / f"{store.clip_ids[clip]}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mp4(store[clip], path, size=size, caption="")
    return len(clips)
