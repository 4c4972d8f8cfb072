"""The first example compiles the kernels, and two workers share two cores: a deadline would only measure that."""

from hypothesis import settings

settings.register_profile("compiled", deadline=None)
settings.load_profile("compiled")
