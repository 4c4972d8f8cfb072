"""The frame around every page: bar, modes, messages, actions, closing."""
