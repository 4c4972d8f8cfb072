"""Whole simulated benches, one file each, found by scan: instruments, wiring and chip as a bench file says."""
