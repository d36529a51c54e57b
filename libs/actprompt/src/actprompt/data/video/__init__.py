"""Videos: what is in a file, and chosen frames of it, with PyAV.

Frame k of a file is the k-th picture that decoding its picture track from the start gives, as a player shows it:
upright, with square pixels.
"""

from actprompt.data.video.decoding import VideoError
from actprompt.data.video.reader import (
    VideoClip,
    VideoInfo,
    decoder_key,
    indices_at,
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
    "probe",
    "read_clip",
    "read_frames",
]
