"""The chart, rendered by the real Helm and judged by Kubernetes's own schemas."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.settings import ClientTls, ClientTlsMode, Log, Match, Rule, Settings, UpstreamTls, UpstreamTlsMode

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "pgleash"
DIGEST = "sha256:" + "0123456789abcdef" * 4

# The first Kubernetes with native sidecars, and the newest that the validator has schemas of, which is its own version.
KUBERNETES = ["1.29", ".".join(version("kubernetes-validate").split(".")[:2])]

Document = dict[str, Any]

EVERY_OPTION: Document = {
    "listen": ["0.0.0.0:7432", "[::1]:7433"],
    "upstream": "db.example:5433",
    "mode": "observe",
    "flag_after": "2s",
    "rollback_after": "30s",
    "terminate_after": "5m",
    "flag_transaction_after": "1h",
    "terminate_transaction_after": "never",
    "flag_idle_session_after": "10m",
    "terminate_idle_session_after": "1h",
    "actions_per_minute": 6,
    "cancel_abandoned": False,
    "max_sessions": 2_000_000,
    "max_cancels": 10,
    "startup_timeout": 1.5,
    "authentication_timeout": "30s",
    "connect_timeout": 3,
    "tcp_keepalive": "20s",
    "tcp_user_timeout": "40s",
    "drain_timeout": "1500ms",
    "client_tls": {"mode": "disable", "cert_file": "/tls/tls.crt", "key_file": "/tls/tls.key", "ca_file": "none"},
    "upstream_tls": {"mode": "verify-full", "ca_file": "system", "cert_file": "none", "key_file": "none"},
    "log": {"format": "json", "level": "debug", "statements": "off"},
    "attribution": {"processes": False, "tags": ["tenant"]},
    "admin": {"listen": "127.0.0.1:9433", "token_file": "none"},
    "report_every": "5m",
    "rules": [
        {
            "name": "etl",
            "match": {
                "user": ["etl", 7],
                "database": "*",
                "application_name": "load-*",
                "address": ["10.1.0.0/16", "local"],
                "tags": {"job": "nightly-*"},
            },
            "flag_after": "30m",
            "rollback_after": "never",
            "terminate_after": 3600,
            "flag_transaction_after": "1h",
            "terminate_transaction_after": "2h",
            "flag_idle_session_after": "10m",
            "terminate_idle_session_after": "never",
        }
    ],
}
DEFAULT_CONFIG: Document = yaml.safe_load((CHART / "values.yaml").read_text())["config"]
APPLICATION: Document = {"image": "app:1"}
SECRET: Document = {
    "volumes": [{"name": "db-ca", "secret": {"secretName": "db-ca"}}],
    "volumeMounts": [{"name": "db-ca", "mountPath": "/etc/pgleash-db-ca", "readOnly": True}],
}

MATRIX: dict[str, Document] = {
    "defaults": {},
    "native": {"application": APPLICATION},
    "plain": {"native": False, "application": APPLICATION},
    "every option": {"config": EVERY_OPTION, "application": APPLICATION},
    "a secret": {**SECRET, "application": APPLICATION},
    "no probes": {"startupProbe": {"enabled": False}, "application": APPLICATION},
    "both probes": {"livenessProbe": {"enabled": True}, "application": APPLICATION},
    "image by digest": {"image": {"repository": "a/b", "tag": "1", "digest": DIGEST}, "application": APPLICATION},
    "full application": {
        "env": [{"name": "OTEL_SERVICE_NAME", "value": "shop"}],
        "application": {
            "image": "app:1",
            "command": ["serve"],
            "args": ["--port", "80"],
            "env": [
                {"name": "PGPORT", "value": "1"},
                {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            ],
            "resources": {"requests": {"cpu": "1"}},
        },
    },
}


class Helm:
    """A Helm that keeps its caches out of the user's home."""

    def __init__(self, program: str, home: Path) -> None:
        self.program = program
        self.home = home
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("HELM_")} | {
            f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments], env=self.environment, capture_output=True, text=True, check=False
        )

    def template(
        self, values: Document, *, chart: Path = CHART, kubernetes: str = KUBERNETES[-1]
    ) -> subprocess.CompletedProcess[str]:
        file = self.home / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return self.run("template", "shop", str(chart), "--values", str(file), "--kube-version", kubernetes)

    def render(self, values: Document, *, chart: Path = CHART, kubernetes: str = KUBERNETES[-1]) -> list[Document]:
        """The documents that come out, each of which the validator accepted."""
        rendered = self.template(values, chart=chart, kubernetes=kubernetes)
        assert rendered.returncode == 0, rendered.stderr
        documents: list[Document] = [document for document in yaml.safe_load_all(rendered.stdout) if document]
        assert documents, "nothing was rendered"
        validate(documents, kubernetes, self.home)
        return documents


@pytest.fixture(scope="session")
def helm_program() -> str:
    found = subprocess.run([Path(__file__).with_name("get-helm")], capture_output=True, text=True, check=False)
    if found.returncode == 77:
        pytest.skip(found.stderr.strip())
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture
def helm(helm_program: str, tmp_path: Path) -> Helm:
    return Helm(helm_program, tmp_path)


def validate(documents: list[Document], kubernetes: str, directory: Path) -> None:
    files = [directory / f"{number}.yaml" for number in range(len(documents))]
    for file, document in zip(files, documents, strict=True):
        file.write_text(yaml.safe_dump(document))
    validator = Path(sys.executable).with_name("kubernetes-validate")
    judged = subprocess.run(
        [validator, "--strict", "-k", kubernetes, *files], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr
    # For a kind that it does not know the validator only warns: what counts is that each document passed.
    assert judged.stdout.count(f" against version {kubernetes}\n") == len(documents), judged.stdout


def one(documents: list[Document], kind: str) -> Document:
    (document,) = [document for document in documents if document["kind"] == kind]
    return document


def pod_of(documents: list[Document]) -> Document:
    pod: Document = one(documents, "Deployment")["spec"]["template"]["spec"]
    return pod


def sidecar_of(documents: list[Document]) -> Document:
    pod = pod_of(documents)
    (container,) = [c for c in pod.get("initContainers", []) + pod["containers"] if c["name"] == "pgleash"]
    return dict(container)


def config_of(documents: list[Document]) -> Document:
    config: Document = yaml.safe_load(one(documents, "ConfigMap")["data"]["pgleash.yaml"])
    return config


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_renders_what_kubernetes_accepts(helm: Helm, values: Document, kubernetes: str) -> None:
    kinds = [document["kind"] for document in helm.render(values, kubernetes=kubernetes)]
    assert sorted(kinds) == ["ConfigMap", "Deployment"] if "application" in values else ["ConfigMap"]


def test_lint_has_nothing_to_say(helm: Helm) -> None:
    linted = helm.run("lint", "--strict", str(CHART))
    assert linted.returncode == 0, linted.stdout


def test_chart_and_program_have_one_version() -> None:
    program = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (program, program)


def test_native_sidecar_starts_before_the_application(helm: Helm) -> None:
    pod = pod_of(helm.render({"application": APPLICATION}))
    (sidecar,) = pod["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("pgleash", "Always")
    assert [container["name"] for container in pod["containers"]] == ["application"]


def test_plain_sidecar_runs_where_native_ones_are_unknown(helm: Helm) -> None:
    # 1.25 has the oldest schemas that the validator knows.
    pod = pod_of(helm.render({"native": False, "application": APPLICATION}, kubernetes="1.25"))
    assert "initContainers" not in pod
    assert [container["name"] for container in pod["containers"]] == ["application", "pgleash"]
    assert "restartPolicy" not in pod["containers"][1]


def test_native_sidecar_is_refused_where_it_would_hang_the_pod(helm: Helm) -> None:
    refused = helm.template({"application": APPLICATION}, kubernetes="1.28")
    assert refused.returncode == 1
    assert "native=false" in refused.stderr


def test_sidecar_has_no_privileges(helm: Helm) -> None:
    assert sidecar_of(helm.render({"application": APPLICATION}))["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_sidecar_knows_where_it_runs(helm: Helm) -> None:
    documents = helm.render({"env": [{"name": "OTEL_SERVICE_NAME", "value": "shop"}], "application": APPLICATION})
    environment = {
        entry["name"]: entry.get("value") or entry["valueFrom"]["fieldRef"]["fieldPath"]
        for entry in sidecar_of(documents)["env"]
    }
    assert environment == {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "NODE_NAME": "spec.nodeName",
        "CONTAINER_NAME": "pgleash",
        "OTEL_SERVICE_NAME": "shop",
    }
    assert pod_of(documents)["enableServiceLinks"] is False


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, r"pgleash:\d+\.\d+\.\d+"),
        ({"repository": "a/b", "tag": "edge"}, "a/b:edge"),
        ({"repository": "a/b", "tag": "edge", "digest": DIGEST}, f"a/b@{DIGEST}"),
    ],
    ids=["appVersion", "tag", "digest"],
)
def test_image(helm: Helm, image: Document, reference: str) -> None:
    sidecar = sidecar_of(helm.render({"image": image, "application": APPLICATION}))
    assert re.fullmatch(reference, sidecar["image"])


def test_configuration_is_what_was_asked_for(helm: Helm) -> None:
    documents = helm.render({"config": EVERY_OPTION, "application": APPLICATION})
    assert config_of(documents) == EVERY_OPTION
    (volume,) = pod_of(documents)["volumes"]
    (mount,) = sidecar_of(documents)["volumeMounts"]
    assert volume["configMap"]["name"] == one(documents, "ConfigMap")["metadata"]["name"]
    assert mount == {"name": volume["name"], "mountPath": "/etc/pgleash", "readOnly": True}
    assert sidecar_of(documents)["args"] == ["serve", "--config", "/etc/pgleash/pgleash.yaml"]


def test_program_accepts_every_option_of_the_chart(helm: Helm, tmp_path: Path) -> None:
    file = tmp_path / "pgleash.yaml"
    file.write_text(yaml.safe_dump(config_of(helm.render({"config": EVERY_OPTION}))))
    checked = subprocess.run(
        [sys.executable, "-m", "proxy", "check-config", "--config", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_chart_knows_every_option_of_the_program() -> None:
    whole = json.loads((CHART / "values.schema.json").read_text())
    schema, definitions = whole["properties"]["config"]["properties"], whole["definitions"]
    assert set(schema) == set(EVERY_OPTION) == set(Settings.model_fields)
    for section, model in (("log", Log), ("client_tls", ClientTls), ("upstream_tls", UpstreamTls)):
        assert set(schema[section]["properties"]) == set(EVERY_OPTION[section]) == set(model.model_fields)
    rule = definitions["rule"]["properties"]
    assert set(rule) == set(EVERY_OPTION["rules"][0]) == set(Rule.model_fields)
    assert set(rule["match"]["properties"]) == set(EVERY_OPTION["rules"][0]["match"]) == set(Match.model_fields)
    modes = [str(mode) for mode in ClientTlsMode], [str(mode) for mode in UpstreamTlsMode]
    assert (
        schema["client_tls"]["properties"]["mode"]["enum"],
        schema["upstream_tls"]["properties"]["mode"]["enum"],
    ) == modes


def test_chart_has_the_rules_of_the_shipped_file() -> None:
    shipped = yaml.safe_load((ROOT / "config" / "pgleash.yaml").read_text())
    assert DEFAULT_CONFIG["rules"] == shipped["rules"]


def test_chart_assumes_the_programs_own_defaults() -> None:
    assert [str(address) for address in Settings().listen] == ["127.0.0.1:6432"]
    assert Settings().drain_timeout == 25


def test_files_of_the_pod_are_where_the_sidecar_looks_for_them(helm: Helm) -> None:
    documents = helm.render({**SECRET, "application": APPLICATION})
    assert SECRET["volumes"][0] in pod_of(documents)["volumes"]
    assert SECRET["volumeMounts"][0] in sidecar_of(documents)["volumeMounts"]


def test_a_changed_configuration_rolls_out(helm: Helm) -> None:
    def annotations(flag_after: str) -> Document:
        documents = helm.render({"config": {"flag_after": flag_after}, "application": APPLICATION})
        found: Document = one(documents, "Deployment")["spec"]["template"]["metadata"]["annotations"]
        return found

    assert annotations("1s") == annotations("1s") != annotations("2s")


@pytest.mark.parametrize(
    ("drain", "seconds"), [("1500ms", 32), ("20s", 50), ("2m", 150), (7, 37), ("1h", 3630), (None, 55)], ids=str
)
def test_pod_may_take_longer_to_stop_than_the_proxy(helm: Helm, drain: str | int | None, seconds: int) -> None:
    config = {} if drain is None else {"drain_timeout": drain}
    pod = pod_of(helm.render({"config": config, "application": APPLICATION}))
    assert pod["terminationGracePeriodSeconds"] == seconds


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        (None, "127.0.0.1", "6432"),
        ("127.0.0.1:7000", "127.0.0.1", "7000"),
        ("0.0.0.0:7000", "127.0.0.1", "7000"),
        (["[::]:7001", "127.0.0.1:7000"], "::1", "7001"),
    ],
    ids=str,
)
def test_probe_and_application_find_the_proxy(helm: Helm, listen: str | list[str] | None, host: str, port: str) -> None:
    config = {} if listen is None else {"listen": listen}
    documents = helm.render({"config": config, "application": APPLICATION})
    command = sidecar_of(documents)["startupProbe"]["exec"]["command"]
    assert command[:2] == ["python3", "-c"]
    assert f"socket.create_connection(('{host}', {port}), 1)" in command[2]
    compile(command[2], "startupProbe", "exec")
    (application,) = pod_of(documents)["containers"]
    assert {entry["name"]: entry["value"] for entry in application["env"]} == {"PGHOST": host, "PGPORT": port}


def test_an_applications_own_environment_wins(helm: Helm) -> None:
    given = [{"name": "PGPORT", "value": "1"}]
    (application,) = pod_of(helm.render({"application": {"image": "app:1", "env": given}}))["containers"]
    assert [entry["value"] for entry in application["env"] if entry["name"] == "PGPORT"] == ["1"]


def test_probes_are_as_asked_for(helm: Helm) -> None:
    default = sidecar_of(helm.render({"application": APPLICATION}))
    assert "livenessProbe" not in default
    turned = {"startupProbe": {"enabled": False}, "livenessProbe": {"enabled": True, "periodSeconds": 7}}
    other = sidecar_of(helm.render(turned | {"application": APPLICATION}))
    assert "startupProbe" not in other
    assert other["livenessProbe"]["periodSeconds"] == 7
    assert other["livenessProbe"]["exec"] == default["startupProbe"]["exec"]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"config": {"flag_afer": "1s"}}, "flag_afer"),
        ({"config": {"flag_after": "soon"}}, "flag_after"),
        ({"config": {"terminate_after": 0}}, "terminate_after"),
        ({"config": {"drain_timeout": "never"}}, "drain_timeout"),
        ({"config": {"upstream": "/run/postgresql"}}, "upstream"),
        ({"config": {"listen": ["6432"]}}, "listen"),
        ({"config": {"max_sessions": 0}}, "max_sessions"),
        ({"config": {"cancel_abandoned": "yes"}}, "cancel_abandoned"),
        ({"config": {"rules": [{"name": "a", "match": {"usr": "a"}, "flag_after": "1s"}]}}, "usr"),
        ({"config": {"rules": [{"name": "a", "match": {}, "flag_after": "1s"}]}}, "match"),
        ({"config": {"rules": [{"name": "a", "flag_after": "1s", "terminate_after": "1s"}]}}, "match"),
        ({"config": {"log": {"statements": False}}}, "statements"),  # what YAML makes of a bare off
        ({"config": {"log": {"colour": True}}}, "colour"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"native": "true"}, "native"),
        ({"sidecar": {}}, "sidecar"),
        ({"application": {"image": "app:1", "env": [{"nam": "A"}]}}, "nam"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, values: Document, key: str) -> None:
    refused = helm.template(values)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert re.search(rf"\b{key}\b", refused.stderr), refused.stderr


WORKER = """
apiVersion: batch/v1
kind: Job
metadata:
  name: worker
spec:
  template:
    metadata:
      annotations:
        checksum/pgleash: {{ include "pgleash.checksum" SCOPE | quote }}
    spec:
      enableServiceLinks: false
      restartPolicy: Never
      terminationGracePeriodSeconds: {{ include "pgleash.terminationGracePeriodSeconds" SCOPE }}
      initContainers:
        {{- include "pgleash.sidecar" SCOPE | nindent 8 }}
      containers:
        - name: worker
          image: worker:1
          env:
            - {name: PGHOST, value: {{ include "pgleash.host" SCOPE | quote }}}
            - {name: PGPORT, value: {{ include "pgleash.port" SCOPE | quote }}}
      volumes:
        {{- include "pgleash.volumes" SCOPE | nindent 8 }}
"""


@pytest.mark.parametrize(
    ("name", "scope"),
    [("pgleash", "."), ("pgleash", ".Subcharts.pgleash"), ("leash", ".Subcharts.leash")],
    ids=["its own scope", "the dependency's scope", "an alias"],
)
def test_another_chart_includes_the_sidecar(helm: Helm, tmp_path: Path, name: str, scope: str) -> None:
    shutil.copytree(CHART, tmp_path / "pgleash")
    worker = tmp_path / "worker"
    (worker / "templates").mkdir(parents=True)
    (worker / "templates" / "job.yaml").write_text(WORKER.replace("SCOPE", scope))
    dependency = {"name": "pgleash", "version": ">=0.1.0", "repository": "file://../pgleash"}
    if name != "pgleash":
        dependency["alias"] = name
    dependency["condition"] = f"{name}.enabled"
    metadata = {"apiVersion": "v2", "name": "worker", "version": "1.0.0", "dependencies": [dependency]}
    (worker / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    built = helm.run("dependency", "update", str(worker))
    assert built.returncode == 0, built.stderr

    config = {"upstream": "db:5432", "listen": "127.0.0.1:7000"}
    documents = helm.render({name: {"enabled": True, "config": config}}, chart=worker)

    assert sorted(document["kind"] for document in documents) == ["ConfigMap", "Job"]
    assert config_of(documents) == DEFAULT_CONFIG | config
    pod = one(documents, "Job")["spec"]["template"]["spec"]
    (sidecar,) = pod["initContainers"]
    assert sidecar["name"] == name
    assert pod["volumes"][0]["configMap"]["name"] == one(documents, "ConfigMap")["metadata"]["name"]
    assert [entry["value"] for entry in pod["containers"][0]["env"]] == ["127.0.0.1", "7000"]


def test_another_charts_wrong_value_is_refused_too(helm: Helm, tmp_path: Path) -> None:
    worker = tmp_path / "worker"
    shutil.copytree(CHART, worker / "charts" / "pgleash")
    (worker / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "worker", "version": "1.0.0"}))
    refused = helm.template({"pgleash": {"config": {"flag_afer": "1s"}}}, chart=worker)
    assert refused.returncode == 1
    assert "flag_afer" in refused.stderr
