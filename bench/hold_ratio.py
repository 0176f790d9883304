"""How far holds are above costs, for typical requests: ``python -m bench.hold_ratio``. No server, no network.

The true tokens are counted with the tokenizers that litellm ships. Answers have the stated length.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

ENGLISH = "The quarterly report shows that revenue grew by twelve percent while costs stayed flat. "
RUSSIAN = "Квартальный отчёт показывает, что выручка выросла на двенадцать процентов, расходы не изменились. "
CODE = "def total(entries: list[Entry]) -> Decimal:\n    return sum((e.cost_usd for e in entries), Decimal(0))\n"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city, today or on a coming day",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "day": {"type": "string", "format": "date"}},
            "required": ["city"],
        },
    },
}
CASES: list[tuple[str, list[dict[str, Any]], int, dict[str, Any]]] = [
    ("chat turn, English", [{"role": "user", "content": ENGLISH * 2}], 250, {}),
    ("chat turn, Russian", [{"role": "user", "content": RUSSIAN * 2}], 250, {}),
    ("chat turn, max_tokens 500", [{"role": "user", "content": ENGLISH * 2}], 250, {"max_tokens": 500}),
    ("answer from documents (4k tokens)", [{"role": "user", "content": ENGLISH * 230}], 300, {}),
    ("summary of a long text (30k tokens)", [{"role": "user", "content": ENGLISH * 1750}], 800, {}),
    ("code review (6k tokens)", [{"role": "user", "content": CODE * 200}], 700, {}),
    ("agent step with ten tools", [{"role": "user", "content": ENGLISH * 20}], 80, {"tools": [TOOL] * 10}),
    ("long answer", [{"role": "user", "content": ENGLISH}], 3500, {}),
]


def main() -> None:
    import django

    django.setup()
    import litellm

    from accounting.pricing import PriceList, ceiling_usd, cost_usd
    from accounting.usage import Usage
    from routing.endpoints.chat.ceiling import input_ceiling

    prices = PriceList.of({"standard": {"input": "3", "output": "15"}})
    print("claude-sonnet: 3 USD in, 15 USD out per million tokens, an output cap of 4096 where the client sets none\n")
    columns = (
        "true input",
        "input ceiling",
        "output / cap",
        "hold USD",
        "cost USD",
        "hold / cost",
        "at once under 10 USD",
    )
    print(f"| request | {' | '.join(columns)} |")
    print("|---|" + "---:|" * len(columns))
    for name, messages, answer, more in CASES:
        body = {"model": "claude-sonnet", "messages": messages, **more}
        true = litellm.token_counter(model="gpt-4o", messages=messages, tools=more.get("tools"))
        ceiling, cap = input_ceiling(body).tokens_for("anthropic", "claude-sonnet-4-6"), more.get("max_tokens", 4096)
        hold = ceiling_usd(ceiling, cap, prices)
        cost = cost_usd(Usage(input_tokens=true, output_tokens=answer), prices)
        assert hold is not None
        assert cost is not None
        print(
            f"| {name} | {true:,} | {ceiling:,} | {answer:,} / {cap:,} | {hold:.4f} | {cost:.4f} |"
            f" {hold / cost:.1f} | {int(10 / hold):,} |"
        )


if __name__ == "__main__":
    main()
