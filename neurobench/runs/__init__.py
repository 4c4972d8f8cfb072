"""Doing and recording: the runner, the run file, and the engine process."""
