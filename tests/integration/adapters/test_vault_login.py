"""Logging in to a real OpenBao by each method: one token for all threads, renewed, and got anew when it is revoked."""

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from secretbinding.adapters import tls
from secretbinding.adapters.connection import TokenFile, VaultConnection
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.adapters.vault.login import AppRoleLogin, CertLogin, Given, JwtLogin, LoginMethod
from secretbinding.adapters.vault.session import VaultSession
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.processes import free_ports
from secretbinding.errors import Denied, SecretBindingError, Unavailable, Unreachable
from tests.support.tokenreview import account_token, token_reviews
from tests.support.world import wait_until

POLICY = """
path "sys/policies/acl/nsb.*" { capabilities = ["create", "read", "update", "delete"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
"""
THREADS = 16


@dataclass
class Site:
    """An OpenBao that everybody can log in to, and the files to do so with."""

    bao: OpenBao
    directory: Path
    tls_address: str
    authority: trustme.CA
    key: rsa.RSAPrivateKey

    @property
    def ca(self) -> str:
        return str(self.directory / "ca.pem")

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(f"{text}\n")
        return path

    def secret_id(self, role: str, *, wrap: bool = False) -> str:
        headers = {"X-Vault-Wrap-TTL": "60s"} if wrap else {}
        path = f"/v1/auth/approle/role/{role}/secret-id"
        body = self.bao.api.request("PUT", path, body={}, headers=headers).expect().json()
        return str(body["wrap_info"]["token"] if wrap else body["data"]["secret_id"])

    def role_id(self, role: str) -> str:
        return str(self.bao.api.get(f"/v1/auth/approle/role/{role}/role-id").expect().json()["data"]["role_id"])

    def role(self, name: str, **settings: Any) -> AppRoleLogin:
        """An AppRole of that name, with a secret ID in a file."""
        body = {"token_policies": ["controller"], "token_no_default_policy": True, **settings}
        self.bao.api.put(f"/v1/auth/approle/role/{name}", body).expect(204)
        path = self.file(f"{name}.secret-id", self.secret_id(name))
        return AppRoleLogin("approle", name, Given(self.role_id(name)), Given(path=path))

    def identity(self, job: str) -> str:
        claims = {"aud": "vault.io", "sub": f"global:ops:{job}:g:t:vault", "nomad_job_id": job}
        now = int(time.time())
        return jwt.encode({**claims, "iat": now, "exp": now + 60}, self.key, algorithm="RS256")

    def client(self, name: str) -> tuple[str, str]:
        made = self.authority.issue_cert(f"{name}@example.com", common_name=name)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}-key.pem"
        made.cert_chain_pems[0].write_to_path(str(certificate))
        made.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("login")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    server = authority.issue_cert("127.0.0.1")
    server.cert_chain_pems[0].write_to_path(str(directory / "server.pem"))
    server.private_key_pem.write_to_path(str(directory / "server-key.pem"))
    (port,) = free_ports(1)
    listener = (
        f'listener "tcp" {{\n  address = "127.0.0.1:{port}"\n  tls_cert_file = "{directory}/server.pem"\n'
        f'  tls_key_file = "{directory}/server-key.pem"\n}}\n'
    )
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with OpenBao(directory / "openbao", configuration=listener) as bao, token_reviews(directory) as (host, host_ca):
        made = Site(bao, directory, f"https://127.0.0.1:{port}", authority, key)
        _set_up(made, host, host_ca)
        yield made


def _set_up(site: Site, host: str, host_ca: Path) -> None:
    api, limits = site.bao.api, {"token_policies": ["controller"], "token_no_default_policy": True, "token_ttl": "1h"}
    site.bao.put_policy("controller", POLICY)
    for kind in ("approle", "jwt", "kubernetes", "cert"):
        api.put(f"/v1/sys/auth/{kind}", {"type": kind}).expect(204)
    public = site.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    api.put("/v1/auth/jwt/config", {"jwt_validation_pubkeys": [public.decode()]}).expect(200, 204)
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault.io"], **limits}
    site.bao.put_jwt_role("secretbinding", {**role, "bound_claims": {"nomad_job_id": "controller"}}, mount="jwt")
    review = {"kubernetes_host": host, "kubernetes_ca_cert": host_ca.read_text(), "disable_local_ca_jwt": True}
    api.put("/v1/auth/kubernetes/config", review).expect(204)
    bound = {"bound_service_account_names": ["secretbinding"], "bound_service_account_namespaces": ["secretbinding"]}
    api.put("/v1/auth/kubernetes/role/secretbinding", {**bound, **limits}).expect(200, 204)
    certificate = {"certificate": Path(site.ca).read_text(), "allowed_common_names": ["controller", "second"]}
    api.put("/v1/auth/cert/certs/secretbinding", {**certificate, **limits}).expect(204)


@dataclass
class Used:
    """An adapter whose token a session gives, and what was asked of the server for it."""

    session: VaultSession
    vault: VaultAdapter
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)

    def work(self) -> None:
        self.vault.write_policy("nsb.default.app", 'path "a" { capabilities = ["read"] }')

    @property
    def logins(self) -> int:
        return sum(count for (label, _), count in self.calls.items() if label == "login")


Use = Callable[..., Used]


@pytest.fixture
def use(site: Site) -> Iterator[Use]:
    made: list[Used] = []

    def begin(login: LoginMethod | None = None, **settings: Any) -> Used:
        calls: Counter[tuple[str, str]] = Counter()
        lock = threading.Lock()

        def called(system: str, operation: str, seconds: float, outcome: str) -> None:
            with lock:
                calls[operation, outcome] += 1

        known = {one.name for one in dataclasses.fields(VaultConnection)} - {"token"}
        own = VaultConnection(
            **{
                "address": site.bao.address,
                "pool_size": THREADS,
                **{name: settings.pop(name) for name in known & settings.keys()},
            }
        )
        session = VaultSession(own, login=login, on_call=called, **settings)
        adapter = VaultAdapter(dataclasses.replace(own, token=session), on_call=called)
        made.append(Used(session, adapter, calls))
        return made[-1]

    yield begin
    for one in made:
        one.vault.close()


def by_kubernetes(site: Site) -> LoginMethod:
    path = site.file("service-account", account_token("secretbinding"))
    return JwtLogin("kubernetes", "kubernetes", "secretbinding", Given(path=path))


def by_identity(site: Site) -> LoginMethod:
    return JwtLogin(
        "jwt", "jwt", "secretbinding", Given(path=site.file("nomad_vault.jwt", site.identity("controller")))
    )


def by_approle(site: Site) -> LoginMethod:
    return site.role("plain", token_ttl="1h")


def by_wrapped_secret_id(site: Site) -> LoginMethod:
    site.role("wrapped", token_ttl="1h")
    path = site.file("wrapped", site.secret_id("wrapped", wrap=True))
    return AppRoleLogin("approle", "wrapped", Given(site.role_id("wrapped")), Given(path=path), wrapped=True)


@pytest.mark.parametrize("method", [by_kubernetes, by_identity, by_approle, by_wrapped_secret_id])
def test_a_login_gives_the_token_for_all_work_and_its_end_revokes_it(
    site: Site, use: Use, method: Callable[[Site], LoginMethod]
) -> None:
    used = use(method(site))
    for _ in range(3):
        used.work()
    token = used.session()
    assert used.logins == 1
    ends = used.vault.token_expiry()
    assert ends is not None
    used.vault.close()
    assert site.bao.api.put("/v1/auth/token/lookup", {"token": token}).status in (403, 404)


def test_a_certificate_logs_in_and_the_next_one_takes_over_without_a_restart(site: Site, use: Use) -> None:
    certificate, key = site.client("controller")
    over_tls = {"address": site.tls_address, "ca_cert": site.ca, "client_cert": certificate, "client_key": key}
    used = use(CertLogin("cert", "secretbinding", Path(certificate)), **over_tls)
    used.work()
    first = _who(site, used)
    second, second_key = site.client("second")
    Path(key).write_text(Path(second_key).read_text())
    Path(certificate).write_text(Path(second).read_text())
    site.bao.api.put("/v1/auth/token/revoke", {"token": used.session()}).expect(204)
    used.work()
    assert (first, _who(site, used)) == ("controller", "second")


def _who(site: Site, used: Used) -> str:
    found = site.bao.api.put("/v1/auth/token/lookup", {"token": used.session()}).expect().json()
    return str(found["data"]["meta"]["common_name"])


def test_revocation_under_load_makes_exactly_one_login(site: Site, use: Use) -> None:
    used = use(site.role("busy", token_ttl="1h"))
    used.work()
    stop, faults, done = threading.Event(), [], Counter[int]()

    def worker(number: int) -> None:
        while not stop.is_set():
            try:
                used.work()
                done[number] += 1
            except SecretBindingError as error:
                faults.append(error)

    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(THREADS):
            pool.submit(worker, number)
        wait_until("all are at work", lambda: len(done) == THREADS)
        revoked = used.session()
        site.bao.api.put("/v1/auth/token/revoke", {"token": revoked}).expect(204)
        before = sum(done.values())
        wait_until("they work on", lambda: used.session() != revoked and sum(done.values()) > before + 5 * THREADS)
        stop.set()
    assert faults == []
    assert used.logins == 2, "the first one, and one after the revocation"


def test_a_token_is_renewed_at_a_share_of_its_life_and_never_runs_out(site: Site, use: Use) -> None:
    used = use(site.role("short", token_period="3s"))
    used.work()
    token, begun = used.session(), time.monotonic()
    wait_until("it lived longer than one renewal gives", lambda: used.work() is None and time.monotonic() - begun > 3.6)
    assert used.session() == token
    assert used.logins == 1
    assert 1 <= used.calls["token_renew", "Success"] <= 4
    assert not any(outcome != "Success" for _, outcome in used.calls)


def test_before_its_longest_life_is_over_another_login_takes_place(site: Site, use: Use) -> None:
    used = use(site.role("bounded", token_ttl="2s", token_max_ttl="3s"))
    used.work()
    first = used.session()
    wait_until("there is another", lambda: used.work() is None and used.session() != first)
    assert used.logins >= 2


def test_a_batch_token_is_replaced_before_it_ends(site: Site, use: Use) -> None:
    # The server counts from the beginning of the second in which it made the token.
    used = use(site.role("batch", token_ttl="4s", token_type="batch"))
    used.work()
    first = used.session()
    wait_until("there is another", lambda: used.work() is None and used.session() != first)
    assert used.logins >= 2


def test_a_missing_right_is_no_reason_to_log_in(site: Site, use: Use) -> None:
    used = use(site.role("narrow", token_ttl="1h"))
    for _ in range(10):
        with pytest.raises(Denied, match="may not read secret/metadata/app"):
            used.vault.kv_metadata("secret", "app")
    assert used.logins == 1
    assert used.calls["token_lookup", "Success"] <= 2, "it is looked at once a second at most"


def test_a_token_that_may_not_look_itself_up_is_not_taken_for_dead(site: Site, use: Use) -> None:
    site.bao.put_policy("mute", 'path "sys/policies/acl/nsb.*" { capabilities = ["read"] }')
    used = use(site.role("mute", token_policies=["mute"], token_ttl="1h"))
    for _ in range(5):
        with pytest.raises(Denied):
            used.work()
    assert used.logins == 1
    assert used.vault.token_expiry() is not None, "what the login said of its life is known"
    site.bao.api.put("/v1/auth/token/revoke", {"token": used.session()}).expect(204)
    wait_until("there is another token", lambda: _may_read(used))
    assert used.logins == 2


def _may_read(used: Used) -> bool:
    try:
        used.vault.read_policy("nsb.default.nothing")
    except Denied:
        return False
    return True


def test_a_refused_login_is_tried_once_for_all_threads_and_then_after_a_pause(site: Site, use: Use) -> None:
    login = site.role("refused", token_ttl="1h")
    path = login.secret_id.path
    assert path is not None
    path.write_text("0b5c0e76-no-such-secret-id")
    used = use(login)

    def attempt(_: int) -> str:
        with pytest.raises(Denied) as caught:
            used.work()
        return str(caught.value)

    with ThreadPoolExecutor(THREADS) as pool:
        said = set(pool.map(attempt, range(4 * THREADS)))
    assert used.logins == 1
    (text,) = said
    assert "refused our login by approle at auth/approle with role refused" in text
    assert "check role ID and secret ID" in text
    assert "0b5c0e76" not in text
    path.write_text(site.secret_id("refused"))
    used.work()
    assert used.logins == 2, "another secret ID is tried at once"


def test_tokens_that_are_always_revoked_do_not_make_logins_go_round_in_a_ring(site: Site, use: Use) -> None:
    used = use(site.role("hunted", token_ttl="1h"))
    used.work()
    site.bao.api.put("/v1/auth/token/revoke", {"token": used.session()}).expect(204)
    used.work()
    site.bao.api.put("/v1/auth/token/revoke", {"token": used.session()}).expect(204)
    for _ in range(20):
        with pytest.raises(Denied, match="find out who revokes them"):
            used.work()
    assert used.logins == 2


def test_while_vault_is_away_a_login_fails_as_any_other_request_does(site: Site, use: Use) -> None:
    (port,) = free_ports(1)
    used = use(site.role("early", token_ttl="1h"), address=f"http://127.0.0.1:{port}", connect_timeout_seconds=0.5)
    with pytest.raises(Unreachable):
        used.work()


def test_a_file_that_is_not_there_yet_is_waited_for(site: Site, use: Use, tmp_path: Path) -> None:
    path = tmp_path / "nomad_vault.jwt"
    used = use(JwtLogin("jwt", "jwt", "secretbinding", Given(path=path)))
    with pytest.raises(Unavailable, match=r"nomad_vault\.jwt cannot be read \(no such file or directory\)"):
        used.work()
    path.write_text(site.identity("controller"))
    used.work()


def test_the_identity_is_read_anew_at_each_login(site: Site, use: Use, tmp_path: Path) -> None:
    path = tmp_path / "nomad_vault.jwt"
    path.write_text(site.identity("controller"))
    used = use(JwtLogin("jwt", "jwt", "secretbinding", Given(path=path)))
    used.work()
    path.write_text(site.identity("somebody-else"))
    site.bao.api.put("/v1/auth/token/revoke", {"token": used.session()}).expect(204)
    with pytest.raises(Denied, match="refused our login by jwt"):
        used.work()


def test_a_wrapped_secret_id_that_somebody_opened_is_told_as_such(site: Site, use: Use) -> None:
    login = by_wrapped_secret_id(site)
    assert isinstance(login, AppRoleLogin)
    token = login.secret_id.read("secret ID")
    site.bao.api.request("PUT", "/v1/sys/wrapping/unwrap", headers={"X-Vault-Token": token}).expect()
    with pytest.raises(Denied, match="somebody else did") as caught:
        use(login).work()
    assert token not in str(caught.value)


def test_a_wrapped_secret_id_of_another_role_is_not_opened(site: Site, use: Use) -> None:
    login = by_wrapped_secret_id(site)
    site.role("foreign", token_ttl="1h")
    assert isinstance(login, AppRoleLogin)
    path = login.secret_id.path
    assert path is not None
    path.write_text(site.secret_id("foreign", wrap=True))
    with pytest.raises(Denied, match="was not made at auth/approle/role/wrapped/secret-id"):
        use(login).work()


def test_a_wrapped_secret_id_serves_later_logins_too(site: Site, use: Use) -> None:
    used = use(by_wrapped_secret_id(site))
    used.work()
    site.bao.api.put("/v1/auth/token/revoke", {"token": used.session()}).expect(204)
    used.work()
    assert used.logins == 2
    assert used.calls["unwrap", "Success"] == 1


def _token(site: Site, **limits: Any) -> str:
    body = {"policies": ["controller"], "no_default_policy": True, **limits}
    return str(site.bao.api.put("/v1/auth/token/create", body).expect().json()["auth"]["client_token"])


def test_a_token_that_is_given_is_renewed_too_and_not_revoked_at_the_end(site: Site, use: Use) -> None:
    token = _token(site, period="3s")
    used = use(token=token)
    begun = time.monotonic()
    wait_until("it lived longer than one renewal gives", lambda: used.work() is None and time.monotonic() - begun > 3.6)
    used.vault.close()
    assert site.bao.api.put("/v1/auth/token/lookup", {"token": token}).status == 200


def test_a_token_file_is_followed_and_what_it_holds_is_renewed(site: Site, use: Use, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(_token(site, ttl="1h"))
    used = use(token=TokenFile(path))
    used.work()
    old = used.session()
    path.write_text(_token(site, period="3s"))
    site.bao.api.put("/v1/auth/token/revoke", {"token": old}).expect(204)
    used.work()
    used.session.tend()
    begun = time.monotonic()
    wait_until("it lived on", lambda: used.work() is None and time.monotonic() - begun > 3.6)
    assert used.calls["token_renew", "Success"] >= 1


def test_one_logs_in_to_a_parent_namespace_and_works_in_a_child(site: Site, use: Use, unique: str) -> None:
    site.bao.api.put(f"/v1/sys/namespaces/{unique}", {}).expect()
    site.bao.put_policy("below", f'path "{unique}/sys/policies/acl/nsb.*" {{ capabilities = ["read", "update"] }}')
    login = site.role("below", token_policies=["controller", "below"], token_ttl="1h")
    used = use(login, namespace=unique, login_namespace="root")
    used.work()
    used.session.tend()
    found = site.bao.api.request("GET", "/v1/sys/policies/acl/nsb.default.app", headers={"X-Vault-Namespace": unique})
    assert found.status == 200
    assert used.vault.token_expiry() is not None


def test_another_authority_is_trusted_without_a_restart_and_the_old_one_no_longer(
    site: Site, use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.1)
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(Path(site.ca).read_text())
    used = use(site.role("tls", token_ttl="1h"), address=site.tls_address, ca_cert=str(trusted))
    used.work()
    trusted.write_text(trustme.CA().cert_pem.bytes().decode())
    wait_until("the old authority is no longer trusted", lambda: _refuses(used))
    trusted.write_text(Path(site.ca).read_text())
    wait_until("it is trusted again", lambda: not _refuses(used))


def _refuses(used: Used) -> bool:
    try:
        used.work()
    except Unreachable as error:
        return "not trusted" in str(error)
    return False
