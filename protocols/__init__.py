"""Training rules and characterisation, one file per protocol, found by scan."""

if __name__ != "neurobench.protocols":
    raise ImportError(
        f"this folder was imported as {__name__!r}; import it as 'neurobench.protocols' "
        "(install neurobench, or run 'pip install -e .' in the checkout)"
    )
