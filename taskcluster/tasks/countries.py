"""Facts about countries, from the packages babel (CLDR: names, languages, currencies) and countryinfo (the rest).

in:  relations
out: {country: {relation: value}}, the most populous country first, for the countries that have one value for each

Everything is in English and ASCII: Brasilia, Cote d'Ivoire.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

Facts = dict[str, dict[str, str]]

# Corrections where the packages are out of date or use an unusual name.
NAMES = {"TR": "Turkey", "CD": "Democratic Republic of the Congo", "CG": "Republic of the Congo"}
CAPITALS = {"KZ": "Astana", "BI": "Gitega", "SZ": "Mbabane", "VA": "Vatican City"}
LANGUAGES = {"nb": "no"}

RELATIONS = (
    "capital", "continent", "region", "currency", "language", "demonym", "domain", "two_letter_code",
    "three_letter_code", "calling_code",
)  # fmt: skip


def facts(relations: Sequence[str]) -> Facts:
    """Return the facts. Raises ValueError if the packages are not installed."""
    try:
        from babel import Locale
        from countryinfo import all_countries
    except ImportError:
        raise ValueError(
            'task=facts needs babel and countryinfo for facts about countries; pip install "taskcluster-lm[facts]", '
            "or choose relations of words"
        ) from None
    english = Locale("en")
    every_info: list[Any] = [country.info() for country in all_countries()]
    infos = {info["ISO"]["alpha2"]: info for info in reversed(every_info)}  # the United Kingdom's, and not Wales's
    known: Facts = {}
    for code, info in sorted(infos.items(), key=lambda item: (-(item[1].get("population") or 0), item[0])):
        if code in english.territories:
            every = _facts(code, info, english)
            values = {relation: _ascii(every[relation]) for relation in relations}
            if all(values.values()):
                known.setdefault(_name(code, english), values)
    return known


def _facts(code: str, info: Mapping[str, Any], english: Any) -> dict[str, str]:
    """All relations of a country, "" where there is none or more than one value. info: countryinfo's entry."""
    from babel.numbers import get_territory_currencies

    region = (info.get("intermediateregion") or info.get("subregion") or "").replace("-E", "-e")
    continent = info.get("region") or ""
    if continent == "Americas":
        continent = (
            "North America" if region in ("Northern America", "Central America", "Caribbean") else "South America"
        )
    calling_code = _only(info.get("callingCodes"))
    return {
        "capital": CAPITALS.get(code) or info.get("capital") or "",
        "continent": continent,
        "region": region,
        "currency": english.currencies.get(_only(get_territory_currencies(code)), ""),
        "language": english.languages.get(_language(code), ""),
        "demonym": _only((info.get("demonym") or "").split(",")),
        "domain": next((domain for domain in info.get("tld") or () if domain.isascii()), ""),
        "two_letter_code": code,
        "three_letter_code": info["ISO"].get("alpha3") or "",
        "calling_code": f"+{calling_code}" if calling_code else "",
    }


def _language(code: str) -> str:
    """The official language that most people speak, "" where there is none."""
    from babel.languages import get_territory_language_info

    official = [
        (-float(about["population_percent"] or 0), language.partition("_")[0])
        for language, about in get_territory_language_info(code).items()
        if about["official_status"] in ("official", "de_facto_official")
    ]
    spoken = min(official)[1] if official else ""
    return LANGUAGES.get(spoken, spoken)


def _name(code: str, english: Any) -> str:
    name = NAMES.get(code) or english.territories[code]
    return _ascii(name.partition(" (")[0].removesuffix(" SAR China").replace("&", "and"))


def _ascii(text: str) -> str:
    """Without accents, and without anything that ASCII does not have."""
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'").replace("\u0131", "i"))
    return "".join(symbol for symbol in plain if not unicodedata.combining(symbol)).encode("ascii", "ignore").decode()


def _only(values: Sequence[str] | None) -> str:
    return values[0] if values and len(values) == 1 else ""
