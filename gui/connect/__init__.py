"""The Connect page: which bench, is it well, what its chip bears."""
