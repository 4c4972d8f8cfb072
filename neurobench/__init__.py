"""neurobench: the bench on which memristor crossbars are characterised, trained and emulated."""

__version__ = "0.1.0"
