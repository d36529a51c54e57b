"""De-identification: keyed pseudonyms, safe vocabulary, JSON sidecars and DICOM files after PS3.15 Annex E."""
