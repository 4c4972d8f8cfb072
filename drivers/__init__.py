"""Backends of the crossbar contract and the vocabularies of instruments, one file each, found by scan."""

if __name__ != "neurobench.drivers":
    raise ImportError(
        f"this folder was imported as {__name__!r}; import it as 'neurobench.drivers' "
        "(install neurobench, or run 'pip install -e .' in the checkout)"
    )
