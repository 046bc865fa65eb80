"""How intrusive would one more ad feel to this person, here and now? A number from 0 to 1.

It grows with repetition, the more so when recent or bunched, and with how personal the ad is; it
falls with relevance to what page and person are about. Signs follow the research named in
`config/intrusiveness.yaml`; sizes are assumptions until calibrated on a survey (`models`).
"""

import re
from collections.abc import Sequence
from math import exp, log, log1p

from bidder.campaigns.catalogue import Advertiser, Creative, LineItem
from bidder.capping.ledger import ADVERTISER, ANY_CHANNEL, Ledger
from bidder.capping.parameters import Parameters
from bidder.openrtb.opportunity import Opportunity
from bidder.openrtb.spelling import is_category_in, with_parents
from bidder.person import Profile

HOUR = 3600
_LN2 = log(2)
_FORGOTTEN = 12.0
"""Half-lives after which an exposure no longer counts: it weighs 1/4096."""
_WORDS = re.compile(r"\w+")


def intrusiveness(
    exposures: Sequence[int],
    now: int,
    relevance: float,
    specificity: float,
    parameters: Parameters,
    *,
    fewer_ads: bool = False,
) -> float:
    """Perceived intrusiveness, 0..1, of an ad shown at `now` (epoch seconds).

    `exposures` are the ascending times of what the advertiser has shown or sent this person.
    `relevance` and `specificity` are 0..1; `fewer_ads`: the person asked this advertiser for fewer.
    """
    wish = parameters.fewer_ads if fewer_ads else 0.0
    return _felt(pressure(exposures, now, parameters) + wish, relevance, specificity, parameters)


def pressure(exposures: Sequence[int], now: int, parameters: Parameters) -> float:
    """What past exposures add to the log-odds: all that does not depend on the next ad."""
    decay = _LN2 / (HOUR * parameters.repetition_half_life_hours)
    loosen = _LN2 / (HOUR * parameters.bunching_half_life_hours)
    oldest = now - _FORGOTTEN * _LN2 / decay
    widest = _FORGOTTEN * _LN2 / loosen
    repetition = bunching = 0.0
    following = now
    for time in reversed(exposures):
        if time < oldest:
            break
        weight = exp(-decay * (now - time)) if time < now else 1.0
        gap = following - time
        repetition += weight
        if gap < widest:
            bunching += weight * exp(-loosen * gap) if gap > 0 else weight
        following = time
    return parameters.repetition * log1p(repetition) + parameters.bunching * log1p(bunching)


def _felt(pushed: float, relevance: float, specificity: float, parameters: Parameters) -> float:
    odds = (
        parameters.base
        + pushed
        + parameters.specificity * specificity
        - parameters.relevance * relevance
    )
    return 1 / (1 + exp(-odds)) if odds > -700 else 0.0


class Judge:
    """Intrusiveness for one request: what its line items share is worked out once."""

    def __init__(
        self, offer: Opportunity, profile: Profile, ledger: Ledger, parameters: Parameters
    ) -> None:
        self._offer = offer
        self._profile = profile
        self._ledger = ledger
        self._parameters = parameters
        self._topics = with_parents(offer.categories)
        self._words: set[str] | None = None
        self._pressures: dict[int, float] = {}

    def intrusiveness(self, item: LineItem, creative: Creative) -> float:
        """How this creative of `item` would be felt, 0..1."""
        return _felt(
            self._pressure(item.campaign.advertiser),
            self.relevance(item, creative),
            self.specificity(item, creative),
            self._parameters,
        )

    def specificity(self, item: LineItem, creative: Creative) -> float:
        """How much the ad shows that it knows of the person, 0..1."""
        if creative.product:
            return self._parameters.specificity_product
        if item.audience.anyone:
            return self._parameters.specificity_open
        return self._parameters.specificity_audience

    def relevance(self, item: LineItem, creative: Creative) -> float:
        """How much the ad is about what page and person are about now, 0..1."""
        given, about = self._parameters, item.about
        off = 1.0
        if not about.categories.isdisjoint(self._topics):
            off *= 1 - given.relevance_page_category
        if about.keywords and not about.keywords.isdisjoint(self._page_words()):
            off *= 1 - given.relevance_page_keyword
        signal = self._interest(item)
        if signal:
            age = max(self._ledger.now - signal, 0) / (HOUR * given.interest_half_life_hours)
            off *= 1 - given.relevance_interest * exp(-_LN2 * age)
        if off == 1.0:
            return 0.0
        spoken, read = creative.language, self._offer.language
        return (1 - off) * (given.other_language if spoken and read and spoken != read else 1.0)

    def _pressure(self, advertiser: Advertiser) -> float:
        found = self._pressures.get(advertiser.id32)
        if found is None:
            exposures = self._ledger.exposures(ADVERTISER, advertiser.id32, ANY_CHANNEL)
            found = pressure(exposures, self._ledger.now, self._parameters)
            if advertiser.id in self._profile.fewer_ads:
                found += self._parameters.fewer_ads
            self._pressures[advertiser.id32] = found
        return found

    def _interest(self, item: LineItem) -> int:
        """When the person last gave a sign of interest in what `item` is about; 0 = never."""
        about, profile = item.about.categories, self._profile
        basket = profile.baskets.get(item.campaign.advertiser.id)
        latest = basket.updated if basket is not None else 0
        if not about:
            return latest
        if not profile.unwanted.isdisjoint(about):
            return 0
        for topic, at in profile.interests.items():
            if at > latest and is_category_in(topic, about):
                latest = at
        return latest

    def _page_words(self) -> set[str]:
        if self._words is None:
            text = self._offer.keywords.lower()
            self._words = {*_WORDS.findall(text), *map(str.strip, text.split(","))}
        return self._words
