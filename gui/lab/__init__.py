"""The Emulator lab: from a curve to a device, and from a device to a chip."""
