"""Reads metrics as Prometheus does, and checks their form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

# By the last word of a name, what it has to be (https://prometheus.io/docs/practices/naming/).
_UNITS: Final = {"ms", "milliseconds", "minutes", "kilobytes", "percent"}


@dataclass(frozen=True)
class Scraped:
    """What one scrape found."""

    families: Mapping[str, Metric]

    def value(self, sample: str, **labels: str) -> float | None:
        """The value of a sample, such as `jobs_ended_total`; None if it is not there."""
        for family in self.families.values():
            for each in family.samples:
                if each.name == sample and each.labels == labels:
                    return each.value
        return None

    def labels(self, name: str) -> set[str]:
        """All values of a label."""
        samples = (each for family in self.families.values() for each in family.samples)
        return {each.labels[name] for each in samples if name in each.labels}


def scraped(text: str) -> Scraped:
    """The metrics of a text, each once, with a type, help, and a name by the rules."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.name.startswith("jobs_"), family
        assert family.documentation.endswith("."), family
        assert family.type in {"counter", "gauge", "histogram"}, family
        assert not _UNITS & {*family.name.split("_")}, family
        if family.type == "counter":
            assert all(each.name == f"{family.name}_total" for each in family.samples), family
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), family
    return Scraped({family.name: family for family in families})
