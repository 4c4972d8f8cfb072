"""The other end of the cable: simulated instruments with the emulated chip behind them."""

if __name__ != "neurobench.sim_instruments":
    raise ImportError(
        f"this folder was imported as {__name__!r}; import it as 'neurobench.sim_instruments' "
        "(install neurobench, or run 'pip install -e .' in the checkout)"
    )
