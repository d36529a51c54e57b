"""Videos with skeletons in class folders, for action recognition from video.

    [<part>/]<class>/<clip>.mp4    the drawn motion, without text in the image (it would name the class)
    [<part>/]<class>/<clip>.npz    its skeleton (`motiondiff.export.npz`): ``positions``, ``fps``, ``joint_names``

Parts are train, val and test, where the clips are of more than one split. ``actprompt prepare FOLDER --format folder``
reads videos and skeletons of such a folder.
"""

from __future__ import annotations

from pathlib import Path

from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from motiondiff.data.store import MotionStore
from motiondiff.export.datasets.class_names import SPLIT_NAMES
from motiondiff.export.images.render import write_mp4
from motiondiff.export.npz import write_npz

SIZE = (240, 240)


def write_video_folder(
    store: MotionStore, folder: str | Path, *, split: str | None = None, size: tuple[int, int] = SIZE
) -> int:
    """Draw every labelled clip into ``<class>/<clip>.mp4``, with its skeleton in ``<class>/<clip>.npz``.

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
    actions, splits = store.names("action", clips), store.names("split", clips)
    parted = len(set(splits)) > 1
    for clip, action in zip(clips.tolist(), actions, strict=True):
        for name in (action, store.clip_ids[clip]):
            if name != Path(name).name or name in {".", ".."} or "\\" in name:
                raise InputError(f"{store.path}: {name!r} cannot name a folder or file; rename it (prepare --labels)")
    rows = zip(clips.tolist(), actions, splits, strict=True)
    with progress_bar(rows, desc="render", unit="clip", total=len(clips)) as bar:
        for clip, action, part in bar:
            parent = Path(folder) / SPLIT_NAMES[part] / action if parted else Path(folder) / action
            parent.mkdir(parents=True, exist_ok=True)
            motion, name = store[clip], store.clip_ids[clip]
            write_mp4(motion, parent / f"{name}.mp4", size=size, caption="")
            write_npz(motion, parent / f"{name}.npz", clip_id=name)
    return len(clips)
