"""Whose fault a refusal is, by the provider's own words: each message is quoted as it was documented or reported."""

from __future__ import annotations

import json
from typing import Any

import pytest

from routing.upstreams import errors
from routing.upstreams.base import FailureKind as Kind
from routing.upstreams.base import UpstreamError
from routing.upstreams.wordings import WORDINGS

ACCOUNT, MODEL, CONTEXT, CONTENT, CAPABILITY, REQUEST, RATE = (
    Kind.AUTHENTICATION,
    Kind.NOT_FOUND,
    Kind.CONTEXT_WINDOW,
    Kind.CONTENT_POLICY,
    Kind.CAPABILITY,
    Kind.BAD_REQUEST,
    Kind.RATE_LIMITED,
)

#: What the message says, its provider, the status that it came with, and the message.
SAID: list[tuple[Kind, str, int, str]] = [
    (ACCOUNT, "openai", 401, "Incorrect API key provided: sk-abc***xyz. You can find your API key at …"),
    (
        ACCOUNT,
        "openai",
        400,
        "Your organization must be verified to stream this model. Please go to: "
        "https://platform.openai.com/settings/organization/general and click on Verify Organization.",
    ),
    (ACCOUNT, "openai", 403, "Country, region, or territory not supported"),
    (ACCOUNT, "openai", 400, "Billing hard limit has been reached"),
    (ACCOUNT, "openai", 429, "Your account is not active, please check your billing details on our website."),
    (ACCOUNT, "openai", 401, "You must be a member of an organization to use the API. Please contact us through …"),
    (ACCOUNT, "openai", 403, "Project `proj_x1` does not have access to model `gpt-4o`"),
    (ACCOUNT, "anthropic", 400, "Your credit balance is too low to access the Anthropic API. Please go to Plans …"),
    (
        ACCOUNT,
        "anthropic",
        400,
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    ),
    (ACCOUNT, "anthropic", 400, "You have reached your specified workspace API usage limits. You will regain access …"),
    (ACCOUNT, "anthropic", 400, "This organization has been disabled."),
    (ACCOUNT, "anthropic", 403, "Your API key does not have permission to use the specified resource."),
    (ACCOUNT, "gemini", 400, "API key not valid. Please pass a valid API key."),
    (ACCOUNT, "gemini", 400, "API Key not found. Please pass a valid API key."),
    (ACCOUNT, "gemini", 400, "API key expired. Please renew the API key."),
    (ACCOUNT, "gemini", 400, "User location is not supported for the API use."),
    (ACCOUNT, "gemini", 403, "Permission denied: Consumer 'api_key:AIza…' has been suspended."),
    (
        ACCOUNT,
        "vertex_ai",
        403,
        "Vertex AI API has not been used in project 123 before or it is disabled. Enable it by visiting …",
    ),
    (ACCOUNT, "xai", 400, "Incorrect API key provided: xa***. You can obtain an API key from https://console.x.ai."),
    (ACCOUNT, "xai", 403, "Your newly created team doesn't have any credits or licenses yet. You can purchase those …"),
    (
        ACCOUNT,
        "xai",
        429,
        "Your team 16f2151a has either used all available credits or reached its monthly spending limit. To continue …",
    ),
    (ACCOUNT, "deepseek", 402, "Insufficient Balance"),
    (ACCOUNT, "openrouter", 402, "Insufficient credits. Add more using https://openrouter.ai/settings/credits"),
    (
        ACCOUNT,
        "openrouter",
        403,
        "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys",
    ),
    (
        ACCOUNT,
        "openrouter",
        402,
        "This request requires more credits, or fewer max_tokens. You requested up to 64000 tokens, but can only "
        "afford 512.",
    ),
    (
        ACCOUNT,
        "openrouter",
        404,
        "No endpoints available matching your guardrail restrictions and data policy. Configure: "
        "https://openrouter.ai/settings/privacy",
    ),
    (ACCOUNT, "openrouter", 404, "No endpoints found matching your data policy (Free model publication)."),
    (ACCOUNT, "groq", 400, "Organization has been restricted. Please reach out to support if you believe this was …"),
    (ACCOUNT, "groq", 400, "The model `canopylabs/orpheus` requires terms acceptance. Please have the org admin …"),
    (ACCOUNT, "groq", 403, "The model `openai/gpt-oss-120b` is blocked at the project level. Please have a project …"),
    (ACCOUNT, "bedrock", 403, "You don't have access to the model with the specified model ID."),
    (
        ACCOUNT,
        "bedrock",
        400,
        "Access to Anthropic models is not allowed from unsupported countries, regions, or territories.",
    ),
    (ACCOUNT, "bedrock", 404, "Model use case details have not been submitted for this account. Fill out the …"),
    (
        ACCOUNT,
        "moonshot",
        403,
        "Your account org-1<ak-2> is suspended, please check your plan and billing details",
    ),
    (
        ACCOUNT,
        "fireworks_ai",
        412,
        "Account acme-1 is suspended, possibly due to reaching the monthly spending limit or failure to pay invoices.",
    ),
    (ACCOUNT, "dashscope", 400, "Access denied, please make sure your account is in good standing."),
    (ACCOUNT, "dashscope", 403, "The free tier of the model has been exhausted. If you wish to continue access …"),
    (ACCOUNT, "zai", 429, "余额不足或无可用资源包,请充值。"),
    (MODEL, "openai", 404, "The model `gpt-9` does not exist or you do not have access to it."),
    (MODEL, "openai", 404, "This is not a chat model and thus not supported in the v1/chat/completions endpoint."),
    (MODEL, "openai", 404, "This model is only supported in v1/responses and not in v1/chat/completions."),
    (
        MODEL,
        "groq",
        400,
        "The model `mixtral-8x7b-32768` has been decommissioned and is no longer supported. Please refer to …",
    ),
    (MODEL, "anthropic", 404, "model: claude-2.9"),
    (
        MODEL,
        "gemini",
        404,
        "models/gemini-9-pro is not found for API version v1beta, or is not supported for generateContent. Call …",
    ),
    (MODEL, "gemini", 404, "This model models/gemini-2.0-flash is no longer available to new users. Please update …"),
    (MODEL, "deepseek", 400, "Model Not Exist"),
    (MODEL, "openrouter", 400, "zzz/not-a-model-9000:free is not a valid model ID"),
    (MODEL, "openrouter", 404, "No endpoints found for mistralai/mistral-old:free."),
    (MODEL, "ollama", 404, 'model "llama9:70b" not found, try pulling it first'),
    (MODEL, "cohere", 404, "model 'command-r' was removed on September 15, 2025."),
    (MODEL, "mistral", 400, "Invalid model: mistral-gigantic"),
    (MODEL, "perplexity", 400, "Invalid model 'sonar-old'. Permitted models can be found in the documentation at …"),
    (MODEL, "moonshot", 404, "Not found the model kimi-k9 or Permission denied"),
    (MODEL, "together_ai", 400, "Unable to access non-serverless model meta/llama-9. Please visit …"),
    (MODEL, "fireworks_ai", 404, "Model not found, inaccessible, and/or not deployed"),
    (MODEL, "bedrock", 400, "The provided model identifier is invalid."),
    (MODEL, "bedrock", 400, "Invocation of model ID anthropic.claude-4 with on-demand throughput isn't supported."),
    (MODEL, "vertex_ai", 404, "Publisher Model `projects/p/locations/l/publishers/google/models/x` was not found or …"),
    (
        MODEL,
        "azure",
        404,
        "The API deployment for this resource does not exist. If you created the deployment within …",
    ),
    (MODEL, "siliconflow", 400, "Model does not exist. Please check it carefully."),
    (MODEL, "huggingface", 400, "The requested model 'acme/x' is not supported by any provider you have enabled."),
    (MODEL, "zai", 400, "模型不存在"),
    (
        CONTEXT,
        "openai",
        400,
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 204308 tokens.",
    ),
    (CONTEXT, "openai", 400, "Your input exceeds the context window of this model. Please adjust your input and try …"),
    (
        CONTEXT,
        "openai",
        400,
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
    ),
    (
        CONTEXT,
        "openai",
        429,
        "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 342389. "
        "The input or output tokens must be reduced in order to run successfully.",
    ),
    (
        CONTEXT,
        "openai",
        400,
        "Invalid 'messages[0].content': string too long. Expected a string with maximum length 1048576, but got a …",
    ),
    (CONTEXT, "groq", 400, "Please reduce the length of the messages or completion."),
    (
        CONTEXT,
        "groq",
        413,
        "Request too large for model `llama-3.1-8b-instant` in organization `org_1` service tier `on_demand` on tokens "
        "per minute (TPM): Limit 6000, Requested 6294, please reduce your message size and try again. Need more "
        "tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing",
    ),
    (
        CONTEXT,
        "groq",
        413,
        "Request too large for model `x` on requests, please reduce your message size and try again.",
    ),
    (CONTEXT, "anthropic", 400, "prompt is too long: 202095 tokens > 200000 maximum"),
    (CONTEXT, "anthropic", 400, "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000"),
    (CONTEXT, "anthropic", 429, "Extra usage is required for long context requests."),
    (
        CONTEXT,
        "gemini",
        400,
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
    ),
    (
        CONTEXT,
        "vertex_ai",
        400,
        "Unable to submit request because the input token count is 40000 but model only supports up to 32768.",
    ),
    (
        CONTEXT,
        "xai",
        400,
        "This model's maximum prompt length is 131072 but the request contains 136973 tokens.",
    ),
    (
        CONTEXT,
        "mistral",
        400,
        "Prompt contains 140000 tokens and 0 draft tokens, too large for model with 131072 maximum context length",
    ),
    (CONTEXT, "bedrock", 400, "Input is too long for requested model."),
    (CONTEXT, "bedrock", 400, "Too many input tokens. Max input tokens: 8192, request input token count: 9000"),
    (CONTEXT, "cohere", 400, "too many tokens: the total number of tokens in the prompt cannot exceed 128000"),
    (CONTEXT, "cerebras", 400, "Please reduce the length of the messages. Current length is 9000 while limit is 8192"),
    (CONTEXT, "cerebras", 400, "Current length is 9000 while limit is 8192"),
    (CONTEXT, "moonshot", 400, "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)"),
    (
        CONTEXT,
        "dashscope",
        400,
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 983616]",
    ),
    (CONTEXT, "minimax", 400, "invalid params, context window exceeds limit"),
    (CONTEXT, "zai", 400, "Prompt exceeds max length"),
    (
        CONTEXT,
        "huggingface",
        422,
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and …",
    ),
    (
        CONTEXT,
        "hosted_vllm",
        400,
        "The decoder prompt (length 10127) is longer than the maximum model length of 8192. Make sure that …",
    ),
    (CONTEXT, "hosted_vllm", 400, "Prompt length 9000 exceeds the max_model_len 8192"),
    (CONTEXT, "sglang", 400, "The input (41000 tokens) is longer than the model's context length (32768 tokens)."),
    (CONTEXT, "llamafile", 400, "the request exceeds the available context size. try increasing the context size"),
    (
        CONTEXT,
        "lm_studio",
        400,
        "The number of tokens to keep from the initial prompt is greater than the context length",
    ),
    (CONTEXT, "lm_studio", 400, "The model was loaded with a context length of only 4096 tokens."),
    (CONTEXT, "ollama", 400, "prompt too long; exceeded max context length by 812 tokens"),
    (CONTEXT, "ollama", 500, "the input length exceeds the context length"),
    (CONTEXT, "github", 400, "prompt token count of 70000 exceeds the limit of 64000"),
    (CONTEXT, "openrouter", 400, "Input length 265330 exceeds the maximum allowed input length of 262112 tokens"),
    (CONTEXT, "watsonx", 400, "the prompt exceeds this model's maximum context limit"),
    (CONTEXT, "litellm_proxy", 400, "litellm.ContextWindowExceededError: litellm.BadRequestError: …"),
    (CONTENT, "openai", 400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy."),
    (CONTENT, "openai", 400, "Your request was rejected as a result of our safety system."),
    (CONTENT, "openai", 400, "This content was flagged for possible cybersecurity risk."),
    (
        CONTENT,
        "azure",
        400,
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    ),
    (CONTENT, "anthropic", 400, "Output blocked by content filtering policy"),
    (
        CONTENT,
        "xai",
        403,
        "Content violates usage guidelines. Team: 8c26, API key ID: 12, Model: grok-4, Failed check: "
        "SAFETY_CHECK_TYPE_BIO",
    ),
    (
        CONTENT,
        "openrouter",
        403,
        'openai/gpt-5 requires moderation on OpenAI. Your input was flagged for "violence". No credits were charged.',
    ),
    (CONTENT, "deepseek", 400, "Content Exists Risk"),
    (
        CONTENT,
        "dashscope",
        400,
        "<400> InternalError.Algo.DataInspectionFailed: Input text data may contain inappropriate content.",
    ),
    (CONTENT, "zai", 400, "系统检测到输入或生成内容可能包含不安全或敏感内容"),
    (CONTENT, "moonshot", 400, "The request was rejected because it was considered high risk"),
    (CONTENT, "minimax", 400, "input new_sensitive"),
    (CONTENT, "vertex_ai", 400, "The response was blocked."),
    (CONTENT, "bedrock", 400, "The generated text has been blocked by our content filters."),
    (CONTENT, "volcengine", 400, "The request failed because the input text may contain sensitive information."),
    (CONTENT, "stepfun", 451, "The content you provided or machine outputted is blocked."),
    (CONTENT, "litellm_proxy", 400, "litellm.ContentPolicyViolationError: …"),
    (CAPABILITY, "openrouter", 404, "No endpoints found that support image input"),
    (CAPABILITY, "openrouter", 404, 'No endpoints found that support tool use. Try disabling "get_time".'),
    (
        CAPABILITY,
        "openrouter",
        404,
        "No endpoints found that can handle the requested parameters. To learn more about provider routing, visit: …",
    ),
    (CAPABILITY, "openai", 400, "Invalid content type. image_url is only supported by certain models."),
    (
        CAPABILITY,
        "openai",
        400,
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
    ),
    (CAPABILITY, "openai", 400, "Unsupported parameter: 'tools' is not supported with this model."),
    (CAPABILITY, "groq", 400, "`tool calling` is not supported with this model"),
    (CAPABILITY, "groq", 400, "This model does not support response format `json_schema`. See supported models at …"),
    (CAPABILITY, "gemini", 400, "Image input modality is not enabled for models/gemma-3-1b-it"),
    (CAPABILITY, "gemini", 400, "Function calling is not enabled for models/gemma-3-27b-it"),
    (CAPABILITY, "gemini", 400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
    (
        CAPABILITY,
        "deepseek",
        400,
        "Failed to deserialize the JSON body into the target type: messages[0]: unknown variant `image_url`, expected "
        "`text` at line 1 column 104",
    ),
    (CAPABILITY, "hosted_vllm", 400, "GLM-5.2 is not a multimodal model"),
    (CAPABILITY, "hosted_vllm", 400, "At most 0 image(s) may be provided in one prompt."),
    (
        CAPABILITY,
        "hosted_vllm",
        400,
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    ),
    (
        CAPABILITY,
        "llamafile",
        500,
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    ),
    (CAPABILITY, "ollama", 400, "registry.ollama.ai/library/gemma:latest does not support tools"),
    (CAPABILITY, "ollama", 400, "this model does not support image input (ref: b8bd630e)"),
    (CAPABILITY, "bedrock", 400, "This model doesn't support tool use."),
    (CAPABILITY, "lm_studio", 400, "Model does not support images. Please use a model that does."),
    (CAPABILITY, "xai", 400, "Image inputs are not supported by this model."),
    (CAPABILITY, "perplexity", 400, "Tool calling is not supported for this model"),
    (
        CAPABILITY,
        "anthropic",
        400,
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
    (CAPABILITY, "groq", 400, "`reasoning_effort` is not supported with this model"),
    (CAPABILITY, "xai", 400, "Model grok-4.20-0309-reasoning does not support parameter reasoningEffort."),
    (
        CAPABILITY,
        "openai",
        400,
        "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) …",
    ),
    (
        CAPABILITY,
        "openai",
        400,
        "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. Please use …",
    ),
    (CAPABILITY, "openai", 400, "Invalid schema for function 'f': In context=(), 'additionalProperties' is required"),
    (
        CAPABILITY,
        "openai",
        400,
        "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array …",
    ),
    (CAPABILITY, "openai", 400, "Invalid 'user': string too long. Expected a string with maximum length 64."),
    (
        CAPABILITY,
        "openai",
        400,
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
    ),
    (
        CAPABILITY,
        "openai",
        400,
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.",
    ),
    (
        CAPABILITY,
        "openai",
        400,
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
    ),
    (
        CAPABILITY,
        "anthropic",
        400,
        "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for claude",
    ),
    (
        CAPABILITY,
        "dashscope",
        400,
        "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]",
    ),
    (
        CAPABILITY,
        "anthropic",
        400,
        "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6291456 bytes > 5242880 bytes",
    ),
    (CAPABILITY, "anthropic", 400, "messages.1.content.7: Invalid `signature` in `thinking` block"),
    (
        CAPABILITY,
        "anthropic",
        400,
        "messages.15.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`. When `thinking` …",
    ),
    (
        CAPABILITY,
        "anthropic",
        400,
        "tools.14.custom.input_schema.properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'",
    ),
    (CAPABILITY, "anthropic", 400, "tools.0.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"),
    (CAPABILITY, "anthropic", 400, "This model does not support effort level 'xhigh'."),
    (
        CAPABILITY,
        "gemini",
        400,
        "Function call is missing a thought_signature in functionCall parts. This is required …",
    ),
    (CAPABILITY, "gemini", 400, "Thinking level MINIMAL is not supported for this model. Please retry with other …"),
    (CAPABILITY, "gemini", 400, "The thinking budget 99 is invalid. Please choose a value between 128 and 32768."),
    (
        CAPABILITY,
        "gemini",
        400,
        "Unable to submit request because thinking_level MEDIUM is not supported by this model. Learn more: …",
    ),
    (
        CAPABILITY,
        "gemini",
        400,
        "* GenerateContentRequest.tools[0].function_declarations[3].parameters.properties[a].items: missing field.",
    ),
    (
        CAPABILITY,
        "gemini",
        400,
        "Please ensure that function call turn comes immediately after a user turn or after a function response turn.",
    ),
    (CAPABILITY, "gemini", 400, "Unable to submit request because Unsupported MIME type: image/jpg"),
    (CAPABILITY, "mistral", 400, "Unexpected role 'user' after role 'tool'"),
    (
        CAPABILITY,
        "hosted_vllm",
        400,
        "Conversation roles must alternate user/assistant/user/assistant/...",
    ),
    (CAPABILITY, "deepseek", 400, "The `reasoning_content` in the thinking mode must be passed back to the API."),
    (
        CAPABILITY,
        "moonshot",
        400,
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
    ),
    (CAPABILITY, "deepseek", 400, "Thinking mode does not support this tool_choice"),
    (CAPABILITY, "deepseek", 400, "This response_format type is unavailable now"),
    (CAPABILITY, "llamafile", 400, "Assistant response prefill is incompatible with enable_thinking."),
    (CAPABILITY, "ollama", 400, "Cannot have 2 or more assistant messages at the end of the list."),
    (
        CAPABILITY,
        "openai",
        400,
        "Invalid 'messages[2]'. Image URLs are only allowed for messages with role 'user', but this message with …",
    ),
    (
        CAPABILITY,
        "deepseek",
        400,
        "Failed to deserialize the JSON body …: messages[2]: invalid type: sequence, expected a string …",
    ),
    (CAPABILITY, "cerebras", 422, "Tools with mixed values for 'strict' are not allowed. Please set all tools to …"),
    (
        CAPABILITY,
        "anthropic",
        400,
        "Unexpected value(s) `tool-examples-2025-10-29` for the `anthropic-beta` header. Please consult …",
    ),
    (CAPABILITY, "dashscope", 400, "parameter.enable_thinking must be set to false for non-streaming calls"),
    (CAPABILITY, "groq", 400, "`reasoning_effort` must be one of `low`, `medium`, or `high`"),
    (
        CAPABILITY,
        "groq",
        400,
        "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details.",
    ),
    (REQUEST, "gemini", 403, "CachedContent not found (or permission denied)"),
    (REQUEST, "gemini", 403, "You do not have permission to access the File abc or it may not exist."),
    (REQUEST, "gemini", 403, "You do not have permission to access the CachedContent abc or it may not exist."),
    (REQUEST, "openai", 404, "No such File object: file-abc"),
    (REQUEST, "openai", 404, "Previous response with id 'resp_1' not found."),
    (REQUEST, "openai", 404, "Container with id 'cntr_1' not found."),
    (REQUEST, "anthropic", 404, "File not found: file_011"),
    (REQUEST, "anthropic", 404, "Container container_011 does not exist"),
    (REQUEST, "openai", 404, "Error while downloading file. Upstream status code: 404."),
]


def refusal(status: int, message: str, **error: Any) -> UpstreamError:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", **error}}).encode()
    return errors.from_response(status, {}, body)


@pytest.mark.parametrize(("kind", "provider", "status", "message"), SAID, ids=[f"{s[1]}: {s[3][:50]}" for s in SAID])
def test_a_refusal_is_of_the_kind_that_its_words_say(kind: Kind, provider: str, status: int, message: str) -> None:
    assert refusal(status, message).kind is kind


def test_every_wording_is_said_by_somebody() -> None:
    unused = [
        wording.pattern
        for wording in WORDINGS
        if not any(wording.is_in(message) and wording.kind is kind for kind, _, _, message in SAID)
    ]
    assert unused == []
    assert all(wording.provider and wording.source for wording in WORDINGS)


def test_no_message_is_claimed_by_the_words_of_two_kinds() -> None:
    for kind, _, _, message in SAID:
        assert {w.kind for w in WORDINGS if w.is_in(message)} == {kind}, message


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (
            400,
            REQUEST,
            "messages.0.content.0.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png'",
        ),
        # a pace, which the next minute mends
        (429, RATE, "Too many tokens, please wait before trying again."),
        (
            429,
            RATE,
            "Rate limit reached for model `llama-3.1-8b-instant` in organization `org_1` on tokens per minute (TPM): "
            "Limit 6000, Used 5034, Requested 1443. Please try again in 4.77s. Need more tokens? Upgrade to Dev Tier",
        ),
        (
            429,
            RATE,
            "This request would exceed the rate limit for your organization of 40,000 input tokens per minute. Please "
            "reduce the prompt length or the maximum tokens requested, or try again later.",
        ),
        (429, RATE, "You exceeded your current quota, please check your plan and billing details."),
        # our account and its key, without a word that tells more
        (403, ACCOUNT, "The caller does not have permission"),
        (401, ACCOUNT, "invalid x-api-key"),
        (429, RATE, "Too many requests to download the file: slow down"),
        (404, MODEL, "Not Found"),
        # a provider that fails speaks of itself
        (500, Kind.OVERLOADED, "Insufficient balance service unavailable"),
        (503, Kind.OVERLOADED, "The model `gpt-4o` does not exist on this replica yet"),
    ],
)
def test_words_do_not_misfire(status: int, kind: Kind, message: str) -> None:
    assert refusal(status, message).kind is kind


@pytest.mark.parametrize(
    "echo",
    [
        "Your credit balance is too low",
        "API key not valid",
        "The model `x` does not exist",
        "x is not a valid model ID",
    ],
)
@pytest.mark.parametrize(
    "around",
    [
        "Invalid value: '{}'. Supported values are: 'low', 'medium', and 'high'.",
        "[{{'type': 'extra_forbidden', 'loc': ('body', 'x'), 'msg': 'Extra inputs are not permitted', 'input': '{}'}}]",
        "'{}' is not of type 'number'",
        '"{}" is not one of ["a", "b"]',
    ],
)
def test_no_client_can_make_a_provider_blame_us(echo: str, around: str) -> None:
    """What counts against a key or a model that all share is not taken from an echo of one client's request."""
    assert refusal(400, around.format(echo)).kind is REQUEST


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "model_decommissioned", MODEL),
        (400, "model_not_found", MODEL),
        (400, "data_inspection_failed", CONTENT),
        (403, "content_filter", CONTENT),
        (400, "context_length_exceeded", CONTEXT),
        (429, "insufficient_quota", ACCOUNT),
        (400, "Arrearage", ACCOUNT),
        (403, "unsupported_country_region_territory", ACCOUNT),
        (400, "tool_use_failed", CAPABILITY),
        (400, "unsupported_parameter", CAPABILITY),
        (400, "something_else", REQUEST),
    ],
)
def test_where_words_say_nothing_codes_do(status: int, code: str, kind: Kind) -> None:
    assert refusal(status, "No.", code=code).kind is kind


@pytest.mark.parametrize("status", [s for s in range(400, 500) if s != 408])
def test_a_prompt_is_not_held_against_a_deployment_whatever_the_status(status: int) -> None:
    for kind in (CONTEXT, CONTENT, CAPABILITY):
        message = next(said[3] for said in SAID if said[0] is kind)
        error = refusal(status, message)
        assert error.kind is kind
        assert error.client_status in (400, 413, 415, 422)
        assert error.error_type == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (  # OpenRouter hands on what its provider said
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {"raw": '{"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}'},
                }
            },
            CONTEXT,
            "prompt is too long: 9 tokens > 8 maximum",
        ),
        (
            {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "Content Exists Risk"}}},
            CONTENT,
            "Content Exists Risk",
        ),
        ({"code": "permission-denied", "error": "Content Exists Risk"}, CONTENT, "Content Exists Risk"),  # xAI
        ({"errors": [{"message": "No such model", "code": 5007}], "success": False}, REQUEST, "No such model"),
        ({"error": ["Input is too long"]}, CONTEXT, "Input is too long"),
    ],
)
def test_words_are_found_wherever_a_provider_puts_them(body: Any, kind: Kind, message: str) -> None:
    error = errors.from_response(400, {}, json.dumps(body).encode())
    assert (error.kind, error.message) == (kind, message)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"error": {"message": "busy", "code": "429"}}, RATE, 429),  # a status as text
        ({"object": "error", "message": "The model `x` does not exist", "code": 404}, MODEL, 404),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}, "choices": None}, ACCOUNT, 500),
        ({"error": {"message": "the prompt is greater than the context length"}}, CONTEXT, 400),
        ({"error": {"message": "oops"}}, Kind.OVERLOADED, 500),
    ],
)
def test_an_error_in_the_place_of_an_answer_is_one(body: Any, kind: Kind, status: int) -> None:
    error = errors.from_event(body)
    assert error is not None
    assert (error.kind, error.http_status) == (kind, status)


def test_an_answer_is_no_error() -> None:
    assert errors.from_event({"object": "chat.completion", "choices": [], "base_resp": {"status_code": 0}}) is None
