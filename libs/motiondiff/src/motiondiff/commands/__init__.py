"""The subcommands, a file for each kind of work. Nothing heavy is imported before one runs."""
