"""What all simulated instruments are made of: command grammars, status registers, queues. No transport, no physics."""
