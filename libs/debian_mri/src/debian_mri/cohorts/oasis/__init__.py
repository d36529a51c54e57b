"""OASIS-1, OASIS-2 and OASIS-3, as volumes and as slices."""
