"""Series and their volumes: grouping of frames, voxel geometry, order of the volumes of a 4-D series."""
