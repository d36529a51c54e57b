"""Container formats that FFmpeg opens as a video although they are none: still images, text, playlists."""

from __future__ import annotations

# FFmpeg's names of demuxers; a file whose name ends in .nfo or .asc is drawn as a terminal's screen by "tty"
_TEXT = ("tty", "bin", "xbin", "adf", "idf")
# these open other files or addresses, which are not the clip that was named
_PLAYLISTS = ("concat", "hls", "applehttp", "dash", "imf", "sdp", "rtsp", "lavfi")


def not_a_video(container: str) -> str | None:
    """The reason why a container is no video, or None where it may be one.

    Args:
        container: FFmpeg's name of the container, several separated by commas (``"mov,mp4,m4a,3gp,3g2,mj2"``).
    """
    names = container.split(",")
    if any(name.startswith("image2") or name.endswith("_pipe") for name in names):
        return "a still image"
    if any(name in _TEXT for name in names):
        return "text"
    if any(name in _PLAYLISTS for name in names):
        return "a playlist"
    return None
