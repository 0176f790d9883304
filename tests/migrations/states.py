"""The states that a database may be found in: a line for each migration of ours, in the order of their writing."""

from __future__ import annotations

State = dict[str, str]  # an app, and its last migration that was applied

STATES: tuple[State, ...] = (
    {"accounting": "0002_triggers_views_and_role", "routing": "0002_live_configuration"},
    {"accounting": "0003_rate_limits", "routing": "0002_live_configuration"},
    {"accounting": "0004_budget_gaps", "routing": "0002_live_configuration"},
    {"accounting": "0005_faster_views", "routing": "0002_live_configuration"},
    {"accounting": "0005_faster_views", "routing": "0003_rescued_streams"},
    {"accounting": "0005_faster_views", "routing": "0004_breaker_state"},
    {"accounting": "0005_faster_views", "routing": "0005_provider_keys_and_weights"},
    {"accounting": "0006_budget_modes", "routing": "0005_provider_keys_and_weights"},
    {"accounting": "0006_budget_modes", "routing": "0006_plain_names"},
    {"accounting": "0007_quantities", "routing": "0006_plain_names"},
    {"accounting": "0008_price_rates", "routing": "0006_plain_names"},
    {"accounting": "0009_reader_limits", "routing": "0006_plain_names"},
    {"accounting": "0009_reader_limits", "routing": "0007_first_token_limits"},
    {"accounting": "0010_keys_and_wildcards", "routing": "0007_first_token_limits"},
    {"accounting": "0010_keys_and_wildcards", "routing": "0008_names_and_parameters"},
    {"accounting": "0010_keys_and_wildcards", "routing": "0009_optional_output_cap"},
    {"accounting": "0011_whose_money", "routing": "0009_optional_output_cap"},
    {"accounting": "0012_refusals_and_windows", "routing": "0009_optional_output_cap"},
    {"accounting": "0013_operators", "routing": "0009_optional_output_cap"},
    {"accounting": "0013_operators", "routing": "0010_operators"},
    {"accounting": "0013_operators", "routing": "0011_breaker_uses"},
    {"accounting": "0014_first_page", "routing": "0011_breaker_uses"},
    {"accounting": "0014_first_page", "routing": "0012_when_aliases_were_made"},
    {"accounting": "0015_rollup", "routing": "0012_when_aliases_were_made"},
    {"accounting": "0016_ultrafast_tier", "routing": "0012_when_aliases_were_made"},
)
NOW = STATES[-1]
#: Code of this state and of those after it may serve while migrations run, so those only add: no column goes or
#: changes, and a new one is optional or has a default of the database's.
ROLLING_SINCE: State = {"accounting": "0010_keys_and_wildcards", "routing": "0009_optional_output_cap"}


def name_of(state: State) -> str:
    return "-".join(f"{app}_{migration[:4]}" for app, migration in state.items())
