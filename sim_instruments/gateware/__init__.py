"""The gateware of the FPGA board, in Amaranth: docs/fpga-wire.md in hardware."""
