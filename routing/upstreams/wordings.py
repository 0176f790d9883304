"""How providers word a refusal, and whose fault each wording means.

The status does not say whose fault it is: xAI refuses a prompt's content with 403, OpenRouter a picture with 404, Groq
a prompt that is too long with 413, Anthropic an account without credit with 400. The words say it. Each row names the
provider that says it, and where that is documented or was reported. tests/wire/test_wordings.py has each message as it
was quoted.

Two kinds harm all clients: `AUTHENTICATION` puts a key out, and `NOT_FOUND` opens a breaker. Providers echo parts of a
request in their errors, so a client could make them say such words. These wordings therefore count only at the
*beginning* of a message: a provider's own words come before what it echoes. The other kinds concern this request alone,
and are looked for anywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from routing.upstreams.base import FailureKind

ACCOUNT: Final = FailureKind.AUTHENTICATION
MODEL: Final = FailureKind.NOT_FOUND
CONTEXT: Final = FailureKind.CONTEXT_WINDOW
CONTENT: Final = FailureKind.CONTENT_POLICY
CAPABILITY: Final = FailureKind.CAPABILITY
REQUEST: Final = FailureKind.BAD_REQUEST

#: How much of a message is read. Providers say what is wrong within it, and what they echo may be long.
_READ_CHARACTERS: Final = 4000
#: What libraries and gateways put in front of a provider's own words.
_IN_FRONT: Final = r"(?:(?:Error code: \d{3} - |<\d{3}> |(?:litellm\.)?\w+(?:Error|Exception):? ?-? ?))*"


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to say what is wrong. `pattern` is a regular expression that ignores upper and lower case."""

    kind: FailureKind
    provider: str  # the provider that says it, by litellm's name
    pattern: str
    source: str  # a page, a repository's issue, or a file of litellm's
    compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        opening = _IN_FRONT if self.kind in (ACCOUNT, MODEL) else ""
        object.__setattr__(self, "compiled", re.compile(opening + self.pattern, re.IGNORECASE))

    def is_in(self, message: str) -> bool:
        """Whether the message says it. A kind that harms all clients counts at the message's beginning alone."""
        find = self.compiled.match if self.kind in (ACCOUNT, MODEL) else self.compiled.search
        return find(message) is not None


_LITELLM: Final = "litellm: litellm_core_utils/exception_mapping_utils.py"
_PI: Final = "earendil-works/pi: packages/ai/src/utils/overflow.ts"
_HERMES: Final = "NousResearch/hermes-agent: agent/error_classifier.py"
_OPENAI_ERRORS: Final = "https://platform.openai.com/docs/guides/error-codes"
_GEMINI_ERRORS: Final = "https://ai.google.dev/gemini-api/docs/troubleshooting"
_OPENROUTER_ERRORS: Final = "https://openrouter.ai/docs/api-reference/errors"
_GROQ_ERRORS: Final = "https://console.groq.com/docs/errors"
_BEDROCK_ERRORS: Final = "https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html"
_DASHSCOPE_ERRORS: Final = "https://www.alibabacloud.com/help/en/model-studio/error-code"
_ZHIPU_ERRORS: Final = "https://docs.bigmodel.cn/cn/faq/api-code"

#: Nouns for what a model may be unable to do.
_ABILITY: Final = (
    r"(?:image|vision|picture|audio|video|pdf|document|file|multi-?modal|tool|tool[ _-](?:use|calls?|calling)"
    r"|function|function[ _-]calls?|function[ _-]calling|structured outputs?|json_schema|developer instruction)s?"
)

WORDINGS: Final[tuple[Wording, ...]] = (
    # --- our account: credit, region, organisation, key -----------------------------------------------------
    Wording(ACCOUNT, "openai", r"incorrect api key provided", _OPENAI_ERRORS),
    Wording(ACCOUNT, "openai", r"your organization must be verified", "danny-avila/LibreChat#6926"),
    Wording(ACCOUNT, "openai", r"country, region, or territory not supported", _OPENAI_ERRORS),
    Wording(ACCOUNT, "openai", r"billing hard limit has been reached", _HERMES),
    Wording(ACCOUNT, "openai", r"your account is not active", _OPENAI_ERRORS),
    Wording(ACCOUNT, "openai", r"you must be a member of an organization", _OPENAI_ERRORS),
    Wording(
        ACCOUNT,
        "openai",
        r"project `?\S{1,80}`? does not have access to model",
        "https://platform.openai.com/docs/guides/error-codes",
    ),
    Wording(ACCOUNT, "anthropic", r"your credit balance is too low", "https://docs.claude.com/en/api/errors"),
    Wording(ACCOUNT, "anthropic", r"you have reached your specified .{0,20}api usage limits", "laravel/ai#864"),
    Wording(ACCOUNT, "anthropic", r"this organization has been disabled", "anthropics/claude-code"),
    Wording(ACCOUNT, "anthropic", r"your api key does not have permission", "https://docs.claude.com/en/api/errors"),
    Wording(ACCOUNT, "gemini", r"api key (?:not valid|not found|expired)", _GEMINI_ERRORS),
    Wording(ACCOUNT, "gemini", r"user location is not supported", "google-gemini/gemini-cli#1993"),
    Wording(ACCOUNT, "gemini", r"permission denied: consumer .{1,80} has been suspended", _GEMINI_ERRORS),
    Wording(ACCOUNT, "gemini", r"[\w ]{1,40} api has not been used in project", _LITELLM),
    Wording(ACCOUNT, "xai", r"your newly created teams? doesn't have any credits", "https://docs.x.ai/console/billing"),
    Wording(
        ACCOUNT,
        "xai",
        r"your team .{0,80}has either used all available credits or reached its monthly spending limit",
        "warpdotdev/warp#14863",
    ),
    Wording(ACCOUNT, "deepseek", r"insufficient balance", "continuedev/continue#9375"),
    Wording(ACCOUNT, "openrouter", r"insufficient credits", _OPENROUTER_ERRORS),
    Wording(ACCOUNT, "openrouter", r"key limit exceeded", _OPENROUTER_ERRORS),
    Wording(ACCOUNT, "openrouter", r"this request requires more credits", _OPENROUTER_ERRORS),
    Wording(
        ACCOUNT, "openrouter", r"no endpoints (?:found|available) matching your (?:data policy|guardrail)", _HERMES
    ),
    Wording(ACCOUNT, "groq", r"organization has been restricted", _GROQ_ERRORS),
    Wording(ACCOUNT, "groq", r"the model .{1,200}? requires terms acceptance", _GROQ_ERRORS),
    Wording(ACCOUNT, "groq", r"the model .{1,200}? is blocked at the (?:project|organization) level", _GROQ_ERRORS),
    Wording(ACCOUNT, "bedrock", r"you don't have access to the model with the specified model id", _BEDROCK_ERRORS),
    Wording(
        ACCOUNT,
        "bedrock",
        r"access to .{1,40} models is not allowed from unsupported countries",
        "https://www.anthropic.com/supported-countries",
    ),
    Wording(ACCOUNT, "bedrock", r"model use case details have not been submitted for this account", _BEDROCK_ERRORS),
    Wording(ACCOUNT, "moonshot", r"your account .{1,80} is suspended", "https://platform.moonshot.ai/docs/api/chat"),
    Wording(ACCOUNT, "fireworks_ai", r"account \S{1,80} is suspended", "https://docs.fireworks.ai"),
    Wording(
        ACCOUNT, "dashscope", r"access denied, please make sure your account is in good standing", _DASHSCOPE_ERRORS
    ),
    Wording(ACCOUNT, "dashscope", r"the free tier of the model has been exhausted", _DASHSCOPE_ERRORS),
    Wording(ACCOUNT, "zai", r"余额不足|您的账户已欠费", _ZHIPU_ERRORS),
    # --- the model is not there -----------------------------------------------------------------------------
    Wording(MODEL, "openai", r"the model .{1,200}? does not exist", _OPENAI_ERRORS),
    Wording(MODEL, "openai", r"this is not a chat model", "https://platform.openai.com/docs/deprecations"),
    Wording(
        MODEL, "openai", r"this model is only supported in v1/responses", "https://platform.openai.com/docs/models"
    ),
    Wording(
        MODEL,
        "groq",
        r"the model .{1,200}? has been (?:decommissioned|deprecated|retired|removed)",
        "https://console.groq.com/docs/deprecations",
    ),
    Wording(MODEL, "anthropic", r"model: \S{1,200}$", "https://docs.claude.com/en/api/errors"),
    Wording(MODEL, "gemini", r"models/\S{1,200} is not found for api version", _GEMINI_ERRORS),
    Wording(MODEL, "gemini", r"this model (?:models/\S{1,200} )?is no longer available", _GEMINI_ERRORS),
    Wording(MODEL, "deepseek", r"model not exist", "continuedev/continue#10758"),
    Wording(MODEL, "openrouter", r"[^\s'\"`]{1,200} is not a valid model", "NousResearch/hermes-agent#40066"),
    Wording(MODEL, "openrouter", r"no endpoints found for \S{1,200}$", "openclaw/openclaw#99079"),
    Wording(MODEL, "ollama", r"model \S{1,200} (?:not found|was removed)", "https://docs.ollama.com/api/errors"),
    Wording(MODEL, "mistral", r"invalid model\b", "https://docs.mistral.ai/api"),
    Wording(MODEL, "moonshot", r"not found the model", "https://platform.moonshot.ai/docs/api/chat"),
    Wording(
        MODEL, "together_ai", r"unable to access (?:non-serverless )?model", "https://docs.together.ai/docs/error-codes"
    ),
    Wording(MODEL, "fireworks_ai", r"model not found", "https://docs.fireworks.ai"),
    Wording(MODEL, "bedrock", r"the provided model identifier is invalid", _BEDROCK_ERRORS),
    Wording(
        MODEL, "bedrock", r"invocation of model id \S{1,200} with on-demand throughput isn.t supported", _BEDROCK_ERRORS
    ),
    Wording(MODEL, "vertex_ai", r"publisher model .{1,300}? (?:was not found|is not servable)", _LITELLM),
    Wording(MODEL, "azure", r"the api deployment for this resource does not exist", _LITELLM),
    Wording(MODEL, "siliconflow", r"model does not exist", "https://docs.siliconflow.com"),
    Wording(
        MODEL,
        "huggingface",
        r"the requested model .{1,200}? is not supported by",
        "https://huggingface.co/docs/inference-providers",
    ),
    Wording(MODEL, "zai", r"模型不存在", _ZHIPU_ERRORS),
    # --- the prompt is too long -----------------------------------------------------------------------------
    Wording(CONTEXT, "openai", r"maximum context length", "Niek/chatgpt-web#525"),
    Wording(CONTEXT, "openai", r"exceeds the context window", _PI),
    Wording(CONTEXT, "openai", r"input tokens exceed the configured limit", _LITELLM),
    Wording(CONTEXT, "openai", r"request too large for .{1,300} requested \d", "vanna-ai/vanna-flask#11"),
    Wording(CONTEXT, "openai", r"invalid '(?:messages\[\d+\]\.content|input)\S{0,20}': string too long", _LITELLM),
    Wording(CONTEXT, "openai", r"request too large\b.{0,300}(?:limit|tpm|tokens)", "continuedev/continue#10602"),
    Wording(CONTEXT, "groq", r"reduce the length of the messages", "thepersonalaicompany/amurex-backend#51"),
    Wording(CONTEXT, "groq", r"request too large for model .{1,300} reduce your message size", "elizaOS/eliza#4040"),
    Wording(CONTEXT, "anthropic", r"prompt is too long", "stackblitz/bolt.new#2449"),
    Wording(
        CONTEXT,
        "anthropic",
        r"exceed context limit",
        "https://docs.claude.com/en/docs/build-with-claude/context-windows",
    ),
    Wording(CONTEXT, "anthropic", r"extra usage is required for long context", _HERMES),
    Wording(CONTEXT, "gemini", r"exceeds the maximum number of (?:input )?tokens allowed", _GEMINI_ERRORS),
    Wording(CONTEXT, "vertex_ai", r"input token count is \d+ but model only supports up to", _LITELLM),
    Wording(CONTEXT, "xai", r"maximum prompt length is", "cline/cline#3120"),
    Wording(CONTEXT, "mistral", r"too large for model with \d+ maximum context", _PI),
    Wording(CONTEXT, "bedrock", r"input is too long", _LITELLM),
    Wording(CONTEXT, "bedrock", r"too many input tokens", _LITELLM),
    Wording(CONTEXT, "cohere", r"too many tokens(?!, please wait)", _LITELLM),
    Wording(CONTEXT, "cerebras", r"current length is \d+ while limit is", _LITELLM),
    Wording(CONTEXT, "moonshot", r"exceeded model token limit", _PI),
    Wording(CONTEXT, "dashscope", r"range of input length should be", _DASHSCOPE_ERRORS),
    Wording(CONTEXT, "minimax", r"context window exceeds limit", _PI),
    Wording(CONTEXT, "zai", r"prompt exceeds max length|prompt 超长", _ZHIPU_ERRORS),
    Wording(CONTEXT, "huggingface", r"`inputs` tokens \+ `max_new_tokens` must be", _LITELLM),
    Wording(CONTEXT, "hosted_vllm", r"longer than the maximum model length", "xorbitsai/inference#3785"),
    Wording(CONTEXT, "hosted_vllm", r"exceeds the max_model_len", _HERMES),
    Wording(CONTEXT, "sglang", r"longer than the model'?s context length", "BerriAI/litellm#10793"),
    Wording(CONTEXT, "llamafile", r"exceeds the available context size", _LITELLM),
    Wording(CONTEXT, "lm_studio", r"greater than the context length", _PI),
    Wording(CONTEXT, "lm_studio", r"model.{0,40} context length of only \d+ tokens", _PI),
    Wording(CONTEXT, "ollama", r"exceed(?:s|ed) (?:the |max )?context length", _PI),
    Wording(CONTEXT, "github", r"prompt token count of \d+ exceeds the limit of", _PI),
    Wording(CONTEXT, "openrouter", r"exceeds (?:the )?maximum allowed input length", _PI),
    Wording(CONTEXT, "watsonx", r"maximum context limit", _LITELLM),
    Wording(CONTEXT, "litellm_proxy", r"context[ _](?:length|window)[ _]exceeded|contextwindowexceeded", _LITELLM),
    # --- the content is refused -----------------------------------------------------------------------------
    Wording(CONTENT, "openai", r"violating our usage policy", _LITELLM),
    Wording(CONTENT, "openai", r"rejected as a result of (?:our|the) safety system", _LITELLM),
    Wording(CONTENT, "openai", r"flagged for possible cybersecurity risk", _HERMES),
    Wording(CONTENT, "azure", r"content management policy", _LITELLM),
    Wording(CONTENT, "anthropic", r"content filtering policy", _LITELLM),
    Wording(CONTENT, "xai", r"content violates usage guidelines|safety_check_type_", "theopenco/llmgateway#1785"),
    Wording(CONTENT, "openrouter", r"requires moderation on .{1,80} your input was flagged", _OPENROUTER_ERRORS),
    Wording(CONTENT, "deepseek", r"content exists risk", "https://api-docs.deepseek.com/quick_start/error_codes"),
    Wording(CONTENT, "dashscope", r"may contain inappropriate content|datainspectionfailed", "QwenLM/qwen-code#2905"),
    Wording(CONTENT, "zai", r"可能包含不安全或敏感内容", "langchain4j/langchain4j#1079"),
    Wording(
        CONTENT,
        "moonshot",
        r"request was rejected because it was considered high risk",
        "https://platform.moonshot.ai/docs/api/chat",
    ),
    Wording(CONTENT, "minimax", r"(?:input|output) new_sensitive", "https://platform.minimax.io/docs"),
    Wording(CONTENT, "vertex_ai", r"the response was blocked|violate[sd]? google's responsible ai practices", _LITELLM),
    Wording(
        CONTENT,
        "bedrock",
        r"blocked by our content filters",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/abuse-detection.html",
    ),
    Wording(
        CONTENT,
        "volcengine",
        r"text may contain sensitive information",
        "https://www.volcengine.com/docs/82379/1299023",
    ),
    Wording(
        CONTENT, "stepfun", r"content you provided or machine outputted is blocked", "https://platform.stepfun.com/docs"
    ),
    Wording(
        CONTENT, "litellm_proxy", r"contentpolicyviolation|(?:violat|block|refus)\w+ .{0,40}content polic", _LITELLM
    ),
    # --- the model cannot do that -----------------------------------------------------------------------------
    Wording(
        CAPABILITY,
        "openrouter",
        r"no endpoints found that (?:support|can handle) ",
        "openclaw/openclaw#99079",
    ),
    Wording(
        CAPABILITY,
        "openai",
        r"image_url is only supported by certain models",
        "https://platform.openai.com/docs/guides/images-vision",
    ),
    Wording(
        CAPABILITY,
        "openai",
        r"'response_format' of type .{1,40} is not supported with this model",
        "https://platform.openai.com/docs/guides/structured-outputs",
    ),
    Wording(
        CAPABILITY, "openai", r"'(?:tools|functions|function_call)' is not supported with this model", _OPENAI_ERRORS
    ),
    Wording(
        CAPABILITY, "groq", r"`tool calling` is not supported with this model", "https://console.groq.com/docs/tool-use"
    ),
    Wording(
        CAPABILITY,
        "groq",
        r"does not support response format `?json",
        "https://console.groq.com/docs/structured-outputs",
    ),
    Wording(
        CAPABILITY,
        "gemini",
        r"(?:input modality|function calling|developer instruction|penalty|logprobs) is not enabled for",
        _GEMINI_ERRORS,
    ),
    Wording(
        CAPABILITY,
        "deepseek",
        r"unknown variant `(?:image_url|input_audio|file)`, expected `text`",
        "https://api-docs.deepseek.com/quick_start/error_codes",
    ),
    Wording(CAPABILITY, "hosted_vllm", r"is not a multimodal model", "vllm-project/vllm: serving_chat"),
    Wording(
        CAPABILITY, "hosted_vllm", r"at most 0 \w+(?:\(s\))? may be provided", "vllm-project/vllm: multimodal limits"
    ),
    Wording(
        CAPABILITY,
        "hosted_vllm",
        r"tool choice requires --enable-auto-tool-choice",
        "https://docs.vllm.ai/en/latest/features/tool_calling.html",
    ),
    Wording(CAPABILITY, "llamafile", r"(?:image|audio) input is not supported", "ggml-org/llama.cpp: tools/server"),
    Wording(
        CAPABILITY,
        "ollama",
        r"(?:does(?: not|n't)|do not|don't) support (?:the )?(?:native )?" + _ABILITY + r"\b(?!\.\w)",
        "ollama/ollama#17301; AWS Bedrock's Converse and LM Studio say it so too",
    ),
    Wording(
        CAPABILITY,
        "xai",
        r"\b"
        + _ABILITY
        + r"(?: inputs?| contents?| blocks?| use)? (?:is|are)(?: not|n't) (?:supported|enabled|available)"
        r" (?:by|for|with|on|in) (?:this|the) model",
        "https://docs.x.ai/docs/guides/image-understanding",
    ),
    # --- the same, of what a request has: another model takes it ------------------------------------------------
    Wording(CAPABILITY, "anthropic", r"does not support assistant message prefill", "charmbracelet/crush#2300"),
    Wording(
        CAPABILITY,
        "openai",
        r"\b(?:is|are) not (?:supported|available|enabled) (?:by|for|with|on|in) (?:this|the) model",
        "https://platform.openai.com/docs/guides/reasoning; Anthropic, Groq and Google say it so too",
    ),
    Wording(CAPABILITY, "xai", r"\bdoes not support parameter \w", "miaoxworld/NativeTavern#83"),
    Wording(CAPABILITY, "openai", r"unsupported value: .{1,80} does not support .{1,80} with this model", "openai"),
    Wording(CAPABILITY, "openai", r"tools with reasoning_effort are not supported", "pipecat-ai/pipecat#4043"),
    Wording(
        CAPABILITY, "openai", r"invalid schema for (?:function|response_format)", "openai/openai-agents-python#1023"
    ),
    Wording(
        CAPABILITY, "openai", r"array too long\. expected an array with maximum length", "zed-industries/zed#42393"
    ),
    Wording(CAPABILITY, "openai", r"invalid '(?!messages|input)[^']{1,80}': string too long", "rusiaaman/wcgw#51"),
    Wording(CAPABILITY, "openai", r"must contain the word .{0,3}json", "ultimatejimmy/xray.koplugin#33"),
    Wording(
        CAPABILITY,
        "openai",
        r"must be followed by tool messages|must be a response to a prec\w+ message",
        "https://platform.openai.com/docs/guides/function-calling",
    ),
    Wording(CAPABILITY, "openai", r"max_(?:completion_|output_)?tokens is too large", "opencode-ai/opencode#140"),
    Wording(
        CAPABILITY,
        "deepseek",
        r"(?:valid )?range of max_(?:completion_)?tokens (?:is|should be)",
        "Gitlawb/openclaude#35; DashScope says it so too",
    ),
    Wording(CAPABILITY, "anthropic", r"which is the maximum allowed number of output tokens", "anthropics/claude-code"),
    Wording(
        CAPABILITY,
        "anthropic",
        r"image (?:exceeds|dimensions exceed)|at least one of the image dimensions exceed",
        "https://platform.claude.com/docs/en/build-with-claude/vision",
    ),
    Wording(CAPABILITY, "anthropic", r"invalid `signature` in `thinking` block", "NousResearch/hermes-agent#24401"),
    Wording(
        CAPABILITY, "anthropic", r"expected `thinking` or `redacted_thinking`, but found", "pydantic/pydantic-ai#3757"
    ),
    Wording(
        CAPABILITY,
        "anthropic",
        r"tools\.\d+\.(?:custom\.)?(?:input_schema|name)\b",
        "NousResearch/hermes-agent#63441",
    ),
    Wording(CAPABILITY, "anthropic", r"does not support effort level", "BerriAI/litellm#27074"),
    Wording(CAPABILITY, "gemini", r"missing a `?thought_signature", "maximhq/bifrost#2226"),
    Wording(
        CAPABILITY, "gemini", r"thinking (?:level|budget) \w+ is (?:not supported|invalid)", "earendil-works/pi#9455"
    ),
    Wording(CAPABILITY, "gemini", r"thinking_level \w+ is not supported", "jenslys/opencode-gemini-auth#14"),
    Wording(
        CAPABILITY,
        "gemini",
        r"generatecontentrequest\.(?:tools|generation_config)|function_declarations\[\d+\]",
        "https://ai.google.dev/api/caching#FunctionDeclaration",
    ),
    Wording(
        CAPABILITY,
        "gemini",
        r"function (?:call|response) turn comes immediately after|number of function response parts",
        "google-gemini/gemini-cli#26486",
    ),
    Wording(
        CAPABILITY, "gemini", r"unsupported mime type", "https://ai.google.dev/gemini-api/docs/image-understanding"
    ),
    Wording(
        CAPABILITY,
        "mistral",
        r"unexpected role '\w+' after role|expected last role user or tool"
        r"|not the same number of function calls and responses",
        "BerriAI/litellm#17761",
    ),
    Wording(
        CAPABILITY,
        "hosted_vllm",
        r"roles? (?:must|should) (?:be )?alternat|should alternate with|system message must be at the beginning",
        "vllm-project/vllm#41114; perplexityai/api-discussion#265",
    ),
    Wording(
        CAPABILITY,
        "deepseek",
        r"reasoning_content\W? (?:in the thinking mode must be passed back|is missing)",
        "earendil-works/pi#3636; continuedev/continue#11600",
    ),
    Wording(
        CAPABILITY,
        "deepseek",
        r"thinking mode does not support this tool_choice"
        r"|tool_choice .{1,60} (?:in thinking mode|with thinking enabled)",
        "deepseek-ai/DeepSeek-V3#1376; cloudwego/eino#994",
    ),
    Wording(CAPABILITY, "deepseek", r"this response_format type is unavailable", "deepseek-ai/DeepSeek-V3"),
    Wording(
        CAPABILITY,
        "llamafile",
        r"prefill is incompatible with enable_thinking|cannot have 2 or more assistant messages",
        "ggml-org/llama.cpp#20861; HKUDS/nanobot#2376",
    ),
    Wording(
        CAPABILITY, "openai", r"image urls? (?:is|are) only allowed for messages with role", "OpenHands/OpenHands#7700"
    ),
    Wording(CAPABILITY, "deepseek", r"invalid type: sequence, expected a string", "BerriAI/litellm#6642"),
    Wording(
        CAPABILITY,
        "cerebras",
        r"tools with (?:mixed values for 'strict'|strict=true)",
        "RooCodeInc/Roo-Code#10334; livekit/agents#3134",
    ),
    Wording(
        CAPABILITY,
        "anthropic",
        r"unexpected value\(s\) .{1,300} for the `anthropic-beta` header|invalid beta flag",
        "anthropics/claude-code#11672",
    ),
    Wording(CAPABILITY, "dashscope", r"enable_thinking must be set to false", "QuantumNous/new-api#1109"),
    Wording(CAPABILITY, "groq", r"`reasoning_effort` must be one of", "earendil-works/pi#1745"),
    Wording(
        CAPABILITY,
        "groq",
        r"failed to (?:call a function|generate json)|tool call validation failed",
        "anomalyco/opencode#1018",
    ),
    # --- something of the request is not there or not ours: a 403 or 404 that says nothing of the key or the model ---
    Wording(
        REQUEST,
        "gemini",
        r"cachedcontent not found|permission to access the (?:file|cached ?content)",
        "googleapis/python-genai#1218",
    ),
    Wording(
        REQUEST,
        "openai",
        r"no such (?:file|thread|vector store|container)|previous response with id"
        r"|(?:vector store|container|item|prompt) with id \S{1,200} (?:was )?not found",
        "https://platform.openai.com/docs/api-reference",
    ),
    Wording(
        REQUEST,
        "anthropic",
        r"\b(?:file|container|skill|tool|mcp server)s?"
        r"(?: not found|:? \S{1,200} (?:was |is )?(?:not found|does not exist))",
        "https://docs.claude.com/en/docs/build-with-claude/files",
    ),
    Wording(
        REQUEST,
        "openai",
        r"(?:download|fetch|retriev)\w*\b.{0,60}\b(?:image|file|document|audio|video|media|url)",
        "https://platform.openai.com/docs/guides/images-vision",
    ),
)

#: Codes and types that say what is wrong. They are the provider's own words, never an echo.
CODES: Final[dict[str, FailureKind]] = {
    **dict.fromkeys(
        (
            "invalid_api_key",
            "insufficient_quota",
            "credit_balance_exhausted",
            "billing_hard_limit_reached",
            "billing_not_active",
            "account_deactivated",
            "unsupported_country_region_territory",
            "organization_restricted",
            "model_terms_required",
            "model_permission_blocked_org",
            "model_permission_blocked_project",
            "Arrearage",
            "AccountOverdueError",
        ),
        ACCOUNT,
    ),
    **dict.fromkeys(
        (
            "context_length_exceeded",
            "string_above_max_length_context",
            "model_context_window_exceeded",
        ),
        CONTEXT,
    ),
    **dict.fromkeys(
        (
            "content_policy_violation",
            "content_filter",
            "moderation_blocked",
            "invalid_prompt",
            "ResponsibleAIPolicyViolation",
            "data_inspection_failed",
            "DataInspectionFailed",
            "SensitiveContentDetected",
            "censorship_blocked",
        ),
        CONTENT,
    ),
    **dict.fromkeys(
        (
            "array_above_max_length",
            "integer_above_max_value",
            "invalid_function_parameters",
            "json_validate_failed",
            "string_above_max_length",
            "tool_use_failed",
            "unsupported_parameter",
            "unsupported_value",
        ),
        CAPABILITY,
    ),
    **dict.fromkeys(
        (
            "model_not_found",
            "model_decommissioned",
            "model_not_available",
            "unknown_model",
            "invalid_model",
            "DeploymentNotFound",
            "ModelNotOpen",
            "InvalidEndpointOrModel.NotFound",
        ),
        MODEL,
    ),
}
#: The kinds that are believed of a provider that fails (5xx) too: it failed because of this request.
_OF_THE_REQUEST: Final = frozenset({CONTEXT, CONTENT, CAPABILITY})


def kind_by_words(message: str, *codes: str | None, failing: bool = False) -> FailureKind | None:
    """The kind that the message tells, else the kind that the codes tell; None when neither is known.

    `failing`: the provider says that the failure is its own.
    """
    message = message[:_READ_CHARACTERS]
    for wording in WORDINGS:
        if (not failing or wording.kind in _OF_THE_REQUEST) and wording.is_in(message):
            return wording.kind
    for code in codes:
        kind = CODES.get(code or "")
        if kind is not None and (not failing or kind in _OF_THE_REQUEST):
            return kind
    return None
