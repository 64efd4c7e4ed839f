"""Keys, passwords and signatures are told nowhere: outputs and logs are read by many."""

from __future__ import annotations

import json
import logging
import pathlib

import pytest

from pipeline.options.door import read_options
from pipeline.options.written import written
from pipeline.output import run_record
from pipeline.output.directory import Output
from pipeline.terminal.errors import told
from pipeline.terminal.logs import MaskingFormatter
from tests.helpers.limits import within_limits
from transforms.errors import UserError, error_row
from transforms.refs import ImageRef
from transforms.storage import secrets
from transforms.storage.secrets import masked

SECRET = "s3cr3t"

LINES = [
    ["--model", f"https://me:{SECRET}@h/m.tgz"],
    ["--model", f"https://me:p@{SECRET}@h/m.tgz"],
    [f"--model=https://h/m.tgz?X-Amz-Signature={SECRET}&v=1"],
    [f"--model=https://h/m.tgz?u={SECRET}#{SECRET}"],
    ["--input", "a", f"https://h/b.tfrecord?{SECRET}"],
    ["--environment_options", f"process_variables=KEY={SECRET}", f"more={SECRET}"],
    [f"--environment_option=process_variables=KEY={SECRET}"],
    ["--environment_type=PROCESS", "--environment_config", json.dumps({"env": {"A": SECRET}})],
    ["--model_args", json.dumps({"access_token": SECRET, "depth": 0.5})],
    [f"--model_args={json.dumps({'url': f'https://me:{SECRET}@h/'})}"],
    [f'--model_args={{"token": "{SECRET}"'],
    ["--s3_secret_access_key", SECRET],
    [f"--s3_secret_access_key={SECRET}"],
    [f"--s3_access_key_id={SECRET}", "--s3_session_token", SECRET],
    [f"--azure_connection_string=AccountKey={SECRET};x=y"],
    [f"--experiments=key={SECRET}"],
    [f"--flink_master=https://me:{SECRET}@flink:8081"],
    [f"--what_another_runner_knows={SECRET}", "--and_more", SECRET],
    ["--gbek", f"type:gcpsecret;version_name:{SECRET}"],
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0][:40])
def test_what_is_written_of_a_command_tells_none(line: list[str], tmp_path: pathlib.Path) -> None:
    words = ["--input", "my in", *line, "--output=out", "--direct_num_workers", "3"]
    run = {"run_id": "r", "command": run_record.command_line(words), "arguments": written(words)}
    run_record.start(Output(str(tmp_path)), run)
    [plan] = (tmp_path / "_plan").glob("*.json")
    assert SECRET not in plan.read_text()
    for flag in ("--input 'my in'", "--output=out", "--direct_num_workers 3"):
        assert flag in run["command"]
    assert len(run["arguments"]) == len(words)  # so a flag does not take another's value


def test_what_is_no_secret_is_written_as_it_was_typed() -> None:
    words = ["--input", "a", "b?.jpg", "--model", "https://h/m?tf-hub-format=compressed"]
    words += ["--model_args", '{"gain":2.5, "mode": "max"}', "--labels", "names.txt", "--dry_run"]
    words += ["--flink_master=flink:8081", "--value_range=-1,1", "--a_number_of_beam", "12"]
    assert written(words) == words


@pytest.mark.parametrize(
    "text", [f'{{"key": "{SECRET}"', f'["{SECRET}"]', f'{{"a": ["{SECRET}"]}}']
)
def test_hyper_parameters_that_are_none_are_not_told(text: str) -> None:
    with pytest.raises(UserError) as refused:
        read_options(["--input", "a", "--output", "b", "--model_args", text])
    assert told(refused.value).startswith("--model_args: ")
    assert SECRET not in told(refused.value)


# What the libraries of the stores tell of a request

DIGITS = "0123456789abcdef" * 4
TOLD = [
    f"403 for https://u:{SECRET}@h:9000/b/k?list-type=2&X-Amz-Security-Token={SECRET}: denied",
    f"request: {{'Authorization': 'Bearer {SECRET}{DIGITS}'}}",
    f"Authorization: AWS4-HMAC-SHA256 Credential=AKIA/s3, Signature={DIGITS}",
    f'{{"refresh_token": "{SECRET}", "client_secret":"{SECRET}"}}',
    f"Config(aws_secret_access_key='{SECRET}', aws_session_token=\"{SECRET}\")",
    f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET}==;EndpointSuffix=b",
    f"http://nn:9870/webhdfs/v1/a?op=OPEN&delegation={SECRET}&offset=0",
    f"bad key -----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
    f"hdfs://me:{SECRET}@namenode/a",
    f"Basic {SECRET}bWU6czNjcjN0",
    f"usage: --s3_secret_access_key {SECRET}{DIGITS}",
]


@pytest.mark.parametrize("text", TOLD, ids=lambda text: text[:30])
def test_error_rows_errors_and_logs_tell_none(text: str) -> None:
    row = error_row(ImageRef("a", "a", "1"), "read", OSError(5, text))
    record = logging.LogRecord("lib", logging.ERROR, "f.py", 1, "%s", (text,), None)
    said = [row.message, told(UserError(text)), MaskingFormatter("%(message)s").format(record)]
    for line in said:
        assert SECRET not in line
        assert DIGITS not in line
        assert "***" in line


def test_the_keys_that_were_given_are_masked_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(secrets, "_KNOWN", set())
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-environment")
    secrets._of_environment.cache_clear()
    try:
        keys = [f"--s3_secret_access_key={SECRET}-of-the-store", "--s3_access_key_id=AK"]
        read_options(["--input", "a", "--output", "b", *keys, "--signature", "serving_default"])
        text = f"sent {SECRET}-of-the-store, of-the-environment and AK to serving_default"
        assert masked(text) == "sent ***, *** and AK to serving_default"
    finally:
        monkeypatch.undo()
        secrets._of_environment.cache_clear()


@pytest.mark.parametrize(
    "text", ["a", "secret", "https://", "?&", "-----BEGIN PRIVATE KEY-----", "Bearer ", "eyJ"]
)
def test_a_long_text_takes_no_more_than_time_in_proportion(text: str) -> None:
    within_limits(masked, text * (50_000 // len(text)), more_bytes=2**26, seconds=20.0)
