"""The command line: defaults, values, and what a person is told about a typing error."""

from __future__ import annotations

import argparse

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)

from pipeline.options import arguments as options
from pipeline.options import model
from pipeline.options.arguments import ImageOptions
from pipeline.options.door import read_options
from transforms.errors import UserError

NEEDED = ("--input", "photos", "--output", "out")

DEFAULTS: dict[str, object] = {
    "input_format": "auto",
    "tfrecord_image_key": "image/encoded",
    "tfrecord_id_key": None,
    "keep": None,
    "label_from_parent": False,
    "version": "mtime",
    "max_pixels": 178_956_970,
    "max_file_bytes": 256 * 2**20,
    "model": "efficientnet-lite0",
    "model_sha256": None,
    "trust_model": False,
    "private_redirects": False,
    "signature": None,
    "tags": None,
    "output_key": None,
    "model_args": None,
    "pool": None,
    "task": "feature_vector",
    "image_size": None,
    "value_range": "0,1",
    "model_layout": "NHWC",
    "accept_model": False,
    "engine": "tensorflow",
    "precision": "float32",
    "min_cosine": 0.999,
    "pixels": "exact",
    "decode": "exact",
    "batch_size": 32,
    "labels_file": None,
    "top_k": None,
    "activation": None,
    "rows_per_file": 4096,
    "shared_filesystem": False,
    "model_staging_location": None,
    "overwrite": False,
    "mode": "append",
    "retry_errors": False,
    "keep_snapshots": 1,
    "keep_hours": 0.0,
    "max_gone_rate": 0.5,
    "allow_unreadable": False,
    "max_error_rate": None,
    "verbose": False,
}

CLASSIFY = ("--task", "classification")


def parse(*flags: str) -> ImageOptions:
    return options.parse([*NEEDED, *flags])


def mistake(*flags: str) -> str:
    """What the person is told: one short line."""
    with pytest.raises(UserError) as info:
        options.parse(list(flags))
    message = str(info.value)
    assert len(message.splitlines()) == 1
    assert "usage:" not in message
    return message


def own_actions() -> list[argparse.Action]:
    return options.own_parser()._actions


# Values


def test_every_option_has_its_documented_default() -> None:
    parsed = parse()
    assert {name: getattr(parsed, name) for name in DEFAULTS} == DEFAULTS
    assert (parsed.input, parsed.output) == (["photos"], "out")
    own = {action.dest for action in own_actions()}
    assert own == {"help", "runner", "dry_run", "input", "output", *DEFAULTS}


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--input_format", "tfrecord"], "input_format", "tfrecord"),
        (["--tfrecord_image_key", "jpg"], "tfrecord_image_key", "jpg"),
        (["--tfrecord_id_key=image/id"], "tfrecord_id_key", "image/id"),
        (["--keep", "a,b/c"], "keep", "a,b/c"),
        (["--label_from_parent"], "label_from_parent", True),
        (["--max_pixels", "1000"], "max_pixels", 1000),
        (["--max_file_bytes", "1"], "max_file_bytes", 1),
        (["--model", "/models/m"], "model", "/models/m"),
        ([*CLASSIFY], "task", "classification"),
        (["--image_size", "224x256"], "image_size", "224x256"),
        (["--value_range", "-1,1"], "value_range", "-1,1"),
        (["--value_range=0,255"], "value_range", "0,255"),
        (["--model_layout", "NCHW"], "model_layout", "NCHW"),
        (["--accept_model"], "accept_model", True),
        (["--engine", "auto"], "engine", "auto"),
        (["--precision", "bfloat16"], "precision", "bfloat16"),
        (["--min_cosine", "0.99"], "min_cosine", 0.99),
        (["--pixels=uint8"], "pixels", "uint8"),
        (["--decode", "fast"], "decode", "fast"),
        (["--batch_size", "1"], "batch_size", 1),
        (["--batch_size", "auto"], "batch_size", "auto"),
        ([*CLASSIFY, "--labels_file", "l.txt"], "labels_file", "l.txt"),
        ([*CLASSIFY, "--labels", "l.txt"], "labels_file", "l.txt"),
        ([*CLASSIFY, "--labels=l.txt"], "labels_file", "l.txt"),
        ([*CLASSIFY, "--top_k", "0"], "top_k", 0),
        ([*CLASSIFY, "--activation", "sigmoid"], "activation", "sigmoid"),
        (["--rows_per_file", "10"], "rows_per_file", 10),
        (["--overwrite"], "overwrite", True),
        (["--max_error_rate", "0"], "max_error_rate", 0.0),
        (["--max_error_rate=1"], "max_error_rate", 1.0),
        (["--allow_unreadable"], "allow_unreadable", True),
        (["--verbose"], "verbose", True),
    ],
)
def test_a_given_value_is_used(flags: list[str], name: str, value: object) -> None:
    parsed = parse(*flags)
    assert getattr(parsed, name) == value
    assert type(getattr(parsed, name)) is type(value)


@pytest.mark.parametrize(
    "flags",
    [
        ["--input", "a", "b", "--input", "c"],
        ["--input=a", "--input", "b", "--input=c"],
        ["--input", "a", "b", "c"],
    ],
)
def test_inputs_may_be_repeated_and_hold_several_paths(flags: list[str]) -> None:
    assert options.parse([*flags, "--output", "o"]).input == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("224", (224, 224)), ("224x256", (224, 256)), ("32X48", (32, 48)), ("8×9", (8, 9))],
)
def test_an_image_size_is_height_times_width(text: str, expected: tuple[int, int]) -> None:
    assert model.image_size(parse("--image_size", text)) == expected


def test_kept_features_are_a_list() -> None:
    def kept(*flags: str) -> tuple[str, ...]:
        return read_options(["--input", "photos", "--output", "out", *flags]).input.keep

    assert kept() == ()
    assert kept("--keep", "label,image/id") == ("label", "image/id")
    assert kept("--keep", "label,,") == ("label",)


def test_options_survive_the_way_to_a_worker() -> None:
    flags = [
        *("--input", "a", "b", "--input", "c", *CLASSIFY, "--labels", "l.txt", "--top_k", "0"),
        *("--image_size", "32x48", "--max_error_rate", "0.25", "--overwrite", "--keep", "a,b"),
        *("--direct_num_workers", "2", "--labels", "team=vision"),
    ]
    parsed = options.parse([*flags, "--output", "out"])
    again = PipelineOptions.from_dictionary(parsed.get_all_options()).view_as(ImageOptions)
    names = ["input", "output", *DEFAULTS]
    assert [getattr(again, name) for name in names] == [getattr(parsed, name) for name in names]
    assert (again.input, again.top_k, again.labels_file) == (["a", "b", "c"], 0, "l.txt")
    assert again.view_as(DirectOptions).direct_num_workers == 2
    assert again.view_as(GoogleCloudOptions).labels == ["team=vision"]


# Beam's own flags


def test_beams_flags_work() -> None:
    parsed = parse("--direct_num_workers", "2", "--direct_running_mode=multi_processing")
    direct = parsed.view_as(DirectOptions)
    assert (direct.direct_num_workers, direct.direct_running_mode) == (2, "multi_processing")
    parsed = parse("--runner", "DataflowRunner", "--project", "p", "--region", "europe-west1")
    assert parsed.view_as(StandardOptions).runner == "DataflowRunner"
    assert parsed.view_as(GoogleCloudOptions).region == "europe-west1"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--direct_num_workers", "x"], "--direct_num_workers: invalid int value: 'x'"),
        (["--direct_num_workers"], "--direct_num_workers: expected one argument"),
        (["--direct_running_mode", "warp"], "--direct_running_mode: invalid choice: 'warp'"),
    ],
)
def test_a_bad_value_of_a_beam_flag_is_told_without_all_of_beams_usage(
    flags: list[str], told: str
) -> None:
    assert mistake(*NEEDED, *flags).startswith(told)


def test_beams_labels_are_left_to_beam() -> None:
    for flags in (["--labels", "team=vision"], ["--labels=team=vision"]):
        parsed = parse(*flags)
        assert parsed.labels_file is None
        assert parsed.view_as(GoogleCloudOptions).labels == ["team=vision"]
    parsed = parse(*CLASSIFY, "--labels", "team=vision", "--labels", "l.txt")
    assert parsed.labels_file == "l.txt"
    assert parsed.view_as(GoogleCloudOptions).labels == ["team=vision"]


def test_a_labels_file_in_a_directory_with_an_equals_sign_is_found(tmp_path) -> None:
    path = tmp_path / "lr=0.1" / "labels.txt"
    path.parent.mkdir()
    path.write_text("a\nb\n")
    for flags in (["--labels", str(path)], [f"--labels={path}"]):
        assert parse(*CLASSIFY, *flags).labels_file == str(path)


def test_labels_without_a_file_are_told_by_the_name_that_was_typed() -> None:
    assert mistake(*NEEDED, *CLASSIFY, "--labels").startswith("--labels: expected one argument")


# Typing errors


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--batch_sise", "--batch_size"),
        ("--imput_format", "--input_format"),
        ("--rows_per_files", "--rows_per_file"),
        ("--direct_num_worker", "--direct_num_workers"),
        ("--max-error-rat", "--max_error_rate"),
    ],
)
def test_a_typing_error_is_refused_with_what_was_meant(typed: str, meant: str) -> None:
    for flags in ([typed, "1"], [f"{typed}=1"], ["--runner", "FlinkRunner", typed, "1"]):
        message = mistake(*NEEDED, *flags)
        assert "no such option" in message
        assert f"did you mean {meant}?" in message


def test_an_abbreviation_is_refused() -> None:
    assert "--batch" in mistake(*NEEDED, "--batch", "8")


def test_an_unknown_flag_is_refused_on_this_machine_and_left_to_other_runners() -> None:
    assert "--wibble: no such option" in mistake(*NEEDED, "--wibble", "1")
    assert "--wibble: no such option" in mistake(*NEEDED, "--wibble")
    assert parse("--runner", "FlinkRunner", "--wibble", "1").output == "out"


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [("--batch-size", "batch_size", 8), ("--rows-per-file", "rows_per_file", 8)],
)
def test_an_option_typed_with_dashes_is_used_or_refused(flag: str, name: str, value: int) -> None:
    try:
        parsed = parse(flag, str(value))
    except UserError as error:
        assert flag in str(error)
    else:
        assert getattr(parsed, name) == value


@pytest.mark.parametrize(
    "flags",
    [
        [*NEEDED, "more_photos"],
        ["more_photos", *NEEDED],
        [*NEEDED, "--overwrite", "yes"],
        [*NEEDED, "--batch_size", "8", "16"],
        [*NEEDED, "-"],
        ["-", *NEEDED],
        [*NEEDED, "--=16"],
        [*NEEDED, "--runner", "FlinkRunner", "more_photos"],
    ],
)
def test_words_that_belong_to_no_option_are_refused(flags: list[str]) -> None:
    """`--output out photos/*` must not index nothing, or less, in silence."""
    [stray] = set(flags) & {"more_photos", "yes", "16", "-", "--=16"}
    assert stray in mistake(*flags)


@pytest.mark.parametrize("typed", ["Dirct", "DirectRuner", "flinkrunnner"])
def test_an_unknown_runner_is_refused_before_anything_is_listed(typed: str) -> None:
    assert mistake(*NEEDED, "--runner", typed).startswith(f"--runner {typed}")


@pytest.mark.parametrize("name", ["DirectRunner", "directrunner", "PrismRunner", "my.own.Runner"])
def test_beams_runners_and_those_of_other_packages_are_taken(name: str) -> None:
    assert parse("--runner", name).view_as(StandardOptions).runner == name


# Missing and bad values


def test_a_missing_input_or_output_is_told() -> None:
    assert mistake("--output", "out").startswith("--input is missing")
    assert mistake("--input", "photos").startswith("--output is missing")
    assert mistake("--input", "photos", "--output", "").startswith("--output is missing")
    assert mistake().startswith("--input is missing")
    assert "--input: expected at least one argument" in mistake("--output", "out", "--input")


def test_an_empty_input_is_not_the_current_directory() -> None:
    """As in `--input "$UNSET"`."""
    assert mistake("--input", "", "--output", "out").startswith("--input")
    assert mistake("--input", "photos", "", "--output", "out").startswith("--input")


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--batch_size", "0", "0 is not a whole number above 0"),
        ("--batch_size", "-3", "-3 is not a whole number above 0"),
        ("--rows_per_file", "0", "0 is not a whole number above 0"),
        ("--max_pixels", "0", "0 is not a whole number above 0"),
        ("--max_file_bytes", "-1", "-1 is not a whole number above 0"),
        ("--top_k", "-1", "-1 is not a whole number from 0"),
        ("--max_error_rate", "1.5", "1.5 is not between 0 and 1"),
        ("--max_error_rate", "-0.1", "-0.1 is not between 0 and 1"),
        ("--max_error_rate", "nan", "nan is not between 0 and 1"),
        ("--task", "embedding", "invalid choice: 'embedding'"),
        ("--engine", "onnx", "invalid choice: 'onnx'"),
        ("--precision", "int8", "invalid choice: 'int8'"),
        ("--min_cosine", "2", "2 is not between 0 and 1"),
        ("--pixels", "float16", "invalid choice: 'float16'"),
        ("--decode", "faster", "invalid choice: 'faster'"),
        ("--activation", "relu", "invalid choice: 'relu'"),
        ("--input_format", "csv", "invalid choice: 'csv'"),
        ("--image_size", "0", "give HEIGHTxWIDTH in pixels"),
        ("--image_size", "224x", "give HEIGHTxWIDTH in pixels"),
        ("--image_size", "224x0", "give HEIGHTxWIDTH in pixels"),
        ("--image_size", "large", "give HEIGHTxWIDTH in pixels"),
    ],
)
def test_a_value_out_of_range_is_told_with_its_option(flag: str, value: str, told: str) -> None:
    message = mistake(*NEEDED, *CLASSIFY, flag, value)
    assert message.startswith(flag)
    assert told in message


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--batch_size", "1.5", "1.5 is not a whole number above 0"),
        ("--max_pixels", "1e6", "1e6 is not a whole number above 0"),
        ("--rows_per_file", "", " is not a whole number above 0"),
        ("--top_k", "five", "five is not a whole number from 0"),
        ("--max_error_rate", "10%", "10% is not between 0 and 1"),
    ],
)
def test_a_value_that_is_no_number_is_told_like_one_out_of_range(
    flag: str, value: str, told: str
) -> None:
    message = mistake(*NEEDED, *CLASSIFY, flag, value)
    assert message.startswith(flag)
    assert told in message


@pytest.mark.parametrize(
    "flags", [["--labels", "l.txt"], ["--top_k", "5"], ["--top_k", "0"], ["--activation", "none"]]
)
def test_options_of_classification_need_that_task(flags: list[str]) -> None:
    assert mistake(*NEEDED, *flags) == f"{flags[0]} needs --task classification"
    assert parse(*CLASSIFY, *flags).task == "classification"


def test_streaming_is_refused() -> None:
    assert mistake(*NEEDED, "--streaming").startswith("--streaming: ")


# Help


def test_help_names_every_option_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        options.parse(["--help"])
    assert info.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name in ("input", "output", "runner", *DEFAULTS):
        assert f"--{name}" in out
    for text in ("Exit codes: 0 done", "--direct_num_workers", "python -m pipeline.run"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("action", own_actions(), ids=lambda action: action.dest)
def test_each_option_has_a_help_text_with_its_default(action: argparse.Action) -> None:
    assert action.help
    if action.option_strings[0] != "-h" and action.default not in (None, False, []):
        assert "%(default)s" in action.help
