"""Live views: each shows one snapshot, of a live run or an old one, and knows nothing else."""
