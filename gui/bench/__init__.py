"""The Bench page: the next run as a form, its preview, and the queue."""
