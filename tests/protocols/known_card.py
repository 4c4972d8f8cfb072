"""A device whose numbers are known, as a card: to be measured, and compared with what was found."""

from __future__ import annotations


def known_card(
    read_s: float, step_s: float, v0_v: float, up_width_s: float, down_width_s: float, rate_down: float
) -> str:
    """Soft bounds between 1e-6 S and 1e-5 S, with the noise of a read and of a step, and a sinh current."""
    return f"""
name = "known"
source = "made for a test: soft bounds"
model = "soft_bounds"
pulse = [
    {{ direction = "potentiate", amplitude_v = 1.2, width_s = {up_width_s} }},
    {{ direction = "depress", amplitude_v = -1.1, width_s = {down_width_s} }},
]
[window]
g_min_s = 1e-6
g_max_s = 1e-5
g_start_s = 2e-6
[read]
voltage_v = 0.1
[noise]
read_sigma_s = {read_s}
step_sigma_s = {step_s}
[write_current]
law = "sinh"
v0_v = {v0_v}
[parameters]
rate_up = 0.03
rate_down = {rate_down}
"""
