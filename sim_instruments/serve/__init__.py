"""How simulated instruments are reached: inside pyvisa-sim, by socket, by serial line; with seeded faults."""
