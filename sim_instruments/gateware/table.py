"""Where things stand in the executor's table, the one small memory of what is told to the host or checked against."""

from __future__ import annotations

IDENTITY_AT = 0
LIMITS_AT = 88  # a multiple of 8, and the times a multiple of 16: an address is put together, not added up
TIMES_AT = LIMITS_AT + 8
LIVE_AT = 128  # what the reply that goes out next tells
KEPT_AT = 192  # status of the kept reply
TABLE_BYTES = 256
