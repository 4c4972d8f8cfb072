"""The vocabularies of instruments, one file per family, found by scan; what they have in common begins with `_`."""
