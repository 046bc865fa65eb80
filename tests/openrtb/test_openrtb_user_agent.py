"""Reading User-Agents, plain and structured."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.openrtb.request import Device
from bidder.openrtb.user_agent import of_device, parse_user_agent

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36"
AGENTS = [
    (CHROME, ("windows", "chrome", "desktop")),
    (f"{CHROME} Edg/126.0", ("windows", "edge", "desktop")),
    (f"{CHROME} OPR/110.0", ("windows", "opera", "desktop")),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605 Version/17.5 "
        "Mobile/15E148 Safari/604.1",
        ("ios", "safari", "mobile"),
    ),
    (
        "Mozilla/5.0 (iPad; CPU OS 16_5 like Mac OS X) AppleWebKit/605 CriOS/126 Mobile Safari/604",
        ("ios", "chrome", "tablet"),
    ),
    (
        "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 SamsungBrowser/25.0 "
        "Chrome/121.0 Mobile Safari/537.36",
        ("android", "samsung", "mobile"),
    ),
    (
        "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
        ("android", "chrome", "tablet"),
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.5 "
        "Safari/605.1.15",
        ("macos", "safari", "desktop"),
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        ("linux", "firefox", "desktop"),
    ),
    (
        "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
        ("chromeos", "chrome", "desktop"),
    ),
    (
        "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 Version/7.0 TV Safari/537.36",
        ("linux", "safari", "ctv"),
    ),
    ("", ("", "", "")),
    ("curl/8.0", ("other", "other", "")),
]


@pytest.mark.parametrize(("agent", "expected"), AGENTS)
def test_user_agents(agent: str, expected: tuple[str, str, str]) -> None:
    assert parse_user_agent(agent) == expected


INSIDE_WORDS = [
    ("Minecraft/1.20 (com.mojang)", ("other", "other", "")),
    ("Aftenposten/4.1 (iPhone; iOS 17.1)", ("ios", "other", "mobile")),
    ("Microsoft Outlook 16.0", ("other", "other", "")),
    ("RadiosApp/3.2", ("other", "other", "")),
    ("KnowledgeReader/1.0", ("other", "other", "")),
    ("Petroleum-Operator/1.0", ("other", "other", "")),
    ("Metamobius/2.0", ("other", "other", "")),
]


@pytest.mark.parametrize(("agent", "expected"), INSIDE_WORDS)
def test_signs_inside_words_mean_nothing(agent: str, expected: tuple[str, str, str]) -> None:
    assert parse_user_agent(agent) == expected


TELEVISIONS = [
    "Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7) AppleWebKit/537.36 Chrome/120 Safari/537.36",
    "AppleTV11,1/11.1",
    "Roku/DVP-12.0 (12.0.0.4182-91)",
    "Mozilla/5.0 (Linux; Tizen 2.3; SMART-TV) AppleWebKit/538.1",
    "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 Chrome/79 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 12; BRAVIA 4K) AppleWebKit/537.36 Chrome/120",
    "HbbTV/1.6.1 (;Vendor;Model;1;2;)",
]


@pytest.mark.parametrize("agent", TELEVISIONS)
def test_televisions(agent: str) -> None:
    assert parse_user_agent(agent)[2] == "ctv"


@given(st.text(max_size=60))
def test_any_text_is_of_the_known_kinds(agent: str) -> None:
    os, browser, form = parse_user_agent(agent)
    assert os in {"ios", "android", "windows", "macos", "linux", "chromeos", "other", ""}
    assert browser in {"chrome", "safari", "firefox", "edge", "samsung", "opera", "other", ""}
    assert form in {"mobile", "tablet", "desktop", "ctv", ""}


def of(**device: Any) -> tuple[str, str, str]:
    return of_device(msgspec.convert(device, Device))


def test_the_structured_user_agent_comes_first() -> None:
    sua = {
        "browsers": [{"brand": "Not A Brand"}, {"brand": "Microsoft Edge"}],
        "platform": {"brand": "Windows"},
        "mobile": 0,
    }
    assert of(ua=AGENTS[3][0], sua=sua) == ("windows", "edge", "mobile")
    assert of(sua={"mobile": 1}) == ("", "", "mobile")
    assert of(sua={"platform": {"brand": "macOS"}, "mobile": 0}) == ("macos", "", "desktop")


def test_a_stated_system_wins() -> None:
    assert of(ua=CHROME, os="iPadOS")[0] == "ios"
    assert of(ua=CHROME, os="unheard of")[0] == "windows"
