"""Which line items come of one that is split? One for each arm, and one for whoever is in none.

Each arm is a whole line item with some settings of its own, so whatever a line item can say can be
tried; budgets and goals of the campaign stay shared. Arms are reported as ``line-item@arm``.
"""

from collections.abc import Iterator

from bidder.campaigns import catalogue, schema

EVERYONE = 100.0


def variants(
    item: schema.LineItem, path: str
) -> Iterator[tuple[schema.LineItem, catalogue.Arm | None]]:
    """The line items that `item`, whose path is `path`, comes to, and whom each speaks to."""
    if not item.split:
        yield item, None
        return
    reached = 0.0
    for arm in item.split:
        yield applied(item, arm), catalogue.Arm(path, reached, reached + arm.percent)
        reached += arm.percent
    if reached < EVERYONE:
        yield item, catalogue.Arm(path, reached, EVERYONE)


def applied(item: schema.LineItem, arm: schema.Arm) -> schema.LineItem:
    """`item` with the settings of `arm` in place of its own, whole ones: nothing is merged."""
    own = arm.model_fields_set - {"id", "percent"}
    if own & {"flight", "flights"}:
        own |= {"flight", "flights"}
    changes = {name: getattr(arm, name) for name in own}
    return item.model_copy(update=changes | {"id": f"{item.id}@{arm.id}", "split": ()})
