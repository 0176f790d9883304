from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from accounting.pricing import PriceList


class Unbounded(ValueError):
    param = ""


def input_ceiling(body: Mapping[str, Any]) -> int:
    return len(json.dumps(body))


def hold_usd(input_tokens: int, output_tokens: int, prices: PriceList) -> Decimal:
    r = prices.base
    return (input_tokens * r.input_usd_per_mtok + output_tokens * r.output_usd_per_mtok) / 1000000
