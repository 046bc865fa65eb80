"""Who visits what, what do others bid, and what makes a person click or buy?

`load_world` reads a description; `People`, `Visits` and `Truth` make it live, reproducibly from a
seed. Nothing here knows a bidder.
"""

from .description import World, load_world, world_names
from .people import Device, People
from .truth import Chance, Truth
from .visits import View, Visits

__all__ = [
    "Chance",
    "Device",
    "People",
    "Truth",
    "View",
    "Visits",
    "World",
    "load_world",
    "world_names",
]
