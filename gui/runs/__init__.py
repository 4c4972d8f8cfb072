"""The Runs page: what was done, compared and done again; sweeps."""
