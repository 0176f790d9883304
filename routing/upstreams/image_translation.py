"""Pictures of providers with a format of their own: litellm's classes for it translate, we carry.

Only classes that do nothing but translate: some of litellm's call the provider by themselves, to ask whether a picture
is ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from routing.upstreams import errors, images
from routing.upstreams.base import FailureKind, Json, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.embeddings import answered
from routing.upstreams.http.transport import USER_AGENT, post
from routing.upstreams.litellm_import import load
from routing.upstreams.mends.capability import cannot
from routing.upstreams.provider_json import dumps
from routing.upstreams.scrubbing import scrubbed

#: litellm's providers whose classes were read: they call nobody.
_PURE: Final = frozenset({"aiml", "cometapi", "gemini"})
_APART: Final = frozenset({"model", "prompt"})


def draw(request: UpstreamRequest) -> WholeAnswer:
    """Raises UpstreamError."""
    deployment = request.deployment
    if deployment.litellm_provider not in _PURE:
        raise cannot("The gateway cannot ask this provider for pictures", "model")
    images.resource_of(request)  # raises when a picture is to be changed
    if not request.api_key:  # litellm would go and look in the environment
        raise UpstreamError(FailureKind.NO_KEY, "The provider has no key")
    errors.authorization(request.api_key)
    asked = images.asked(request.body, deployment)
    litellm = load()
    config = litellm.utils.ProviderConfigManager.get_provider_image_generation_config(
        model=deployment.model, provider=litellm.types.utils.LlmProviders(deployment.litellm_provider)
    )
    try:
        sent = _Sent.of(config, asked.body, request)
    except UpstreamError:
        raise
    except Exception as error:
        said = scrubbed(str(error), request.api_key)
        raise cannot(f"The request cannot be translated to the provider's format: {said}") from error
    answer = post(sent.url, {**sent.headers, "User-Agent": USER_AGENT}, dumps(sent.body), request.timeouts)
    answered(answer, request.api_key)  # raises for an error, whatever its status
    try:
        read = config.transform_image_generation_response(
            model=deployment.model,
            raw_response=_response_of(answer.status, answer.body),
            model_response=litellm.ImageResponse(),
            logging_obj=_Silence(),
            request_data=sent.body,
            optional_params=dict(sent.parameters),
            litellm_params={},
            encoding=None,
        ).model_dump(exclude_none=True)
    except Exception as error:
        raise errors.malformed(answer.status, answer.headers, request.api_key) from error
    body: Json = {name: read[name] for name in ("created", "data", "usage") if name in read}
    request_id = errors.request_id(answer.headers, request.api_key)
    asked = images.Asked(asked.body, tuple(sorted((*asked.dropped, *sent.dropped))))
    return images.drawn(body, deployment, asked, http_status=answer.status, request_id=request_id)


class _Sent:
    """The request in the provider's format."""

    def __init__(self, url: str, headers: Json, body: Json, parameters: Json, dropped: tuple[str, ...]) -> None:
        self.url, self.headers, self.body, self.parameters, self.dropped = url, headers, body, parameters, dropped

    @classmethod
    def of(cls, config: Any, given: Mapping[str, Any], request: UpstreamRequest) -> _Sent:
        """Raises whatever litellm raises."""
        model, base_url = request.deployment.model, request.deployment.base_url
        # `tools` and a picture's own configuration may cost more, and a client must not reach litellm's own controls.
        takes = set(config.get_supported_openai_params(model)) & _PARAMETERS
        kept = {name: value for name, value in given.items() if name in takes}
        parameters = config.map_openai_params(kept, {}, model, True)
        headers = config.validate_environment({}, model, [], parameters, {}, api_key=request.api_key, api_base=base_url)
        url = config.get_complete_url(base_url, request.api_key, model, parameters, {})
        body = config.transform_image_generation_request(model, given["prompt"], parameters, {}, headers)
        dropped = given.keys() - takes - _APART - {"response_format"}
        return cls(url, headers, dict(body), dict(parameters), tuple(dropped))


_PARAMETERS: Final = frozenset(
    {
        "background", "moderation", "n", "output_compression", "output_format", "quality", "response_format", "size",
        "style", "user",
    }
)  # fmt: skip


class _Silence:
    """All that litellm's transforms ask of its `Logging` object."""

    def pre_call(self, *_: object, **__: object) -> None:
        pass

    def post_call(self, *_: object, **__: object) -> None:
        pass


def _response_of(status: int, body: bytes) -> Any:
    import httpx  # what litellm's transforms read from; not imported before litellm is

    return httpx.Response(status, headers={"content-type": "application/json"}, content=body)
