"""A mixed set of prompts, made from a seed: prose, code, Chinese, base64, hex, JSON, escapes, and mixtures of two.

English, code and JSON are files of installed packages; Chinese is made of common words, unless a file of real text is
given. What must not live here: tokenizers, tests.
"""

from __future__ import annotations

import base64
import json
import math
import random
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

KINDS = ("english", "code", "json", "chinese", "base64", "hex", "escaped", "mixed")
SHORTEST_TOKENS, LONGEST_TOKENS = 20, 200_000
_CHARS_PER_TOKEN = {
    "english": 4.3,
    "code": 3.8,
    "json": 2.5,
    "chinese": 1.6,
    "base64": 1.35,
    "hex": 1.5,
    "escaped": 1.9,
}
_FILES = {
    "english": ("*.dist-info/METADATA", "**/*.md", "**/*.rst", "**/LICENSE*"),
    "code": ("**/*.py", "**/*.js", "**/*.h", "**/*.cpp", "**/*.pyx"),
    "json": ("**/*.json",),
}
_MOST_FILES = 1_500
_MOST_CHARS = 200_000
_CHINESE_WORDS = """
我们 你们 他们 大家 自己 什么 怎么 为什么 因为 所以 但是 如果 虽然 而且 或者 然后 已经
正在 将要 可以 应该 必须 可能 一个 这个 那个 每个 许多 一些 所有 非常 比较 更加 特别
今天 明天 昨天 去年 早上 晚上 时间 时候 地方 世界 国家 城市 北京 上海 学校 学生 老师
医生 病人 医院 公司 经理 工人 农民 政府 法律 经济 市场 产品 价格 银行 投资 技术 科学
研究 数据 模型 系统 网络 计算机 软件 程序 文件 请求 服务 用户 语言 文字 翻译 历史 文化
艺术 音乐 电影 故事 小说 诗歌 春天 冬天 天气 下雨 太阳 月亮 星星 山水 河流 海洋 森林
动物 小猫 马 鸟 鱼 苹果 米饭 面条 茶 咖啡 房子 桌子 椅子 窗户 汽车 火车 飞机 道路 看见
听说 知道 觉得 认为 希望 喜欢 需要 开始 结束 发现 解决 问题 方法 原因 结果 影响 变化
发展 提高 减少 增加 保护 使用 学习 工作 生活 吃饭 睡觉 走路 说话 写信 读书 高兴 难过
美丽 重要 简单 复杂 困难 安全 健康 新 旧 大 小 多 少 好 坏 的 的 的 了 了 是 是 在
在 和 不 也 都 就 还 很 把 被 对 从 向 给 让 着 过 吗 吧 啊 呢 三 五 十 百 千
万 第一 百分之二十
""".split()  # noqa: SIM905 - two hundred quoted words would be harder to read


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One prompt of the set."""

    kind: str
    text: str


class PromptMix:
    """Makes prompts; the same seed and the same installed packages make the same ones."""

    def __init__(self, seed: int, chinese: Path | None = None, longest_tokens: int = LONGEST_TOKENS) -> None:
        self._random = random.Random(seed)
        self._longest_tokens = longest_tokens
        self._sources = {kind: _files(patterns) for kind, patterns in _FILES.items()}
        if chinese is not None:
            text = chinese.read_text(encoding="utf-8")
            self._sources["chinese"] = [text[at : at + 8_000] for at in range(0, len(text), 8_000)]
        self._made: dict[str, Callable[[int], str]] = {
            "chinese": self._chinese,
            "base64": lambda chars: base64.b64encode(self._random.randbytes(chars)).decode(),
            "hex": lambda chars: self._random.randbytes(chars).hex(),
            "escaped": self._escaped,
        }

    def next(self) -> Made:
        """One more prompt: any kind, its length log-uniform between the two ends, about."""
        chance = self._random
        kind = chance.choice(KINDS)
        tokens = math.exp(chance.uniform(math.log(SHORTEST_TOKENS), math.log(self._longest_tokens)))
        if kind != "mixed":
            return Made(kind=kind, text=self._of(kind, tokens))
        first, second = chance.sample(KINDS[:-1], 2)
        share, turns = chance.random(), chance.choice((1, 1, 1, 2, 4, 8, 12))
        parts = [
            self._of(part, tokens * part_share / turns)
            for _ in range(turns)
            for part, part_share in ((first, share), (second, 1 - share))
        ]
        return Made(kind=kind, text="\n".join(parts))

    def _of(self, kind: str, tokens: float) -> str:
        chars = max(int(tokens * _CHARS_PER_TOKEN[kind]), 10)
        source = self._sources.get(kind)
        return self._made[kind](chars)[:chars] if source is None else self._from(source, chars)

    def _from(self, source: Sequence[str], chars: int) -> str:
        parts: list[str] = []
        while sum(map(len, parts)) < chars:
            part = self._random.choice(source)
            at = self._random.randrange(max(len(part) - chars, 0) + 1)
            parts.append(part[at:])
        return "\n\n".join(parts)[:chars]

    def _chinese(self, chars: int) -> str:
        parts: list[str] = []
        for _ in range(chars // 8 + 1):
            parts += self._random.choices(_CHINESE_WORDS, k=self._random.randint(4, 11))
            if self._random.random() < 0.1:
                parts.append(chr(self._random.randrange(0x4E00, 0x9FA5)))
            if self._random.random() < 0.05:
                parts.append(str(self._random.randrange(10_000)))
            parts.append(self._random.choice("\uff0c\uff0c\uff0c\u3002\u3002\uff1b\uff1f\uff01\n"))
        return "".join(parts)

    def _escaped(self, chars: int) -> str:
        return json.dumps(self._of(self._random.choice(("chinese", "chinese", "english")), chars / 2))


def _files(patterns: Sequence[str]) -> list[str]:
    """Texts of installed packages, in an order that does not depend on the machine."""
    packages = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(path for pattern in patterns for path in packages.glob(pattern))
    random.Random(1).shuffle(paths)
    texts: list[str] = []
    for path in paths[:_MOST_FILES]:
        try:
            text = path.read_text(encoding="utf-8")[:_MOST_CHARS]
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) > 400:
            texts.append(text)
    return texts
