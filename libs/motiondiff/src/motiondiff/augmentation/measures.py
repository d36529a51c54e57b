"""What a clip is measured by before it may train a recogniser: physics, and distance to other clips.

Shapes: N clips, T frames, J joints. Metres, y up, floor at y = 0.
"""
