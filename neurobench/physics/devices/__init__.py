"""Named published devices: one TOML file each, with its source in the file."""
