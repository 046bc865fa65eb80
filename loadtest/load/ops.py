"""What does the bidder say of itself? Its counters, read from the ops port."""

from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


class OpsUnreachable(RuntimeError):
    """The ops port does not answer as it should."""


def scrape(ops: str) -> dict[str, float]:
    """All samples of ``/metrics`` under `ops`, named ``name{label="value"}`` as on the page."""
    url = ops.rstrip("/") + "/metrics"
    try:
        with urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
    except (URLError, OSError, ValueError) as error:
        raise OpsUnreachable(f"no metrics at {url}: {error}") from error
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def total(samples: dict[str, float], name: str) -> float:
    """The sum of all samples called `name`, whatever their labels."""
    return sum(value for key, value in samples.items() if key.partition("{")[0] == name)
