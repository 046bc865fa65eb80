"""How does chance fall, the same way whatever a bidder does?

A number is a pure function of a key and a channel (SplitMix64, Steele, Lea and Flood 2014), so two
bidders, or two settings of one, meet the same prices, clicks and delays: paired comparisons need
far fewer requests.
"""

from math import log
from statistics import NormalDist

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_inverse_normal = NormalDist().inv_cdf
_TINY = 2.0**-54


def mix(key: int, channel: int) -> int:
    """64 well-mixed bits of (`key`, `channel`)."""
    z = (key + (channel + 1) * _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def uniform(key: int, channel: int) -> float:
    """A number in (0, 1) of (`key`, `channel`)."""
    return (mix(key, channel) >> 11) * 2.0**-53 + _TINY


def exponential(key: int, channel: int, mean: float) -> float:
    """An exponential number with this mean."""
    return -mean * log(uniform(key, channel))


def normal(key: int, channel: int) -> float:
    """A standard normal number."""
    return _inverse_normal(min(uniform(key, channel), 1 - 2.0**-53))
