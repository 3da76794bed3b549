import re

from worker.scoring import targeting

MODELS = {
    "ctr": [{"name": "adfusion", "version": "1", "digest": "a" * 12, "backend": "onnxruntime", "precision": "fp32"}],
    "sentiment": [{"name": "fgmfn", "version": "1", "digest": "b" * 12, "backend": "onnxruntime", "precision": "fp32"}],
}
HEADS = {"attractiveness": {"value": 0.71, "bucket": "a7"}, "sentiment": None, "ctr": {"value": 0.1}}


def test_only_heads_with_a_bucket_have_a_key() -> None:
    values = targeting.key_values(HEADS, MODELS)
    assert values == {"ads_attr": "a7", "ads_mv": targeting.models_version(MODELS)}


def test_keys_and_values_fit_ad_servers() -> None:
    for key, value in targeting.key_values(HEADS, MODELS).items():
        assert re.fullmatch(r"[a-z][a-z0-9_.-]{0,19}", key)
        assert re.fullmatch(r"[a-z0-9_.-]{1,40}", value)


def test_the_models_name_depends_on_bundles_alone() -> None:
    named = targeting.models_version(MODELS)
    assert re.fullmatch(r"[0-9a-f]{8}", named)
    elsewhere = {head: [bundle | {"backend": "tensorrt"} for bundle in MODELS[head]] for head in reversed(MODELS)}
    assert targeting.models_version(elsewhere) == named
    assert targeting.models_version(MODELS | {"ctr": [MODELS["ctr"][0] | {"digest": "c" * 12}]}) != named
