"""The API's paths, with and without ``/v1``: clients of the service that this gateway replaces use both."""

from django.urls import path, re_path

from routing.endpoints.absent import ABSENT, AbsentView
from routing.endpoints.audio.speech.view import speech
from routing.endpoints.audio.transcriptions.view import transcriptions, translations
from routing.endpoints.budget import BudgetView
from routing.endpoints.chat.view import chat
from routing.endpoints.completions.view import completions
from routing.endpoints.dry_run import DryRunView
from routing.endpoints.embeddings.view import embeddings
from routing.endpoints.gemini.absent import GeminiAbsentView
from routing.endpoints.gemini.counting import GeminiCountView
from routing.endpoints.gemini.view import generate
from routing.endpoints.gemini_embeddings.view import gemini_embeddings
from routing.endpoints.images.view import edits, generations
from routing.endpoints.messages.counting import CountTokensView
from routing.endpoints.messages.view import messages
from routing.endpoints.model_info import ModelInfoView
from routing.endpoints.models import ModelsView, ModelView
from routing.endpoints.moderations.view import moderations
from routing.endpoints.rerank.view import rerank
from routing.endpoints.responses.counting import InputTokensView
from routing.endpoints.responses.looking_up import KeptResponseView
from routing.endpoints.responses.view import responses

models = ModelsView.as_view()

urlpatterns = [
    re_path(r"^(?:openai/)?(?:v1/)?chat/completions/?$", chat),
    re_path(r"^openai/deployments/(?P<alias>.+)/chat/completions/?$", chat),
    re_path(r"^(?:v1/)?engines/(?P<alias>.+)/chat/completions/?$", chat),
    re_path(r"^(?:v1/)?messages/?$", messages),
    re_path(r"^(?:v1/)?messages/count_tokens/?$", CountTokensView.as_view()),
    re_path(r"^(?:openai/)?(?:v1/)?responses/?$", responses),
    re_path(r"^(?:openai/)?(?:v1/)?responses/input_tokens/?$", InputTokensView.as_view()),
    re_path(
        r"^(?:openai/)?(?:v1/)?responses/(?P<response_id>resp_[^/]+)(?:/(?P<more>cancel|input_items))?/?$",
        KeptResponseView.as_view(),
    ),
    re_path(r"^(?:openai/)?(?:v1/)?embeddings/?$", embeddings),
    re_path(r"^openai/deployments/(?P<alias>.+)/embeddings/?$", embeddings),
    re_path(r"^(?:v1/)?engines/(?P<alias>.+)/embeddings/?$", embeddings),
    re_path(r"^v1(?:beta)?/models/(?P<alias>.+):(?P<method>generateContent|streamGenerateContent)/?$", generate),
    re_path(r"^v1(?:beta)?/models/(?P<alias>.+):(?P<method>embedContent|batchEmbedContents)/?$", gemini_embeddings),
    re_path(r"^v1(?:beta)?/models/(?P<alias>.+):countTokens/?$", GeminiCountView.as_view()),
    re_path(r"^v1beta/models/?$", ModelsView.as_view(is_google=True)),
    re_path(r"^v1beta/models/(?P<alias>.+?)/?$", ModelView.as_view(is_google=True)),
    re_path(r"^v1beta(?:/.*)?$", GeminiAbsentView.as_view()),
    re_path(r"^(?:openai/)?(?:v1/)?completions/?$", completions),
    re_path(r"^(?:openai/deployments|(?:v1/)?engines)/(?P<alias>.+)/completions/?$", completions),
    re_path(r"^(?:openai/)?(?:v1/)?images/generations/?$", generations),
    re_path(r"^openai/deployments/(?P<alias>.+)/images/generations/?$", generations),
    re_path(r"^(?:openai/)?(?:v1/)?images/edits/?$", edits),
    re_path(r"^openai/deployments/(?P<alias>.+)/images/edits/?$", edits),
    re_path(r"^(?:openai/)?(?:v1/)?moderations/?$", moderations),
    re_path(r"^(?:v[12]/)?rerank/?$", rerank),
    re_path(r"^(?:openai/)?(?:v1/)?audio/speech/?$", speech),
    re_path(r"^(?:openai/)?(?:v1/)?audio/transcriptions/?$", transcriptions),
    re_path(r"^(?:openai/)?(?:v1/)?audio/translations/?$", translations),
    re_path(r"^openai/deployments/(?P<alias>.+)/audio/speech/?$", speech),
    re_path(r"^openai/deployments/(?P<alias>.+)/audio/transcriptions/?$", transcriptions),
    re_path(r"^openai/deployments/(?P<alias>.+)/audio/translations/?$", translations),
    re_path(r"^(?:openai/)?(?:v1/)?models/?$", models),
    re_path(r"^(?:openai/)?(?:v1/)?models/(?P<alias>.+?)/?$", ModelView.as_view()),
    re_path(r"^(?:v1/)?model/info/?$", ModelInfoView.as_view()),
    path("v1/budget", BudgetView.as_view()),
    re_path(r"^(?:v1/)?dry-run/?$", DryRunView.as_view()),
    re_path(r"^(?:v1/)?dry-run/(?P<endpoint>.+?)$", DryRunView.as_view()),
    re_path(rf"^(?:openai/)?(?:v1/)?(?P<name>{'|'.join(ABSENT)})(?:/.*)?$", AbsentView.as_view()),
]
