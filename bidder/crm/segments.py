"""Which segments did the traders define, and by which rules?

``config/segments/*.yaml``, read into `Segments`. A rule is a tree: `all`, `any`, `not`, the name of
another segment, or one question to what is known of a person (`bidder.crm.asking` answers it).
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, get_args

from msgspec import Struct
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bidder.crm.activity import NAMES, Kind
from bidder.ids import hash32
from bidder.privacy import is_sensitive
from bidder.yamlfiles import Duration, InvalidFile, Model, Problem, nearest, read

Stage = Literal["prospect", "visitor", "new", "active", "lapsing", "lapsed", "won-back"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Count = Annotated[int, Field(ge=0, le=10_000)]
Amount = Annotated[float, Field(ge=0, le=1e9)]
Score = Annotated[int, Field(ge=1, le=5)]
EACH = "{category}"


def _kinds(names: object) -> tuple[Kind, ...]:
    given = [str(name) for name in (names if isinstance(names, list) else [names])]
    for name in given:
        if name not in NAMES:
            close = nearest(name, NAMES)
            hint = f"; did you mean {close!r}?" if close else ""
            raise ValueError(f"{name!r} is not something people do{hint}")
    if not given:
        raise ValueError("name at least one kind of event")
    return tuple([NAMES[name] for name in given])


Kinds = Annotated[tuple[Kind, ...], BeforeValidator(_kinds)]


def _seen(names: object) -> tuple[Kind, ...] | None:
    return None if names is None else () if names == "now" else _kinds(names)


def _ascending(values: list[int] | list[float]) -> list[int] | list[float]:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError("expected rising values")
    return values


class Ago(Model):
    """How long ago something was."""

    more_than: Duration = 0
    at_most: Duration | None = None


class Amounts(Model):
    """A range; both ends are in it."""

    at_least: Amount = 0
    at_most: Amount | None = None


class BasketLeft(Model):
    """A basket that no purchase followed. Values in the advertiser's currency."""

    value: Amounts = Amounts()
    age: Ago = Ago()


class Returned(Model):
    """The last purchase came in the last `within`, after none for at least `gap`."""

    gap: Duration
    within: Duration


class Overdue(Model):
    """No purchase for `times` as long as this person usually takes, judged by at least `orders`."""

    times: Annotated[float, Field(gt=0, le=100)]
    orders: Annotated[int, Field(ge=2, le=64)] = 3


def _any_score() -> list[int]:
    return [1, 2, 3, 4, 5]


class Cells(Model):
    """Scores from 1 to 5 that recency, frequency and money may have; left out = any."""

    recency: list[Score] = Field(default_factory=_any_score)
    frequency: list[Score] = Field(default_factory=_any_score)
    money: list[Score] = Field(default_factory=_any_score)


class Condition(Model):
    """One node of a rule: exactly one of the questions, with the details that belong to it."""

    all: "list[Condition] | None" = None
    any: "list[Condition] | None" = None
    not_: "Condition | None" = Field(None, alias="not")
    segment: str | None = None
    event: Kinds | None = None
    """It happened."""
    never: Kinds | None = None
    """It did not."""
    last: Kinds | None = None
    """The last time it happened lies `ago`."""
    first: Kinds | None = None
    """The first time it happened lies `ago`."""
    basket: BasketLeft | None = None
    orders: Amounts | None = None
    spent: Amounts | None = None
    returned: Returned | None = None
    overdue: Overdue | None = None
    rfm: Cells | None = None
    listed: Duration | None = None
    """A model or a person put them on the segment's list in the last so many days."""

    within: Duration | None = None
    at_least: Count = 1
    at_most: Count | None = None
    on_days: Count | None = None
    """On at least so many different days."""
    category: str = ""
    value: Amounts = Amounts()
    """Of each event that counts."""
    ago: Ago = Ago()

    @model_validator(mode="after")
    def _one_question(self) -> "Condition":
        asked = [name for name in QUESTIONS if getattr(self, name) is not None]
        if len(asked) != 1:
            names = ", ".join(name.rstrip("_") for name in QUESTIONS)
            raise ValueError(f"expected exactly one of {names}; found {len(asked)}")
        allowed = DETAILS.get(asked[0], frozenset())
        for name in self.model_fields_set - {asked[0]} - allowed:
            raise ValueError(f"{name!r} does not belong to {asked[0].rstrip('_')!r}")
        return self

    def parts(self) -> "Iterator[Condition]":
        """This node and all below it."""
        yield self
        below = [*(self.all or ()), *(self.any or ())]
        if self.not_ is not None:
            below.append(self.not_)
        for each in below:
            yield from each.parts()


QUESTIONS = ("all", "any", "not_", "segment", "event", "never", "last", "first", "basket",
             "orders", "spent", "returned", "overdue", "rfm", "listed")  # fmt: skip
_EVENT = frozenset({"within", "at_least", "at_most", "on_days", "category", "value"})
DETAILS = {
    "event": _EVENT,
    "never": frozenset({"within", "category", "value"}),
    "last": frozenset({"ago", "category", "value"}),
    "first": frozenset({"ago", "category", "value"}),
}


class Rule(Model):
    """One segment as traders write it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*|[a-z0-9-]*\{category\})$")]
    means: str
    when: Condition
    seen: Annotated[tuple[Kind, ...] | None, BeforeValidator(_seen)] = None
    """What gives the time last seen: the last such event, or the moment of judging. Left out, it
    is the latest event that the rule found, and the moment of judging if it found none."""
    stage: Stage | None = None
    """Members are in this stage of a customer's life, unless an earlier segment said otherwise."""
    categories: list[str] = Field(default_factory=list)
    """With `{category}` in the name: one segment for each of these."""


def _days() -> list[int]:
    return [30 * 86400, 90 * 86400, 180 * 86400, 365 * 86400]


def _orders() -> list[int]:
    return [2, 3, 5, 8]


def _sums() -> list[float]:
    return [50.0, 150.0, 300.0, 600.0]


Four = (Field(min_length=4, max_length=4), AfterValidator(_ascending))


class Scale(Model):
    """Where the scores of recency, frequency and money change: four rising bounds of each."""

    recency: Annotated[list[Duration], *Four] = Field(default_factory=_days)
    frequency: Annotated[list[Count], *Four] = Field(default_factory=_orders)
    money: Annotated[list[Amount], *Four] = Field(default_factory=_sums)


class File(Model):
    """One file of `config/segments`."""

    advertiser: str = ""
    """Only what this advertiser's CRM reported counts; left out, what anyone's did."""
    rfm: Scale = Scale()
    interests: dict[str, str] = Field(default_factory=dict)
    """Product category -> content category (IAB) that it shows an interest in."""
    segments: list[Rule]


class Segment(Struct, frozen=True):
    """One segment, ready to be judged."""

    name: str
    means: str
    when: Condition
    seen: tuple[Kind, ...] | None
    """None = what the rule found; empty = the moment of judging."""
    stage: str
    advertiser: int
    """32-bit id; 0 = any."""
    scale: Scale


class Segments(Struct, frozen=True):
    """All segments, those that others name before those that name them."""

    ordered: tuple[Segment, ...]
    interests: dict[str, str]

    def names(self) -> frozenset[str]:
        """What campaigns may name."""
        return frozenset([segment.name for segment in self.ordered])

    def listed(self) -> frozenset[str]:
        """Those whose members are on a list, which no rule makes anew."""
        return frozenset(
            segment.name
            for segment in self.ordered
            if any(part.listed is not None for part in segment.when.parts())
        )


NONE = Segments((), {})


def load(directory: Path) -> Segments:
    """All segments below `directory`; none if it does not exist. Raises `InvalidFile` with all
    that is wrong in all files."""
    problems: list[Problem] = []
    found: dict[str, Segment] = {}
    interests: dict[str, str] = {}
    for path in sorted(directory.glob("*.yaml")):
        try:
            document = read(path, File)
        except InvalidFile as error:
            problems += error.problems
            continue
        file = document.value
        for category, content in file.interests.items():
            if is_sensitive(content):
                message = (
                    f"{content} borders on health, politics, sexual orientation or faith (GDPR "
                    "Art. 9): no interest in it is concluded from what people look at; leave it out"
                )
                problems.append(document.problem("error", ("interests", category), message))
        interests.update({name.lower(): content for name, content in file.interests.items()})
        for place, rule in enumerate(file.segments):
            try:
                made = list(_segments(file, rule))
            except ValueError as error:
                problems.append(document.problem("error", ("segments", place), str(error)))
                continue
            for segment in made:
                if segment.name in found:
                    message = f"the segment {segment.name!r} is defined twice"
                    problems.append(document.problem("error", ("segments", place), message))
                found[segment.name] = segment
    if not problems:
        problems = list(_references(directory, found))
    if problems:
        raise InvalidFile(problems)
    return Segments(tuple(_ordered(found.values())), interests)


def names(directory: Path) -> frozenset[str] | None:
    """What campaigns may name; None if none are defined at all. Raises `InvalidFile`."""
    return load(directory).names() if any(directory.glob("*.yaml")) else None


def _segments(file: File, rule: Rule) -> Iterator[Segment]:
    if (EACH in rule.name) != bool(rule.categories):
        raise ValueError(f"{EACH} in the name and `categories` go together")
    for category in rule.categories or [""]:
        yield Segment(
            name=rule.name.replace(EACH, _slug(category)),
            means=rule.means.replace(EACH, category),
            when=_for(rule.when, category) if category else rule.when,
            seen=rule.seen,
            stage=rule.stage or "",
            advertiser=hash32(file.advertiser) if file.advertiser else 0,
            scale=file.rfm,
        )


def _slug(category: str) -> str:
    kept = "".join(each if each.isalnum() and each.isascii() else "-" for each in category.lower())
    return "-".join(part for part in kept.split("-") if part)


def _for(condition: Condition, category: str) -> Condition:
    """The condition with `{category}` filled in, all the way down."""
    change: dict[str, object] = {}
    if condition.category == EACH:
        change["category"] = category
    if condition.all is not None:
        change["all"] = [_for(each, category) for each in condition.all]
    if condition.any is not None:
        change["any"] = [_for(each, category) for each in condition.any]
    if condition.not_ is not None:
        change["not_"] = _for(condition.not_, category)
    return condition.model_copy(update=change) if change else condition


def _references(directory: Path, found: dict[str, Segment]) -> Iterator[Problem]:
    """Names of segments that are none, and circles."""
    for segment in found.values():
        for part in segment.when.parts():
            if part.segment is not None and part.segment not in found:
                close = nearest(part.segment, found)
                message = f"{segment.name}: no segment is called {part.segment!r}"
                yield Problem("error", directory, 1, segment.name, message, close)
    reached = {segment.name for segment in _ordered(found.values())}
    for name in found:
        if name not in reached:
            yield Problem("error", directory, 1, name, "the segment names itself, in a circle")


def _ordered(segments: Iterable[Segment]) -> list[Segment]:
    """Those that need no other first; what is in a circle, or needs it, is left out."""
    waiting = list(segments)
    done: dict[str, Segment] = {}
    while waiting:
        ready = [segment for segment in waiting if _needs(segment) <= done.keys()]
        if not ready:
            break
        done.update((segment.name, segment) for segment in ready)
        waiting = [segment for segment in waiting if segment.name not in done]
    return list(done.values())


def _needs(segment: Segment) -> set[str]:
    return {part.segment for part in segment.when.parts() if part.segment is not None}
