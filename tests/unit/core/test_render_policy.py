"""A policy says exactly the wanted rights, can be read back, and tells when somebody altered it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.kinds.base import Right
from secretbinding.models.binding import Delivery
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.policy import Choice
from secretbinding.naming import Owner
from secretbinding.render.policy import PolicyDocument, join_rights, policy_text, read_policy
from secretbinding.render.text import hcl_path, is_plain_path
from secretbinding.tenancy.demands import Conditions
from secretbinding.tenancy.terms import Terms, read_terms
from tests.unit.core.hcl import read_policy_hcl

texts = st.text(max_size=20)
paths = st.text(min_size=1, max_size=40).filter(is_plain_path)
capabilities = st.lists(
    st.sampled_from(["read", "list", "create", "update", "patch", "delete"]), min_size=1, unique=True
)
rights = st.builds(lambda path, words: Right(path, tuple(sorted(words))), paths, capabilities)
documents = st.builds(
    PolicyDocument,
    owner=st.builds(
        Owner,
        texts.filter(bool),
        st.builds(BindingKey, texts.filter(bool), texts.filter(bool), texts.filter(bool)),
    ),
    workload=st.builds(WorkloadKey, texts, texts, texts, texts),
    rights=st.lists(rights, max_size=5).map(join_rights),
    roles=st.lists(texts, unique=True).map(lambda names: tuple(sorted(names))),
    retain=st.booleans(),
    terms=st.none()
    | st.builds(
        Terms,
        conditions=st.builds(
            Conditions,
            method=st.sampled_from(["JWT", "AppRole"]),
            longest_seconds=st.none() | st.integers(1, 10**6).map(float),
            delivery=st.sampled_from(Delivery),
            choices=st.frozensets(st.sampled_from([choice.value for choice in Choice])),
            retained=st.booleans(),
        ),
        functions=st.frozensets(texts.filter(bool)),
        calls=st.frozensets(st.tuples(texts, texts, st.sampled_from(["read", "update"])), max_size=3),
    ),
)


@given(documents)
def test_a_policy_read_back_is_the_document_it_was_made_from(document: PolicyDocument) -> None:
    assert read_policy(policy_text(document)) == (document, True)


@given(documents)
def test_a_policy_grants_exactly_the_wanted_paths_and_capabilities(document: PolicyDocument) -> None:
    wanted = {right.path: set(right.capabilities) for right in document.rights}
    assert read_policy_hcl(policy_text(document)) == wanted


@given(documents, st.data())
def test_any_change_below_the_mark_is_noticed(document: PolicyDocument, data: st.DataObject) -> None:
    text = policy_text(document)
    body_at = text.index("\n") + 1
    at = data.draw(st.integers(body_at, len(text)))
    altered = text[:at] + data.draw(st.text(min_size=1, max_size=5)) + text[at:]
    found = read_policy(altered)
    assert found is not None
    assert found[0].owner == document.owner
    assert not found[1]


def test_of_an_altered_body_only_what_we_could_have_written_counts() -> None:
    document = PolicyDocument(
        Owner("i", BindingKey("files", "t", "n")), WorkloadKey("d", "", "n", "j"), (Right("secret/a", ("read",)),)
    )
    text = policy_text(document)
    for more in ('path "secret/*" {\n  capabilities = ["read"]\n}\n', 'path "x" {\n  capabilities = ["sudo"]\n}\n'):
        found = read_policy(text + more)
        assert found is not None
        assert found[0].rights == document.rights
        assert not found[1]
        policy_text(found[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        'path "secret/a" {\n  capabilities = ["read"]\n}\n',
        "# secretbinding {}\n",
        "# secretbinding nonsense\n",
        "# other\n",
    ],
)
def test_a_policy_without_our_mark_is_not_ours(text: str) -> None:
    assert read_policy(text) is None


@given(st.text(max_size=10), st.sampled_from("\"'`\\{}*+?#%\n\r\t\0\x1b"), st.text(max_size=10))
def test_a_path_that_could_mean_anything_else_is_refused(before: str, bad: str, after: str) -> None:
    with pytest.raises(ValueError, match="not a plain Vault path"):
        hcl_path(before + bad + after)


def test_rights_to_one_path_are_joined() -> None:
    joined = join_rights([Right("a", ("read",)), Right("b", ("read",))], [Right("a", ("list", "read"))])
    assert joined == (Right("a", ("list", "read")), Right("b", ("read",)))


def test_the_whole_text() -> None:
    document = PolicyDocument(
        owner=Owner("default", BindingKey("nomad", "payments", "payments-api")),
        workload=WorkloadKey("default", "", "default", "payments-api"),
        rights=(Right("secret/data/myapp", ("read",)), Right("aws/creds/deploy", ("read", "update"))),
        roles=("nsb.default.payments-api.abc",),
    )
    assert policy_text(document) == (
        '# secretbinding {"body":"7z767k34qzfbmy2yhy7ljohi3e","connection":"default","instance":"default",'
        '"job":"payments-api","name":"payments-api","namespace":"default","region":"",'
        '"roles":["nsb.default.payments-api.abc"],"source":"nomad","tenant":"payments"}\n'
        'path "aws/creds/deploy" {\n  capabilities = ["read", "update"]\n}\n'
        "\n"
        'path "secret/data/myapp" {\n  capabilities = ["read"]\n}\n'
    )


def test_a_path_that_two_secrets_share_has_the_capabilities_of_both() -> None:
    read, write = Right("secret/data/a", ("read",)), Right("secret/data/a", ("create", "update"))
    assert join_rights([read], [write]) == (Right("secret/data/a", ("create", "read", "update")),)
    assert join_rights([read, write]) == join_rights([write, read])


@pytest.mark.parametrize(
    "written",
    [None, [], "x", {"delivery": "Pigeon"}, {"longest": "soon"}, {"calls": [["a", "b"]]}, {"calls": [[1, 2, 3]]}],
)
def test_terms_that_cannot_be_such_are_not_known(written: object) -> None:
    assert read_terms(written) is None
