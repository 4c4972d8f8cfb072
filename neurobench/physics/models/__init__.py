"""Device models, one file each, found by scan (`neurobench.registry`)."""
