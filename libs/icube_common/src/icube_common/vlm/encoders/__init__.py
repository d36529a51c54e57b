"""Image encoders beside those of open_clip: networks of other libraries, and a user's own."""
