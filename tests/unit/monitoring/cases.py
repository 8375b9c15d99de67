"""When each alert fires, and when it does not: series by the minute, in promtool's notation (`1x20`: 21 times 1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

P = "secretbinding_"
AWAY = '{job="a",system="%s"}'
BINDING = 'job="a",instance="i",source="nomad",binding_namespace="team",binding="web"'
PASSES = P + 'reconciles_total{job="a",instance="i",result="%s"}'
CALLS = P + 'api_request_duration_seconds_count{job="a",instance="i",system="%s",operation="%s",outcome="%s"}'


@dataclass(frozen=True)
class Case:
    """What is scraped, and at which minutes an alert fires and does not. `labels` are those that it carries besides its
    severity and the job; between two values are `step` minutes."""

    alert: str
    series: Mapping[str, str]
    fires: tuple[int, ...] = ()
    quiet: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    step: int = 1


_WEB = {"source": "nomad", "binding_namespace": "team", "binding": "web"}

CASES = (
    # Bindings.
    Case(
        "SecretBindingNotReady",
        {
            # Its reason changes: it is one binding that is not ready all the time.
            P + f'binding_not_ready{{{BINDING},reason="JobNotFound"}}': "1x10",
            P + f'binding_not_ready{{{BINDING},reason="PermissionDenied"}}': "_x10 1x20",
        },
        fires=(16, 25),
        quiet=(10, 40),
        labels=_WEB,
    ),
    Case(
        "SecretBindingNotReady",
        {
            P + f'binding_not_ready{{{BINDING},reason="Suspended"}}': "1x60",
            P + f'binding_not_ready{{{BINDING},reason="JobStopped"}}': "1x60",
        },
        quiet=(30, 60),
    ),
    Case(
        "SecretBindingManyNotReady",
        {
            P + 'bindings{job="a",instance="i",source="nomad",condition="Ready",status="True"}': "70x60",
            P + 'bindings{job="a",instance="i",source="nomad",condition="Ready",status="False"}': "5x20 20x40",
            P + 'bindings{job="a",instance="i",source="nomad",condition="Ready",status="Unknown"}': "0x20 10x40",
            P + 'bindings{job="a",instance="i",source="nomad",condition="JobSynced",status="False"}': "90x60",
            P + 'bindings_not_ready{job="a",instance="i",source="nomad",reason="PermissionDenied"}': "5x20 20x40",
            P + 'bindings_not_ready{job="a",instance="i",source="nomad",reason="VaultUnreachable"}': "_x20 10x40",
        },
        fires=(32,),
        quiet=(15, 25),
    ),
    Case(
        "SecretBindingManyNotReady",
        {
            P + 'bindings{job="a",source="nomad",condition="Ready",status="True"}': "2x60",
            P + 'bindings{job="a",source="nomad",condition="Ready",status="False"}': "4x60",
            P + 'bindings_not_ready{job="a",source="nomad",reason="JobNotFound"}': "4x60",
        },
        quiet=(30, 60),
    ),
    Case(
        "SecretBindingManyNotReady",
        {
            # A third of the jobs is stopped, or their bindings suspended: somebody wants it so.
            P + 'bindings{job="a",instance="i",source="nomad",condition="Ready",status="True"}': "20x60",
            P + 'bindings{job="a",instance="i",source="nomad",condition="Ready",status="False"}': "10x60",
            P + 'bindings_not_ready{job="a",instance="i",source="nomad",reason="JobStopped"}': "7x60",
            P + 'bindings_not_ready{job="a",instance="i",source="nomad",reason="Suspended"}': "3x60",
        },
        quiet=(30, 60),
    ),
    Case(
        "SecretBindingDriftRepeated",
        {
            P + 'drift_mended_total{job="a",object="job"}': "0+1x5 5x55",
            P + 'drift_mended_total{job="a",object="role"}': "0+1x2 2x100",
        },
        quiet=(30, 58),
    ),
    Case(
        "SecretBindingDriftRepeated",
        {P + 'drift_mended_total{job="a",object="job"}': "0+1x90"},
        fires=(30,),
        quiet=(4,),
        labels={"object": "job"},
    ),
    # Rotations.
    Case(
        "SecretBindingRotationFailed",
        {P + f'binding_rotation_unhealthy{{{BINDING},reason="DeploymentReverted"}}': "1x10"},
        fires=(3,),
        quiet=(0, 20),
        labels={**_WEB, "reason": "DeploymentReverted"},
    ),
    Case(
        "SecretBindingRotationHeld",
        {P + f'binding_rotation_unhealthy{{{BINDING},reason="SecretFieldMissing"}}': "1x30"},
        fires=(20,),
        quiet=(10, 40),
        labels={**_WEB, "reason": "SecretFieldMissing"},
    ),
    Case(
        "SecretBindingRotationHeld",
        {
            P + f'binding_rotation_unhealthy{{{BINDING},reason="{reason}"}}': "1x60"
            for reason in ("DeploymentFailed", "DeploymentReverted", "GenerationFailed", "PinnedVersionAtRisk")
        },
        quiet=(30, 60),
    ),
    Case(
        "SecretBindingGenerationFailed",
        {P + f'binding_rotation_unhealthy{{{BINDING},reason="GenerationFailed"}}': "1x30"},
        fires=(20,),
        quiet=(10, 40),
        labels=_WEB,
    ),
    Case(
        "SecretBindingPinnedVersionAtRisk",
        {P + 'pinned_versions_at_risk{job="a"}': "0x10 2x20 0x20"},
        fires=(25,),
        quiet=(5, 15, 40),
    ),
    Case(
        "SecretBindingRegistrationFailing",
        {
            CALLS % ("nomad", "job_register", "Success"): "0+1x60",
            CALLS % ("nomad", "job_register", "PermissionDenied"): "0x10 0+1x20 20x60",
        },
        fires=(25,),
        quiet=(10, 60),
    ),
    Case(
        "SecretBindingRegistrationFailing",
        {
            CALLS % ("nomad", "job_register", "WriteConflict"): "0+1x60",
            CALLS % ("nomad", "job_read", "PermissionDenied"): "0+1x60",
        },
        quiet=(30, 60),
    ),
    # Sources.
    Case(
        "SecretBindingSourceHeld",
        {P + 'source_held_bindings{job="a",source="files"}': "0x10 7x20 0x9"},
        fires=(20,),
        quiet=(5, 12, 38),
        labels={"source": "files"},
    ),
    Case(
        "SecretBindingSourceNotListed",
        {
            P + 'source_listed{job="a",instance="i",source="nomad"}': "1x60",
            P + 'source_listed{job="a",instance="j",source="nomad"}': "0x20 1x40",
        },
        fires=(15,),
        quiet=(5, 30),
        labels={"source": "nomad"},
    ),
    Case(
        "SecretBindingSourceSilent",
        {P + 'source_healthy{job="a",source="kubernetes"}': "1x5 0x20 1x20"},
        fires=(20,),
        quiet=(4, 10, 40),
        labels={"source": "kubernetes"},
    ),
    Case(
        "SecretBindingWatchStale",
        {
            P + 'watch_staleness_seconds{job="a",connection="default",watch="secrets"}': "0x60",
            P + 'watch_staleness_seconds{job="a",connection="eu",watch="secrets"}': "0+60x30 0x30",
        },
        fires=(20,),
        quiet=(10, 14, 40),
        labels={"watch": "secrets", "connection": "eu"},
    ),
    Case("SecretBindingPoliciesUnknown", {P + 'policies_unknown{job="a"}': "1x20 0x20"}, fires=(10,), quiet=(3, 30)),
    # Servers.
    Case(
        "SecretBindingVaultUnreachable",
        {P + "server_answering" + AWAY % "vault": "1x5 0x20 1x20", P + "server_answering" + AWAY % "nomad": "1x60"},
        fires=(15,),
        quiet=(4, 8, 30),
    ),
    Case("SecretBindingVaultUnreachable", {P + "server_answering" + AWAY % "nomad": "0x60"}, quiet=(30,)),
    Case(
        "SecretBindingNomadUnreachable",
        {P + "server_answering" + AWAY % "nomad": "1x5 0x20 1x20", P + "server_answering" + AWAY % "vault": "1x60"},
        fires=(15,),
        quiet=(4, 8, 30),
    ),
    Case("SecretBindingNomadUnreachable", {P + "server_answering" + AWAY % "vault": "0x60"}, quiet=(30,)),
    Case(
        "SecretBindingApiErrors",
        {
            CALLS % ("vault", "policy_read", "Success"): "0+60x90",
            CALLS % ("vault", "policy_read", "Unavailable"): "0x20 0+20x30 600x40",
        },
        fires=(45,),
        quiet=(20, 30, 80),
        labels={"system": "vault"},
    ),
    Case(
        "SecretBindingApiErrors",
        {
            CALLS % ("nomad", "job_read", "Success"): "0+60x60",
            CALLS % ("nomad", "job_read", "NotFound"): "0+60x60",
            CALLS % ("nomad", "job_register", "WriteConflict"): "0+60x60",
        },
        quiet=(30, 60),
    ),
    # Of an hour, renewed when 40 minutes are left of it; and then no more.
    Case(
        "SecretBindingTokenExpiring",
        {P + 'token_expiry_timestamp_seconds{job="a",system="vault"}': "3600x20 4800x20 6000x20 7200x60"},
        fires=(115,),
        quiet=(19, 39, 59, 90),
        labels={"system": "vault"},
    ),
    # Given for 30 days, and never renewed: told the evening before.
    Case(
        "SecretBindingTokenExpiring",
        {P + 'token_expiry_timestamp_seconds{job="a",system="nomad"}': f"{30 * 86400}x{30 * 6}"},
        fires=(29 * 1440 + 16 * 60,),
        quiet=(1440, 28 * 1440),
        labels={"system": "nomad"},
        step=240,
    ),
    # Ended, which does not end the alert.
    Case(
        "SecretBindingTokenExpiring",
        {P + 'token_expiry_timestamp_seconds{job="a",system="nomad"}': "86400x5760"},
        fires=(1440 - 30, 1440 + 30, 4 * 1440 - 10),
        quiet=(60,),
        labels={"system": "nomad"},
        step=10,
    ),
    # The controller.
    Case(
        "SecretBindingControllerAbsent",
        {P + 'build_info{job="a",version="1",python="3"}': "1x10 _x20 1x20"},
        fires=(25,),
        quiet=(5, 18, 40),
    ),
    # One of two releases: the other one does not hide it.
    Case(
        "SecretBindingControllerAbsent",
        {
            P + 'build_info{job="a",namespace="tools",version="1"}': "1x10 _x30 1x20",
            P + 'build_info{job="a",namespace="shop",version="1"}': "1x60",
        },
        fires=(25,),
        quiet=(5, 18, 50),
        labels={"namespace": "tools"},
    ),
    # There never was one.
    Case("SecretBindingControllerAbsent", {'up{job="b"}': "1x20"}, fires=(15,), quiet=(4,), labels={"job": ""}),
    Case(
        "SecretBindingNoLeader",
        {
            **{P + f'shards{{job="a",instance="{one}"}}': "1x60" for one in "ij"},
            P + 'shards_held{job="a",instance="i"}': "1x10 0x50",
            P + 'shards_held{job="a",instance="j"}': "0x20 1x40",
        },
        fires=(15,),
        quiet=(5, 11, 30),
    ),
    # Of 16 parts two are nobody's.
    Case(
        "SecretBindingNoLeader",
        {
            P + 'shards{job="a",instance="i"}': "16x60",
            P + 'shards{job="a",instance="j"}': "16x60",
            P + 'shards_held{job="a",instance="i"}': "8x60",
            P + 'shards_held{job="a",instance="j"}': "8x20 6x40",
        },
        fires=(30,),
        quiet=(15,),
    ),
    Case(
        "SecretBindingLeasesStale",
        {P + 'leases_staleness_seconds{job="a",instance="i"}': "2x10 0+60x10 2x20"},
        fires=(18,),
        quiet=(5, 12, 30),
    ),
    Case(
        "SecretBindingQueueStuck",
        {
            P + 'queue_oldest_seconds{job="a",connection="default",priority="change"}': "0x40",
            P + 'queue_oldest_seconds{job="a",connection="eu",priority="change"}': "0+60x20 0x20",
        },
        fires=(15,),
        quiet=(5, 8, 30),
        labels={"priority": "change", "connection": "eu"},
    ),
    # After a start, all jobs are looked at, and wait for it.
    Case(
        "SecretBindingQueueStuck",
        {P + 'queue_oldest_seconds{job="a",priority="resync"}': "0+60x20 0x40"},
        quiet=(15, 20, 30),
    ),
    Case(
        "SecretBindingQueueStuck",
        {P + 'queue_oldest_seconds{job="a",priority="resync"}': "0+60x60"},
        fires=(45,),
        labels={"priority": "resync"},
    ),
    Case(
        "SecretBindingUnhealthy",
        {
            P + 'health_check_failing{job="a",check="loops"}': "0x10 1x20 0x20",
            P + 'health_check_failing{job="a",check="threads"}': "0x50",
        },
        fires=(20,),
        quiet=(5, 12, 40),
        labels={"check": "loops"},
    ),
    Case(
        "SecretBindingRestarting",
        {
            'process_start_time_seconds{job="a",instance="i"}': "0x9 600x9 1200x9 1800x9 2400x9 3000x9 3000x90",
            P + 'build_info{job="a",instance="i"}': "1x200",
        },
        fires=(58,),
        quiet=(20, 130),
    ),
    # Another program's restarts are its own matter; an upgrade is one.
    Case(
        "SecretBindingRestarting",
        {
            'process_start_time_seconds{job="b",instance="i"}': "0+60x90",
            'process_start_time_seconds{job="a",instance="i"}': "0x20 1200x70",
            P + 'build_info{job="a",instance="i"}': "1x90",
        },
        quiet=(30, 60, 90),
    ),
    # Each start is a new pod, of another address.
    Case(
        "SecretBindingRestarting",
        {
            name + f'{{job="a",instance="{one}"}}': "_x" + f"{10 * one} " + f"{value}x9 stale _x90"
            for one in range(1, 7)
            for name, value in (("process_start_time_seconds", 600 * one), (P + "build_info", 1))
        },
        fires=(69,),
        quiet=(30,),
    ),
    # Six are replaced one by one, as in an upgrade.
    Case(
        "SecretBindingRestarting",
        {
            name + f'{{job="a",instance="{age}-{one}"}}': times
            for one in range(6)
            for age, at, times in (
                ("old", -9000, f"VALUEx{30 + one} _x90"),
                ("new", 60 * (30 + one), f"_x{30 + one} VALUEx90"),
            )
            for name, times in (
                ("process_start_time_seconds", times.replace("VALUE", str(at))),
                (P + "build_info", times.replace("VALUE", "1")),
            )
        },
        quiet=(35, 45, 60, 90),
    ),
    Case("SecretBindingPassesCrash", {PASSES % "crashed": "0x10 1x60"}, fires=(15,), quiet=(5, 40)),
    # The budget: 1 % of the passes. A tenth of all fail for two hours, then a fifth.
    Case(
        "SecretBindingErrorBudgetFast",
        {PASSES % "unchanged": "0+80x600", PASSES % "failed": "0x60 0+2x60 120+20x120 2520x360"},
        fires=(180, 230),
        quiet=(50, 110, 300),
    ),
    Case(
        "SecretBindingErrorBudgetSlow",
        {PASSES % "unchanged": "0+970x150", PASSES % "failed": "0+35x150"},
        fires=(600,),
        quiet=(8,),
        step=4,
    ),
    Case(
        "SecretBindingErrorBudgetSlow",
        {PASSES % "unchanged": "0+995x150", PASSES % "failed": "0+5x150"},
        quiet=(300, 600),
        step=4,
    ),
    # One job of five, that fails with every pass, has a runbook of its own; so few failures are no trend.
    Case(
        "SecretBindingErrorBudgetFast",
        {PASSES % "unchanged": "0+1x10 10x50", PASSES % "failed": "0+1x4 4x56"},
        quiet=(10, 30, 60),
    ),
    Case(
        "SecretBindingErrorBudgetFast",
        {PASSES % "unchanged": "0+99x400", PASSES % "failed": "0+1x400"},
        quiet=(60, 400),
    ),
)
