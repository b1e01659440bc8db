"""Programs that use exported networks; `fdrn export` copies them beside the files."""
