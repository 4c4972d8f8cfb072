"""The window: the only importer of Qt."""

if __name__ != "neurobench.gui":
    raise ImportError(
        f"this folder was imported as {__name__!r}; import it as 'neurobench.gui' "
        "(install neurobench, or run 'pip install -e .' in the checkout)"
    )
