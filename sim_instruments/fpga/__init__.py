"""The simulated FPGA board: docs/fpga-wire.md read from the board's side, with an emulated chip behind it."""
