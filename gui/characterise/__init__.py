"""The Characterise page: reads and pulses by hand."""
