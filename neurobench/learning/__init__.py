"""The parts that training rules are built from: pure steps, no I/O."""
