"""Facts about countries, from the packages babel (CLDR: names, languages, currencies) and countryinfo (the rest).

in:  relations
out: {country: {relation: value}}, the most populous country first, for the countries that have one value for each

Everything is in English and ASCII: Brasilia, Cote d'Ivoire.
"""

import unicodedata
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

Facts = dict[str, dict[str, str]]

# Where the packages are out of date, or name a country as nobody does.
NAMES = {"TR": "Turkey", "CD": "Democratic Republic of the Congo", "CG": "Republic of the Congo"}
CAPITALS = {"KZ": "Astana", "BI": "Gitega", "SZ": "Mbabane", "VA": "Vatican City"}
LANGUAGES = {"nb": "no"}

NORTH_AMERICA = ("Northern America", "Central America", "Caribbean")


class Country(NamedTuple):
    """code: ISO 3166-1 alpha-2. info: countryinfo's entry. english: babel's English locale."""

    code: str
    info: dict[str, Any]
    english: Any


def facts(relations: Sequence[str]) -> Facts:
    """Raises ValueError where the packages are not installed."""
    found: Facts = {}
    for country in sorted(_countries(), key=lambda country: (-(country.info.get("population") or 0), country.code)):
        values = {relation: _ascii(RELATIONS[relation](country)) for relation in relations}
        if all(values.values()):
            found.setdefault(_name(country), values)
    return found


def _countries() -> list[Country]:
    try:
        from babel import Locale
        from countryinfo import all_countries
    except ImportError:
        raise ValueError(
            'task=facts needs babel and countryinfo for facts about countries; pip install "taskcluster-lm[facts]", '
            "or choose relations of words"
        ) from None
    english = Locale("en")
    infos: dict[str, Any] = {}
    for info in (country.info() for country in all_countries()):
        infos.setdefault(
            info["ISO"]["alpha2"], info
        )  # the first of several: Wales, say, comes after the United Kingdom
    return [Country(code, dict(info), english) for code, info in infos.items() if code in english.territories]


def _name(country: Country) -> str:
    name = NAMES.get(country.code) or country.english.territories[country.code]
    return _ascii(name.partition(" (")[0].removesuffix(" SAR China").replace("&", "and"))


def _ascii(text: str) -> str:
    """Without accents, and without anything that ASCII does not have."""
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'").replace("\u0131", "i"))
    return "".join(symbol for symbol in plain if not unicodedata.combining(symbol)).encode("ascii", "ignore").decode()


def _only(values: Sequence[str] | None) -> str:
    return values[0] if values and len(values) == 1 else ""


def _continent(country: Country) -> str:
    region = country.info.get("region") or ""
    if region != "Americas":
        return region
    return "North America" if _region(country) in NORTH_AMERICA else "South America"


def _region(country: Country) -> str:
    return (country.info.get("intermediateregion") or country.info.get("subregion") or "").replace("-E", "-e")


def _language(country: Country) -> str:
    """The official language that most people speak."""
    from babel.languages import get_territory_language_info

    official = [
        (-float(about["population_percent"] or 0), language.partition("_")[0])
        for language, about in get_territory_language_info(country.code).items()
        if about["official_status"] in ("official", "de_facto_official")
    ]
    spoken = min(official)[1] if official else ""
    return country.english.languages.get(LANGUAGES.get(spoken, spoken), "")


def _currency(country: Country) -> str:
    from babel.numbers import get_territory_currencies

    return country.english.currencies.get(_only(get_territory_currencies(country.code)), "")


def _demonym(country: Country) -> str:
    return _only((country.info.get("demonym") or "").split(","))


def _calling_code(country: Country) -> str:
    code = _only(country.info.get("callingCodes"))
    return f"+{code}" if code else ""


def _domain(country: Country) -> str:
    return next((domain for domain in country.info.get("tld") or () if domain.isascii()), "")


RELATIONS: MappingProxyType[str, Callable[[Country], str]] = MappingProxyType(
    {
        "capital": lambda country: CAPITALS.get(country.code) or country.info.get("capital") or "",
        "continent": _continent,
        "region": _region,
        "currency": _currency,
        "language": _language,
        "demonym": _demonym,
        "domain": _domain,
        "two_letter_code": lambda country: country.code,
        "three_letter_code": lambda country: country.info["ISO"].get("alpha3") or "",
        "calling_code": _calling_code,
    }
)
