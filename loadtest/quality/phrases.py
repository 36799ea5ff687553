"""What facts and questions are worded with, in each language.

Sentences begin as filler does, with a space in English and a mark in Chinese, and Chinese ones end without a mark: the
filler after them begins with one, and a tokenizer takes two marks together. None of the names is in the filler. What
must not live here: which are used (kinds.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.quality.question import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """One language's."""

    places: tuple[str, ...]
    people: tuple[str, ...]
    cities: tuple[str, ...]
    events: tuple[str, ...]
    ordinals: tuple[str, str, str]
    """Which of three."""
    numbers: Mapping[int, tuple[str, ...]]
    """Forms of a number, and so of an answer to a question of how often."""
    needle: str
    needle_question: str
    holder: str
    home: str
    join_question: str
    event: str
    order_question: str
    ring: str
    count_question: str


ENGLISH = Phrases(
    places=(
        "Maple Harbour", "Copper Ridge", "Willow Abbey", "Thistle Quay", "Falcon Manor", "Juniper Lodge",
        "Raven Castle", "Amber Mill",
    ),
    people=(
        "Oskar Lindqvist", "Priya Raman", "Tomasz Nowicki", "Leila Haddad", "Bruno Ferraz", "Ingrid Solheim",
        "Kwame Asante", "Yuki Tanabe",
    ),
    cities=("Lisbon", "Oslo", "Quito", "Prague", "Nairobi", "Kyoto", "Dublin", "Cairo"),
    events=("flood", "earthquake", "wedding", "eclipse", "robbery", "carnival", "famine", "parade"),
    ordinals=("first", "second", "last"),
    numbers={
        2: ("2", "two", "twice"), 3: ("3", "three"), 4: ("4", "four"), 5: ("5", "five"), 6: ("6", "six"),
        7: ("7", "seven"), 8: ("8", "eight"), 9: ("9", "nine"), 10: ("10", "ten"),
    },
    needle=" The secret code of {place} is {code}.",
    needle_question="What is the secret code of {place}? Answer with the number only.",
    holder=" The key of {place} is held by {person}.",
    home=" {person} lives in {city}.",
    join_question=(
        "In which city does the person live who holds the key of {place}? Answer with the name of the city only."
    ),
    event=" Then there was news of the {event}.",
    order_question=(
        "The text has news of three events: {options}. Of which of them is there news {ordinal}? Answer with its name "
        "only."
    ),
    ring=" The bell of {place} rang.",
    count_question=(
        "How many times does the text say that the bell of {place} rang? Answer with one number in digits only."
    ),
)  # fmt: skip
CHINESE = Phrases(
    places=("枫林港", "铜岭堡", "柳溪寺", "蓟花渡", "鹰岩庄", "杜松居", "乌鸦塔", "琥珀坊"),
    people=("陆文涛", "苏婉清", "谢承宇", "白若兰", "韩立诚", "唐雨薇", "魏思远", "秦慕云"),
    cities=("里斯本", "奥斯陆", "基多", "布拉格", "内罗毕", "京都", "都柏林", "开罗"),
    events=("洪水", "地震", "婚礼", "日食", "抢劫", "狂欢节", "饥荒", "阅兵"),
    ordinals=("最先", "第二个", "最后"),
    numbers={
        2: ("2", "二", "两"), 3: ("3", "三"), 4: ("4", "四"), 5: ("5", "五"), 6: ("6", "六"), 7: ("7", "七"),
        8: ("8", "八"), 9: ("9", "九"), 10: ("10", "十"),
    },
    needle="。{place}的密码是{code}",
    needle_question="{place}的密码是多少？只回答数字。",  # noqa: RUF001 - Chinese has its own marks
    holder="。{place}的钥匙由{person}保管",
    home="。{person}住在{city}",
    join_question="保管{place}钥匙的人住在哪座城市？只回答城市名。",  # noqa: RUF001
    event="。接着传来了{event}的消息",
    order_question="文中提到三件事：{options}。{ordinal}提到的是哪一件？只回答名称。",  # noqa: RUF001
    ring="。{place}的钟响了",
    count_question="文中说{place}的钟响了多少次？只用一个阿拉伯数字回答。",  # noqa: RUF001
)  # fmt: skip
PHRASES = {Language.ENGLISH: ENGLISH, Language.CHINESE: CHINESE}
JOINERS = {Language.ENGLISH: ", ", Language.CHINESE: "、"}
"""Between the options of a question."""
