from __future__ import annotations

from pathlib import Path

import pytest

from training import config
from training.assembly import task_of

FILES = sorted(Path(config.__file__).parent.joinpath("configs").glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_loads_and_opens_with_its_command_and_what_to_expect(file):
    loaded = config.load(file)
    first, second = file.read_text().splitlines()[:2]
    assert first.startswith(f"# adscore-train fit training/configs/{file.name} --root ")
    assert second.startswith("# expect ")
    assert file.stem == f"{loaded.model}-{loaded.dataset}" + ("" if loaded.form == "both" else f"-{loaded.form}")


def test_an_unknown_key_names_the_nearest_right_one(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(FILES[0].read_text().replace("learning_rate", "learning_rat"))
    with pytest.raises(config.ConfigError, match=r"run\.toml.*fit\.learning_rat: unknown key.*'learning_rate'"):
        config.load(file)


def test_a_wrong_value_names_its_key(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(FILES[0].read_text().replace("batch_size = 32", 'batch_size = "many"'))
    with pytest.raises(config.ConfigError, match=r"fit\.batch_size: Input should be a valid integer"):
        config.load(file)


@pytest.mark.parametrize("count", [1, 3001])
def test_variants_are_of_rows_that_there_are(count, tmp_path):
    file = tmp_path / "wrong.toml"
    generated = next(f for f in FILES if f.stem == "dbafn-generated").read_text()
    file.write_text(generated.replace("contrast_rows = 600", f"contrast_rows = {count}"))
    with pytest.raises(config.ConfigError, match=r"data\.contrast_rows are of the first data\.rows.*from 2 to"):
        config.load(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_weight_is_of_a_term(file):
    assert task_of(config.load(file))


def test_the_sum_behind_dbafns_option_can_be_asked_for(tmp_path):
    file = tmp_path / "run.toml"
    generated = next(f for f in FILES if f.stem == "dbafn-generated").read_text()
    file.write_text(f'{generated}\n[weights]\nsparse_reduction = "sum"\nsparse = 1\n')
    loaded = config.load(file)
    assert task_of(loaded)
    assert loaded.weights == {"sparse_reduction": "sum", "sparse": 1.0}
    assert isinstance(loaded.weights["sparse"], float)


def test_subwords_are_for_words_without_pictures(tmp_path):
    file = tmp_path / "wrong.toml"
    file.write_text(
        next(f for f in FILES if f.stem == "fgmfn-mm_tweet_sentiment").read_text() + "[subwords]\ndim = 8\n"
    )
    with pytest.raises(config.ConfigError, match=r"subwords\.dim is for ads"):
        config.load(file)


def test_a_missing_file_says_where_configurations_are(tmp_path):
    with pytest.raises(config.ConfigError, match="training/configs"):
        config.load(tmp_path / "none.toml")


def test_no_toml_is_named(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("model = ")
    with pytest.raises(config.ConfigError, match="no TOML"):
        config.load(file)
