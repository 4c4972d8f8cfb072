"""The emulated world: chips, device models, wires and readout."""
