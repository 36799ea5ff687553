"""What synthetic text is made of: words and lines from which a tokenizer's own are chosen.

What must not live here: counting.
"""

from __future__ import annotations

from itertools import product

from loadtest.prefix.workload import WORDS

_CHINESE = """
时间 问题 世界 公司 国家 工作 生活 学生 学校 孩子 社会 经济 政府 市场 历史 文化 技术 系统 研究 发展 方法 结果 数据 信息
语言 文章 教育 环境 管理 服务 产品 项目 城市 中国 关系 情况 原因 作用 影响 能力 条件 过程 内容 方面 部分 方式 思想 活动
我们 他们 自己 今天 现在 以后 可能 需要 知道 认为 没有 因为 所以 但是 如果 已经 开始 进行 使用 成为
"""
CHINESE_WORDS = tuple(_CHINESE.split())
CHINESE_PIECES = tuple(f"{mark}{word}" for mark, word in product("，。", CHINESE_WORDS))  # noqa: RUF001 - meant
"""Tokenizers split before punctuation and not between Chinese words: so a piece begins with a mark."""
ENGLISH_WORDS = WORDS
ENGLISH_PIECES = tuple(f" {word}" for word in ENGLISH_WORDS)
_NAMES = ("name", "value", "result", "line", "text", "data", "case", "time", "part", "end", "number", "state")
CODE_PIECES = tuple(
    line
    for first, second in product(_NAMES, _NAMES)
    for line in (
        f"    {first} = {second}({first})\n",
        f"    if {first} in {second}:\n",
        f"    for {first} in {second}:\n",
        f"    return {first}({second})\n",
        f"    assert {first} is {second}\n",
    )
)
"""Lines of Python, each with its line break: a tokenizer splits after it."""
