"""The words of a command line as they are written down: for the run's record, and to be read.

An output is shared, and so are logs. Only values of options that are listed are written, without
the secrets of the URLs in them; all others, such as keys and the environments of workers, are ***.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pipeline.options.arguments import own_parser
from transforms.storage.secrets import MASK, is_secret_name, masked

_MODEL_ARGS = "--model_args"

# Among hyper-parameters: `class_token` and the like are none.
_SECRET_ARGUMENT = re.compile(
    r"secret|passw|credential|(?:api|access|auth|bearer|private|session)[_-]?(?:key|token)", re.I
)

# Of Beam's and its runners', those that say where and how much.
_BEAMS = """
    --artifact_endpoint --artifact_port --autoscaling_algorithm --dataflow_endpoint
    --default_sdk_harness_log_level --direct_num_workers --direct_runner_bundle_repeat
    --direct_running_mode --disk_provisioned_iops --disk_provisioned_throughput_mibps
    --disk_size_gb --disk_type --dry_run --element_processing_timeout_minutes
    --environment_cache_millis --environment_type --expansion_port --flink_job_server_jar
    --flink_master --flink_version --hdfs_host --hdfs_port --hdfs_user --job_endpoint --job_name
    --job_port --job_server_timeout --labels --machine_type --max_cache_memory_usage_mb
    --max_num_workers --max_parallelism --min_cpu_platform --network --num_workers
    --number_of_worker_harness_threads --parallelism --pickle_library --prism_location
    --prism_log_level --profile_sample_rate --project --region --requirements_file --runner
    --s3_api_version --s3_endpoint_url --s3_region_name --sdk_container_image
    --sdk_worker_parallelism --setup_file --spark_job_server_jar --spark_master_url
    --spark_rest_url --spark_version --staging_location --subnetwork --temp_location
    --type_check_strictness --wait_until_finish_duration --worker_disk_type
    --worker_harness_container_image --worker_machine_type --worker_region --worker_zone --zone
"""


def written(words: Sequence[str]) -> list[str]:
    """The words, with *** for what is not to be written.

    >>> written(["--input", "a", "--s3_access_key_id=AKIA", "--environment_options", "a=b", "c=d"])
    ['--input', 'a', '--s3_access_key_id=***', '--environment_options', '***', '***']
    """
    told, flag, listed = [], "", _listed()
    for word in words:
        value = word
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            if not equals:
                told.append(masked(word))
                continue
        value = _value(flag, value, listed)
        told.append(f"{flag}={value}" if word.startswith("--") else value)
    return told


def arguments_text(arguments: Iterable[tuple[str, Any]]) -> str:
    """Hyper-parameters as JSON, with *** for the texts among them that are secrets by their names.

    >>> arguments_text([("depth", 0.5), ("api_token", "f00d"), ("mode", "max")])
    '{"api_token": "***", "depth": 0.5, "mode": "max"}'
    """
    told = {
        name: (MASK if is_secret_name(name) else masked(value)) if isinstance(value, str) else value
        for name, value in arguments
    }
    return json.dumps(told, sort_keys=True)


def fingerprint_arguments(arguments: Iterable[tuple[str, Any]]) -> str:
    """Hyper-parameters as JSON, two different values always different, and no secret in it.

    >>> fingerprint_arguments([("depth", 0.5), ("class_token", "mean"), ("api_token", "f00d")])
    '{"api_token": "sha256:0f8721b0aef3", "class_token": "mean", "depth": 0.5}'
    """
    told = {
        name: f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:12]}"
        if isinstance(value, str) and _SECRET_ARGUMENT.search(name)
        else value
        for name, value in arguments
    }
    return json.dumps(told, sort_keys=True)


def _value(flag: str, value: str, listed: Collection[str]) -> str:
    if flag == _MODEL_ARGS:
        return _model_arguments(value)
    is_number = re.fullmatch(r"-?\d{1,6}(\.\d{1,6})?", value) and not is_secret_name(flag)
    return masked(value) if flag in listed or is_number else MASK


def _model_arguments(text: str) -> str:
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            return MASK
    except ValueError:
        return MASK
    told = arguments_text(values.items())
    return text if json.loads(told) == values else told


@functools.cache
def _listed() -> frozenset[str]:
    own = own_parser()._option_string_actions
    return frozenset([*own, *_BEAMS.split()]) - {_MODEL_ARGS}
