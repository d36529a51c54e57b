"""The subcommands of ``debian-mri``, a file for each part of the library."""
