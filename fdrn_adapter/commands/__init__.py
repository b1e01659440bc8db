"""The subcommands of `fdrn`, one file each."""
