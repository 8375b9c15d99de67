"""A value that cannot be made keeps nobody else from rolling."""

from secretbinding.errors import Denied
from tests.support.builders import binding, job, kv
from tests.support.builders import spec as with_spec
from tests.unit.engine.memory import Process, Servers


def test_a_job_rolls_though_the_new_value_of_another_one_is_refused_again_and_again() -> None:
    servers = Servers()
    for name in ("maker", "roller"):
        servers.nomad.add({**job(), "ID": name, "Name": name})
        servers.vault.put(name)
    entries = [{"secret": "maker", "schedule": "5 12 * * *", "fields": ["password"]}]
    servers.bind(binding(kv("maker", path="maker"), with_spec(rotation={"generate": entries}), name="m", job="maker"))
    servers.bind(binding(kv("roller", path="roller"), name="r", job="roller"))
    servers.nomad.finish()
    process = Process(servers, rolls=1).start()
    process.run(290.0)
    refused = []

    def refuse(kind: str, name: str) -> None:
        if kind == "value":
            refused.append(name)
            raise Denied("no", system="vault", operation="write a secret", status=403)

    servers.writes.before = refuse
    process.run(15.0)
    assert refused, "its time has come"
    servers.vault.put("roller")
    process.run(40.0)
    assert servers.nomad.pins("roller") == {2}
