"""The `firewall` section: which clients may not connect at all, and the rules that it compiles to.

Promises: each network, country and limit is checked as it is read; the database of countries is opened then, from the file beside
the configuration, and read anew at a reload. Refuses to know what a rule means for a connection (router/net/firewall.py).

Source: requirements 134 and 136; the names of the keys are those of mc-proxy, whose plan source 001 is.
"""

import re
from typing import Annotated, Self, TypeAlias

from pydantic import BaseModel, PlainValidator, ValidationInfo, model_validator

from authz.networks import Networks
from router.config.domains import STRICT, entry
from router.config.scalars import Count, Duration, LoadContext, Network, context_of, mistake
from router.net.countries import MAX_BYTES, Countries, NoReader
from router.net.firewall import NO_RULES, FirewallRules

_CODE = re.compile(r"[A-Za-z]{2}", re.ASCII)
_LONGEST = 4096
_EXTRA = "install it with `pip install 'vestibule[geoip]'`, or remove geoip_db and blocked_countries"


def _country(value: object) -> str:
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        raise mistake("the two letters of a country in ISO 3166, such as NO", "one country an item")
    return value.upper()


def _database(value: object, info: ValidationInfo) -> Countries | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\n" in value or len(value) > _LONGEST:
        raise mistake("the path of a MaxMind database", "such as /var/lib/GeoIP/GeoLite2-Country.mmdb")
    data = _read(value, context_of(info))
    try:
        return Countries(data)
    except NoReader:
        raise mistake("the extra `geoip`, which reads the database", _EXTRA) from None
    except ValueError as error:
        raise mistake("a MaxMind database of countries", f"{error}; fetch it again, uncompressed") from None


def _read(name: str, context: LoadContext) -> bytes:
    try:
        path = context.base / name
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file name"
        raise mistake("a file that can be read", f"{reason}; a relative path starts at the folder of the configuration") from None
    if len(data) > MAX_BYTES:
        raise mistake(f"a database of at most {MAX_BYTES >> 20} MiB", "name the right file")
    context.files.append(path)
    return data


Country: TypeAlias = Annotated[str, PlainValidator(_country)]
CountryDatabase: TypeAlias = Annotated[Countries | None, PlainValidator(_database)]


class FirewallConfig(BaseModel):
    """Rules about the client's real address, before anything it sends is looked at. Off unless configured."""

    model_config = STRICT
    blocked_ips: tuple[Network, ...] = entry((), "addresses that may not connect")
    blocked_cidrs: tuple[Network, ...] = entry((), "networks that may not connect; ten thousand cost what ten do")
    blocked_countries: tuple[Country, ...] = entry((), "countries (ISO 3166) that may not connect; need `geoip_db`")
    geoip_db: CountryDatabase = entry(
        None, "path of a MaxMind database (GeoLite2 Country or the like); what it does not know may connect. Needs `[geoip]`"
    )
    rate_limit: Count = entry(0, "new connections of one address, IPv6 of one /64, in each `rate_window`; 0: any number")
    rate_window: Duration = entry(60.0, "how long `rate_limit` counts; at most 65,536 addresses are told apart meanwhile")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.blocked_countries and self.geoip_db is None:
            raise mistake(
                "`geoip_db` beside blocked_countries", "name a MaxMind database, or remove the countries: nobody is blocked"
            )
        if self.rate_limit and self.rate_window <= 0:
            raise mistake("a rate_window beside rate_limit", "write how long it counts, such as 1m")
        return self


def firewall_rules(section: FirewallConfig) -> FirewallRules:
    """What a firewall is given; NO_RULES itself where nothing is configured."""
    countries = section.geoip_db if section.blocked_countries else None
    rules = FirewallRules(
        blocked=Networks((*section.blocked_ips, *section.blocked_cidrs)),
        countries=frozenset(section.blocked_countries),
        country_of=None if countries is None else countries.of,
        rate_limit=section.rate_limit,
        rate_window=section.rate_window,
    )
    return NO_RULES if rules.empty else rules
