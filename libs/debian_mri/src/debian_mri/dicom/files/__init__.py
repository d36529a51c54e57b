"""DICOM files: headers, pixels, multi-frame and mosaic objects, damaged files."""
