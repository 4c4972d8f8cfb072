"""The contract with the world: what may be asked of a crossbar, by whom, and within which limits."""
