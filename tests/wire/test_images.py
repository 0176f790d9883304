"""Pictures: what they cost against litellm's own calculators, and that nothing costs more than was held."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.pricing import PriceList, cost_usd
from accounting.usage import Usage
from routing.api.parts import Form
from routing.catalog import Provider, Step
from routing.endpoints.images.request import parse_edit, parse_generation
from routing.exceptions import InvalidRequest
from routing.serving.ceiling import Ceiling, Room
from routing.upstreams import images, price_map
from routing.upstreams.base import Deployment, FailureKind, File, Timeouts, UpstreamError
from routing.upstreams.kinds import Kind, kind_of
from routing.upstreams.litellm_import import load
from routing.upstreams.registry import upstream_for
from routing.upstreams.usage import usage_of_pictures
from tests.simulator import Behaviour, Simulator
from tests.simulator.openai_images import PICTURE, TOKENS, TOKENS_A_PARTIAL
from tests.wire.upstream_calls import call_to

PRICES = PriceList.of({"standard": {"input": "5", "output": "10", "image_input": "8", "image_output": "32"}})
BY_PIECE = PriceList.of(
    {"standard": {"image:standard/1024x1024": "0.04", "image:hd/1024x1792": "0.12", "image": "0.05"}}
)


def step(provider: str, model: str) -> Step:
    deployment = Deployment(provider, provider, model, None, Timeouts())
    return Step("alias", None, Provider(provider, provider, True, ("env:A",), 1, 5, 0.5, 30), deployment)


def test_models_that_make_pictures_have_their_kind_unless_they_chat() -> None:
    assert kind_of("openai", "gpt-image-1") is Kind.IMAGE
    assert kind_of("gemini", "imagen-3.0-generate-001") is Kind.IMAGE
    assert kind_of("gemini", "gemini-2.5-flash-image") is None


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2"])
@pytest.mark.parametrize(
    "reported",
    [
        {"input_tokens": 50, "output_tokens": 4160, "total_tokens": 4210,
         "input_tokens_details": {"text_tokens": 50, "image_tokens": 0}},
        {"input_tokens": 373, "output_tokens": 272, "total_tokens": 645,
         "input_tokens_details": {"text_tokens": 50, "image_tokens": 323}},
        {"input_tokens": 50, "output_tokens": 1200, "total_tokens": 1250,
         "input_tokens_details": {"text_tokens": 50, "image_tokens": 0},
         "output_tokens_details": {"text_tokens": 144, "image_tokens": 1056}},
    ],
    ids=["text alone", "looks at a picture", "writes, too"],
)  # fmt: skip
def test_tokens_cost_what_litellm_says(model: str, reported: dict[str, Any]) -> None:
    litellm = load()
    from litellm.llms.openai.image_generation.cost_calculator import cost_calculator

    price, usage = price_map.price_of("openai", model), usage_of_pictures(reported)
    assert price is not None
    assert usage is not None
    answer = litellm.ImageResponse(created=1, data=[], usage=litellm.types.utils.ImageUsage(**reported))
    theirs = cost_calculator(model, answer, "openai")
    assert cost_usd(usage, price) == pytest.approx(Decimal(str(theirs)), abs=Decimal("1e-12"))


@pytest.mark.parametrize(
    ("provider", "model", "parameters"),
    [
        ("azure", "dall-e-3", {"size": "1024x1024", "quality": "standard"}),
        ("azure", "dall-e-3", {"size": "1792x1024", "quality": "hd"}),
        ("aiml", "flux/schnell", {}),
        ("gemini", "imagen-3.0-generate-001", {}),
        ("xai", "grok-imagine-image", {}),
    ],
)
def test_pictures_cost_what_litellm_says(provider: str, model: str, parameters: dict[str, str]) -> None:
    litellm = load()
    deployment = step(provider, model).deployment
    price = price_map.price_of(provider, model)
    assert price is not None
    ours = cost_usd(images.pictures(3, parameters, deployment), price)
    answer = litellm.ImageResponse(created=1, data=[litellm.types.utils.ImageObject(url="https://x")] * 3)
    theirs = litellm.completion_cost(
        completion_response=answer, model=f"{provider}/{model}", call_type="image_generation", n=3,
        custom_llm_provider=provider, **parameters,
    )  # fmt: skip
    assert ours == pytest.approx(Decimal(str(theirs)), abs=Decimal("1e-12"))


def test_thoughts_that_gemini_counts_in_the_total_alone_are_output() -> None:
    usage = usage_of_pictures({"input_tokens": 5, "output_tokens": 1290, "total_tokens": 1500})
    assert usage is not None
    assert (usage.output_tokens, usage.quantities) == (1495, {"image_output": Decimal(1290)})


def test_a_picture_in_geminis_chat_format_is_read_with_its_tokens() -> None:
    answer = {
        "candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": PICTURE}}]}}],
        "usageMetadata": {
            "promptTokenCount": 4, "candidatesTokenCount": 1290, "totalTokenCount": 1294,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 4}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
        },
    }  # fmt: skip
    with Simulator() as sim:
        sim.behave("gemini", Behaviour(body=answer))
        request = call_to(sim, "gemini", {"model": "alias", "prompt": "a cat"}, model="gemini-2.5-flash-image")
        drawn = upstream_for("gemini").draw(request)
    assert drawn.body["data"][0]["b64_json"] == PICTURE
    assert drawn.usage == Usage(input_tokens=4, output_tokens=1290, quantities={"image_output": Decimal(1290)})


@pytest.mark.parametrize(
    ("model", "parameters", "usd"),
    [
        ("grok-imagine-image", {"size": "1024x1024", "quality": "high"}, "0.02"),
        ("grok-imagine-image-2.0", {}, "0.04"),
        ("grok-imagine-image-2.0", {"resolution": "2k", "aspect_ratio": "16:9"}, "0.06"),
    ],
)
def test_xai_has_resolutions_and_no_sizes(model: str, parameters: dict[str, str], usd: str) -> None:
    deployment = step("xai", model).deployment
    sent = images.asked({"model": "alias", "prompt": "a cat", **parameters}, deployment)
    assert sent.body == {
        "model": model, "prompt": "a cat", **{n: v for n, v in parameters.items() if n not in ("size", "quality")},
    }  # fmt: skip
    assert sent.dropped == tuple(sorted(parameters.keys() & {"size", "quality"}))
    price = price_map.price_of("xai", model)
    assert price is not None
    assert cost_usd(images.pictures(1, sent.body, deployment), price) == Decimal(usd)


@pytest.mark.parametrize("more", [{}, {"image": (File("a.png", "image/png", b"a"),)}], ids=["made", "changed"])
def test_azure_is_asked_at_the_address_of_the_deployment(more: dict[str, Any]) -> None:
    with Simulator() as sim:
        request = call_to(sim, "openai", {"model": "alias", "prompt": "a cat", **more}, model="gpt-image-1")
        deployment = replace(
            request.deployment, litellm_provider="azure", base_url=sim.url, api_version="2025-04-01-preview"
        )
        drawn = upstream_for("azure").draw(replace(request, deployment=deployment))
        (asked,) = sim.requests
    assert drawn.body["data"][0]["b64_json"] == PICTURE
    resource = "edits" if more else "generations"
    assert (asked.path, asked.query) == (
        f"/openai/deployments/gpt-image-1/images/{resource}", "api-version=2025-04-01-preview",
    )  # fmt: skip
    assert asked.headers["api-key"] == request.api_key


def test_a_provider_that_makes_no_pictures_is_not_asked() -> None:
    with Simulator() as sim:
        for provider in ("anthropic", "bedrock"):
            request = call_to(sim, "anthropic", {"model": "alias", "prompt": "a cat"})
            with pytest.raises(UpstreamError) as refused:
                upstream_for(provider).draw(replace(request, deployment=step(provider, "m").deployment))
            assert refused.value.kind is FailureKind.CAPABILITY
        assert sim.requests == []


def dearest_bill(sent: dict[str, Any], model: str, written_tokens: int, seen: int) -> Usage:
    """As OpenAI bills: what is not said may be of the dearest size and quality. It does not say that a prompt and what
    is looked at are billed once for several pictures, and a stream has a count for each."""
    qualities = [TOKENS[sent["quality"]]] if sent.get("quality") in TOKENS else list(TOKENS.values())
    sizes = [sent["size"]] if sent.get("size") in TOKENS["low"] else list(TOKENS["low"])
    tokens = max(of[size] for of in qualities for size in sizes)
    tokens += (sent.get("partial_images") or 0) * TOKENS_A_PARTIAL + (350 if "mini" in model else 0)
    count = sent.get("n") or 1
    pictures, looked_at = count * tokens, count * seen * (65 + 129 * 8 + 6144)
    return Usage(
        input_tokens=count * (len(sent["prompt"].encode()) + 16) + looked_at,
        output_tokens=pictures + count * written_tokens,
        quantities={"image_input": Decimal(looked_at), "image_output": Decimal(pictures)},
    )


def explore(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(
        prompt=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
        parameters=st.fixed_dictionaries(
            {},
            optional={
                "n": st.integers(1, 10),
                "size": st.sampled_from(["auto", "256x256", "1024x1024", "1024x1536", "1536x1024", "1024x1792", "8x8"]),
                "quality": st.sampled_from(["auto", "low", "medium", "high", "standard", "hd", "ultra"]),
                "stream": st.booleans(),
                "partial_images": st.integers(0, 3),
                "background": st.just("opaque"),
            },
        ),
        model=st.sampled_from(["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "dall-e-2", "dall-e-3", "flux"]),
        written_tokens=st.integers(0, 600),
        seen=st.integers(0, 16),
    )
    def holds(prompt: str, parameters: dict[str, Any], model: str, written_tokens: int, seen: int) -> None:
        call, where = parse_generation({"model": "alias", "prompt": prompt, **parameters}), step("openai", model)
        call = replace(call, files={"image": (File("a.png", "image/png", b"a"),) * seen} if seen else {})
        prices = PRICES if model.startswith("gpt") else BY_PIECE
        ceiling = Ceiling.of(call, where, prices, Room())
        assert ceiling.unbounded is None
        assert ceiling.hold_usd is not None
        sent = images.asked(call.request_for(where, ceiling.most), where.deployment).body
        if model.startswith("gpt"):
            bill = cost_usd(dearest_bill(sent, model, written_tokens, seen), prices)
        else:
            bill = cost_usd(images.pictures(sent.get("n") or 1, sent, where.deployment), prices)
        assert bill is not None
        assert ceiling.hold_usd >= bill

    holds()


def test_nothing_that_is_asked_for_can_cost_more_than_was_held() -> None:
    explore(80)


@pytest.mark.parametrize("image", ["a.png", ["a.png"], {"url": "a"}, 7])
def test_a_picture_in_the_json_of_a_generation_is_sent_on_as_it_is(image: Any) -> None:
    body = {"model": "alias", "prompt": "a cat", "image": image}
    call = parse_generation(body)
    with Simulator() as sim:
        sim.behave("openai", forever=Behaviour(status=400, body={"error": {"message": "Unknown parameter: 'image'."}}))
        request = call_to(sim, "openai", dict(call.body), model="gpt-image-1")
        with pytest.raises(UpstreamError) as refused:
            upstream_for("openai").draw(request)
        (asked,) = sim.requests
    assert refused.value.kind is FailureKind.BAD_REQUEST
    assert asked.path.endswith("/images/generations")
    assert (asked.body or {})["image"] == image


@pytest.mark.parametrize("name", ["image", "mask"])
def test_a_picture_that_is_sent_as_a_text_is_refused(name: str) -> None:
    picture = File("a.png", "image/png", b"a")
    fields = {"model": ("alias",), "prompt": ("a cat",), name: ("a text",)}
    with pytest.raises(InvalidRequest, match="must be a file") as refused:
        parse_edit(Form(fields, {"image": (picture,)}))
    assert refused.value.param == name


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3"])
def test_a_size_that_the_provider_would_choose_is_not_asked_of_a_model_with_a_price_a_size(model: str) -> None:
    body = {"model": "alias", "prompt": "a cat", "size": "auto", "quality": "auto"}
    sent = images.asked(body, step("openai", model).deployment).body
    assert sent == {"model": model, "prompt": "a cat"}
