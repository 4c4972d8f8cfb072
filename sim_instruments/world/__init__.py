"""What stands behind the simulated instruments: wires, relays, time, and one emulated chip."""
