"""What goes on in the window, and who may change it: bench, run, queue, what is shown. No widgets."""
