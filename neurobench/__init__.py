"""neurobench: the bench on which memristor crossbars are characterised, trained and emulated."""

__version__ = "0.1.0"
# Another project on PyPI uses the same import name; `registry.ensure_ours` looks for this mark.
__project__ = "neurobench-hil"
