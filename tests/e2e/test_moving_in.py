"""A LiteLLM file taken over while the gateway runs."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from django.core.management import call_command

from routing.models import ModelAlias
from tests.e2e.gateway import Gateway, asks, unique


def test_a_loaded_alias_answers_the_next_request(gateway: Gateway, tmp_path: Path) -> None:
    alias = unique("moved")
    path = tmp_path / "config.yaml"
    path.write_text(
        f"model_list: [{{model_name: {alias}, litellm_params: {{model: openai/gpt-4o, "
        f"api_key: os.environ/OPENAI_API_KEY, api_base: '{gateway.sim.base_url('openai', provider=alias)}'}}}}]"
    )
    with gateway.orm():
        call_command("load_config", str(path), stdout=StringIO())
    answer = gateway.client().chat.completions.create(model=alias, **asks("hello"))
    assert answer.choices[0].message.content == "You said: hello"
    assert [request.provider for request in gateway.sim.requests] == [alias]
    with gateway.orm():
        ModelAlias.objects.filter(name=alias).delete()
