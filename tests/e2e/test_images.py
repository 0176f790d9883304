"""Pictures as the official client asks for them: by the piece and by their tokens, whole and while they are made."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from routing.models import ModelAlias, Provider
from tests.e2e.gateway import Gateway, Route, http
from tests.prices import LONG_AGO, add_price
from tests.simulator import Behaviour, faults
from tests.simulator.openai_images import PICTURE, TOKENS, TOKENS_SEEN

#: Odd on purpose: a wrong rate changes the sum.
BY_TOKENS = {"input": "5.01", "image_output": "40.07", "output": "10.03"}
BY_PIECE = {"image:standard/1024x1024": "0.041", "image:hd/1024x1024": "0.083", "image:standard/1792x1024": "0.079"}
IMAGEN = "imagen-3.0-fast-generate-001"


def route(gateway: Gateway, *steps: tuple[str, str, dict[str, str] | None], **limits: Any) -> Route:
    """A chain of (wire format, model, price)."""
    made = gateway.route(*(wire for wire, _, _ in steps), priced=False, cap=None, **limits)
    with gateway.orm():
        for alias, provider, (_, model, price) in zip(made.aliases, made.providers, steps, strict=True):
            ModelAlias.objects.filter(name=alias).update(upstream_model=model)
            if price is not None:
                add_price(provider, model, LONG_AGO, **price)
        Provider.objects.get(name=made.providers[0]).save()  # so that the gateway learns of it
    return made


def gpt(gateway: Gateway, model: str = "gpt-image-1") -> Route:
    return route(gateway, ("openai", model, BY_TOKENS))


def draw(gateway: Gateway, alias: str, **parameters: Any) -> Any:
    return gateway.client().images.generate(model=alias, prompt="a small cat", **parameters)


def cost_of(tokens: int, output: int) -> Decimal:
    return (tokens * Decimal(BY_TOKENS["input"]) + output * Decimal(BY_TOKENS["image_output"])) / 1_000_000


@pytest.mark.parametrize("quality", ["low", "medium", "high"])
@pytest.mark.parametrize("size", ["1024x1024", "1024x1536", "1536x1024"])
def test_pictures_are_charged_by_their_tokens(gateway: Gateway, quality: str, size: str) -> None:
    made = gpt(gateway)
    answer = draw(gateway, made.alias, n=2, quality=quality, size=size, user="u-1", extra_body={"metadata": {"t": "a"}})
    assert [each.b64_json for each in answer.data] == [PICTURE] * 2
    entry = gateway.entry(made.alias)
    output = 2 * TOKENS[quality][size]
    assert (entry["endpoint"], entry["state"], entry["end_user"], entry["tags"]) == (
        "images", "posted", "u-1", {"t": "a"},
    )  # fmt: skip
    assert (entry["input_tokens"], entry["output_tokens"]) == (3, output)
    assert entry["quantities"] == {"image_output": str(output)}
    assert answer.usage.output_tokens == output
    assert entry["cost_usd"] == cost_of(3, output)
    assert entry["hold_usd"] >= entry["cost_usd"]


def test_a_picture_is_streamed_while_it_is_made(gateway: Gateway) -> None:
    made = gpt(gateway)
    events = list(draw(gateway, made.alias, stream=True, partial_images=2, size="1024x1024", quality="low"))
    assert [event.type for event in events] == [
        "image_generation.partial_image", "image_generation.partial_image", "image_generation.completed",
    ]  # fmt: skip
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert events[-1].b64_json == PICTURE
    output = TOKENS["low"]["1024x1024"] + 200
    assert events[-1].usage.output_tokens == output
    entry = gateway.entry(made.alias)
    assert (entry["streamed"], entry["cost_usd"]) == (True, cost_of(3, output))
    assert Decimal(str(events[-1].usage.cost_usd)) == entry["cost_usd"]
    assert entry["hold_usd"] >= entry["cost_usd"]


def test_a_picture_may_be_made_in_silence(gateway: Gateway) -> None:
    limits = {"first_token_timeout_s": 0.3, "idle_timeout_s": 0.3, "retries": 0}
    made = route(gateway, ("openai", "gpt-image-1", BY_TOKENS), **limits)
    gateway.sim.behave(made.providers[0], Behaviour(first_token_s=0.6, token_s=0.6))
    events = list(draw(gateway, made.alias, stream=True, partial_images=1, quality="low"))
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]


@pytest.mark.parametrize(
    ("parameters", "name", "usd"),
    [
        ({}, "standard/1024x1024", "0.041"),
        ({"quality": "hd"}, "hd/1024x1024", "0.083"),
        ({"size": "1792x1024"}, "standard/1792x1024", "0.079"),
    ],
)
def test_pictures_are_charged_by_the_piece(gateway: Gateway, parameters: Any, name: str, usd: str) -> None:
    made = route(gateway, ("openai", "dall-e-3", BY_PIECE))
    answer = draw(gateway, made.alias, response_format="b64_json", **parameters)
    assert answer.data[0].b64_json == PICTURE
    assert answer.usage is None
    entry = gateway.entry(made.alias)
    assert entry["quantities"] == {f"image:{name}": "1"}
    assert entry["usage_source"] == "provider"
    assert entry["cost_usd"] == entry["hold_usd"] == Decimal(usd)


def test_a_size_without_a_rate_is_unpriced(gateway: Gateway) -> None:
    made = route(gateway, ("openai", "dall-e-3", BY_PIECE))
    with gateway.nothing_written(), pytest.raises(openai.PermissionDeniedError) as refused:
        draw(gateway, made.alias, size="1024x1792", quality="hd")
    assert refused.value.code == "model_unpriced"


def test_a_picture_of_which_nobody_says_the_size_costs_as_the_dearest(gateway: Gateway) -> None:
    made = route(gateway, ("openai", "some-painter", BY_PIECE))
    draw(gateway, made.alias, n=2)
    entry = gateway.entry(made.alias)
    assert (entry["quantities"], entry["cost_usd"]) == ({"image": "2"}, Decimal("0.166"))


def test_imagen_is_asked_in_its_own_format(gateway: Gateway) -> None:
    made = route(gateway, ("gemini", IMAGEN, {"image": "0.021"}))
    raw = gateway.client().images.with_raw_response.generate(
        model=made.alias, prompt="a cat", n=3, size="1024x1024", quality="high", background="opaque"
    )
    assert len(raw.parse().data or ()) == 3
    assert raw.headers["x-gateway-dropped-params"] == "background, quality"
    assert raw.headers["x-gateway-cost-usd"] == "0.063"
    (asked,) = gateway.sim.requests_to(made.providers[0])
    assert asked.body == {
        "instances": [{"prompt": "a cat"}],
        "parameters": {"sampleCount": 3, "aspectRatio": "1:1", "imageSize": "1K"},
    }
    entry = gateway.entry(made.alias)
    assert (entry["cost_usd"], entry["hold_usd"]) == (Decimal("0.063"), Decimal("0.063"))


def test_a_failing_provider_is_followed_by_one_of_another_kind(gateway: Gateway) -> None:
    made = route(
        gateway,
        ("openai", "gpt-image-1", BY_TOKENS),
        ("openai", "dall-e-3", BY_PIECE),
        ("gemini", IMAGEN, {"image": "1"}),
    )
    gateway.sim.behave(made.providers[0], forever=faults.unavailable())
    answer = draw(gateway, made.alias, quality="high", size="1024x1024", background="opaque")
    assert answer.data[0].url
    (asked,) = gateway.sim.requests_to(made.providers[1])
    assert asked.body == {"model": "dall-e-3", "prompt": "a small cat", "quality": "hd", "size": "1024x1024"}
    gateway.sim.behave(made.providers[1], forever=faults.unavailable())
    events = list(draw(gateway, made.alias, stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_generation.completed"]
    assert events[0].b64_json == PICTURE
    gateway.wait_settled(made.alias, 2)
    entries = gateway.entries(made.alias)
    assert [entry["provider"] for entry in entries] == list(made.providers[1:])
    assert [entry["cost_usd"] for entry in entries] == [Decimal("0.083"), Decimal(1)]


def test_an_answer_without_a_count_is_estimated_and_one_without_pictures_is_none(gateway: Gateway) -> None:
    made = gpt(gateway)
    gateway.sim.behave(made.providers[0], Behaviour(report_usage=False))
    answer = draw(gateway, made.alias, quality="low", size="1024x1024")
    entry = gateway.entry(made.alias)
    assert entry["usage_source"] == "estimated"
    assert entry["output_tokens"] == answer.usage.output_tokens >= TOKENS["low"]["1024x1024"]
    gateway.sim.behave(made.providers[0], forever=Behaviour(body={"created": 1, "data": []}))
    with pytest.raises(openai.InternalServerError):
        draw(gateway, made.alias)


def test_a_stream_that_breaks_ends_with_an_error_and_is_charged(gateway: Gateway) -> None:
    made = gpt(gateway)
    gateway.sim.behave(made.providers[0], Behaviour(cut_after=1))
    with pytest.raises(openai.APIError, match="broke off"):
        list(draw(gateway, made.alias, stream=True, partial_images=2, quality="low"))
    entry = gateway.entry(made.alias)
    assert (entry["state"], entry["error_code"], entry["usage_source"]) == ("posted", "stream_interrupted", "estimated")
    assert entry["cost_usd"] > 0


def test_a_hard_budget_holds(gateway: Gateway) -> None:
    made = gpt(gateway)
    gateway.budget(made, "0.2")
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as refused:
        draw(gateway, made.alias, quality="high")
    assert refused.value.code == "request_exceeds_budget"
    assert draw(gateway, made.alias, quality="low").data


@pytest.mark.parametrize(
    ("model", "price", "param"),
    [
        ("gpt-image-2", BY_TOKENS, "model"),  # it takes any size, and nobody says how many tokens that is
        ("some-painter", BY_TOKENS, "model"),  # billed by the piece, which has no price
    ],
)
def test_what_cannot_be_bounded_is_refused_where_a_hard_budget_applies(
    gateway: Gateway, model: str, price: dict[str, str], param: str
) -> None:
    made = route(gateway, ("openai", model, price))
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError) as refused:
        draw(gateway, made.alias)
    assert (refused.value.code, refused.value.param) == ("unbounded_cost", param)
    with gateway.no_hard_budget():
        assert draw(gateway, made.alias).data


def test_every_path_of_the_endpoint_answers(gateway: Gateway) -> None:
    made = gpt(gateway)
    body = json.dumps({"model": made.alias, "prompt": "a cat", "quality": "low"}).encode()
    paths = ("/v1/images/generations", "/images/generations", f"/openai/deployments/{made.alias}/images/generations")
    for path in paths:
        answer = gateway.post(body, path=path)
        assert answer.status_code == 200, answer.text
        assert Decimal(answer.headers["x-gateway-cost-usd"]) > 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "a", "n": 0}, "n"),
        ({"prompt": "a", "n": 11}, "n"),
        ({"prompt": "a", "size": 5}, "size"),
        ({"prompt": "a", "response_format": "png"}, "response_format"),
        ({"prompt": "a", "partial_images": 4}, "partial_images"),
        ({"prompt": "a", "stream": "yes"}, "stream"),
        ({"prompt": "a", "steps": 500}, "steps"),  # nobody knows what it costs
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    made = gpt(gateway)
    with gateway.nothing_written():
        answer = gateway.post(json.dumps({"model": made.alias, **body}).encode(), path="/v1/images/generations")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_painter_is_not_asked_to_chat_nor_the_other_way_round(gateway: Gateway) -> None:
    painter, chat = gpt(gateway), gateway.route("openai")
    with gateway.nothing_written():
        with pytest.raises(openai.BadRequestError, match="/v1/images/generations"):
            gateway.client().chat.completions.create(
                model=painter.alias, messages=[{"role": "user", "content": "hello"}]
            )
        with pytest.raises(openai.BadRequestError, match="/v1/chat/completions"):
            draw(gateway, chat.alias)


SEEN = ("cat.png", b"\x89PNG a small cat", "image/png")


def edit(gateway: Gateway, alias: str, **parameters: Any) -> Any:
    image = parameters.pop("image", SEEN)
    return gateway.client().images.edit(model=alias, image=image, prompt="a small cat", **parameters)


def test_a_picture_is_changed_and_what_is_seen_is_charged_too(gateway: Gateway) -> None:
    made = gpt(gateway)
    answer = edit(
        gateway, made.alias, mask=SEEN, n=2, quality="low", size="1024x1024", input_fidelity="high", user="u-1"
    )
    assert [each.b64_json for each in answer.data] == [PICTURE] * 2
    (asked,) = gateway.sim.requests_to(made.providers[0])
    assert asked.path.endswith("/images/edits")
    assert asked.body is not None
    assert asked.body["image"] == {"name": SEEN[0], "type": SEEN[2], "content": SEEN[1]}
    assert asked.body["mask"]["content"] == SEEN[1]
    assert {name: value for name, value in asked.body.items() if name not in ("image", "mask")} == {
        "model": "gpt-image-1", "prompt": "a small cat", "n": "2", "quality": "low", "size": "1024x1024",
        "input_fidelity": "high", "user": "u-1",
    }  # fmt: skip
    entry = gateway.entry(made.alias)
    seen, output = 2 * TOKENS_SEEN["high"], 2 * TOKENS["low"]["1024x1024"]
    assert (entry["endpoint"], entry["end_user"], entry["input_tokens"]) == ("images", "u-1", 3 + seen)
    assert entry["quantities"] == {"image_input": str(seen), "image_output": str(output)}
    assert entry["cost_usd"] == cost_of(3 + seen, output)  # without a rate of its own it costs as text
    assert entry["hold_usd"] >= entry["cost_usd"]


def test_a_changed_picture_is_streamed_while_it_is_made(gateway: Gateway) -> None:
    made = gpt(gateway)
    images = [SEEN, ("dog.png", b"\x89PNG a dog", "image/png")]
    events = list(edit(gateway, made.alias, image=images, stream=True, partial_images=1, quality="low"))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    entry = gateway.entry(made.alias)
    assert entry["cost_usd"] == cost_of(3 + TOKENS_SEEN["low"], TOKENS["low"]["1024x1536"] + 100)
    assert Decimal(str(events[-1].usage.cost_usd)) == entry["cost_usd"]


def test_a_step_that_changes_no_pictures_is_passed_over(gateway: Gateway) -> None:
    made = route(gateway, ("gemini", IMAGEN, {"image": "0.021"}), ("openai", "dall-e-2", {"image": "0.019"}))
    answer = edit(gateway, made.alias, response_format="b64_json")
    assert answer.data[0].b64_json == PICTURE
    entry = gateway.entry(made.alias)
    assert (entry["provider"], entry["cost_usd"]) == (made.providers[1], Decimal("0.019"))
    assert gateway.sim.requests_to(made.providers[0]) == []


@pytest.mark.parametrize(
    ("fields", "files", "param"),
    [
        ({}, {}, "image"),
        ({}, {"picture": SEEN}, "picture"),
        ({"n": "eleven"}, {"image": SEEN}, "n"),
        ({"prompt": ""}, {"image": SEEN}, "prompt"),
        ({"steps": "500"}, {"image": SEEN}, "steps"),
    ],
)
def test_what_is_wrong_in_a_form_is_named_and_nothing_is_written(
    gateway: Gateway, fields: dict[str, str], files: dict[str, Any], param: str
) -> None:
    made = gpt(gateway)
    with gateway.nothing_written():
        answer = http.post(
            f"{gateway.url}/v1/images/edits",
            data={"model": made.alias, "prompt": "a cat", **fields},
            files={"user": (None, "u-1"), **files},
        )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
