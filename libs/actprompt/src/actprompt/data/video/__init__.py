"""Video reading with PyAV: properties of a file, and chosen frames of it.

Frame k of a file is the k-th image that decoding its video track from the start gives, as a player shows it:
upright, with square pixels.
"""

from actprompt.data.video.decoding import VideoError
from actprompt.data.video.reader import (
    VideoClip,
    VideoInfo,
    decoder_key,
    indices_at,
    iterate_clips,
    iterate_frames,
    probe,
    read_clip,
    read_frames,
)

__all__ = [
    "VideoClip",
    "VideoError",
    "VideoInfo",
    "decoder_key",
    "indices_at",
    "iterate_clips",
    "iterate_frames",
    "probe",
    "read_clip",
    "read_frames",
]
