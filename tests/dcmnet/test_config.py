"""Configuration: everything wrong is told at once, with the nearest names; JSON both ways."""

import json

import pytest

from dcmnet.config import (
    DataConfig,
    ExperimentConfig,
    ModelConfig,
    TrainingConfig,
    load_config,
)
from dcmnet.presets import PRESETS
from store_schema.problems import ConfigError

# Names that users' scripts rely on.
TRAINING_NAMES = {
    *("learning_rate", "batch_size", "num_epochs", "gradient_accumulation_steps", "seed"),
    *("use_lr_schedule", "lr_schedule_type", "warmup_epochs", "min_lr_factor"),
    *("use_grad_clip", "grad_clip_norm", "use_ema", "ema_decay", "esp_w", "chg_w"),
    "save_every_n_epochs",
}
MODEL_NAMES = {
    *("features", "max_degree", "num_iterations", "num_basis_functions", "cutoff", "n_dcm"),
    "include_pseudotensors",
}


def test_public_names_are_kept():
    assert set(TrainingConfig.model_fields) >= TRAINING_NAMES
    assert set(ModelConfig.model_fields) >= MODEL_NAMES
    assert {"num_train", "num_valid"} <= set(DataConfig.model_fields)


def test_published_settings_are_the_defaults():
    model, training = ModelConfig(), TrainingConfig()
    assert (model.features, model.max_degree, model.num_iterations) == (16, 2, 2)
    assert (model.num_basis_functions, model.cutoff) == (16, 4.0)
    assert (model.include_pseudotensors, model.displacement_scale) == (True, 0.175)
    assert (training.esp_w, training.chg_w, training.grad_clip_norm) == (1e4, 1.0, 2.0)


def test_json_round_trip(tmp_path):
    config = ExperimentConfig().with_fields(
        {
            "name": "ions",
            "n_dcm": 3,
            "learning_rate": 3e-4,
            "training.grid_points": 200,
            "model.cutoff": 5.5,
            "num_train": 100,
            "init_from": "other",
        }
    )
    path = tmp_path / "config.json"
    config.save(path)
    assert load_config(path) == config
    assert (config.model.n_dcm, config.data.num_train) == (3, 100)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset):
    assert ExperimentConfig().with_fields(PRESETS[preset]) != ExperimentConfig()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("model.n_dcm", "2", 2),
        ("training.learning_rate", "1e-4", 1e-4),
        ("training.use_ema", "false", False),
        ("training.grid_points", "null", None),
        ("training.lr_schedule_type", "step", "step"),
        ("name", "2024", "2024"),
        ("name", "true", "true"),
        ("store", "7", "7"),
        ("init_from", "12", "12"),
        ("init_from", "null", None),
    ],
)
def test_text_of_the_command_line_becomes_the_type_of_the_field(name, text, value):
    config = ExperimentConfig().with_fields({name: text}).model_dump()
    flat = config | config["model"] | config["training"] | config["data"]
    found = flat[name.rsplit(".", maxsplit=1)[-1]]
    assert found == value
    assert type(found) is type(value)


def test_unknown_names_come_all_at_once_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        ExperimentConfig().with_fields({"learning_rat": 1e-3, "model.feature": 4, "xyzzy": 0})
    remedies = [problem.remedy for problem in caught.value.problems]
    assert len(remedies) == 3
    assert "learning_rate" in remedies[0]
    assert "model.features" in remedies[1]
    assert "batch_size" in remedies[2], "without a near name, all are listed"


def test_values_out_of_bounds_come_all_at_once():
    wrong = {"n_dcm": 0, "cutoff": -1, "ema_decay": 1.0, "lr_schedule_type": "cosin"}
    with pytest.raises(ConfigError) as caught:
        ExperimentConfig().with_fields(wrong)
    places = " ".join(problem.place for problem in caught.value.problems)
    assert len(caught.value.problems) == len(wrong)
    assert all(name in places for name in wrong)
    assert "-1" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"esp_w": 0, "chg_w": 0}, "nothing to learn"),
        ({"warmup_epochs": 10, "num_epochs": 10}, "warmup_epochs"),
        ({"train_fraction": 0.9, "valid_fraction": 0.2}, "more than 1"),
        ({"name": "../elsewhere"}, "name"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        ExperimentConfig().with_fields(fields)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", json.dumps({"nme": "x"}), json.dumps({"model": {"n_dcm": "two"}})]
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_config(path)
    with pytest.raises(ConfigError, match=r"absent\.json"):
        load_config(tmp_path / "absent.json")


def test_configurations_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        ModelConfig().n_dcm = 3
