"""The workers' user in the database: what psql is given, and what it is not."""

import base64
import sys

import pytest

from template import FOLDER

sys.path.insert(0, str(FOLDER))
import database  # noqa: E402


def test_the_verifier_is_that_of_the_standards_example():
    # RFC 7677, section 3: user "user", password "pencil".
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    assert database.verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_the_sql_has_no_password_in_it():
    text = "\n".join(database.sql("durable_write", "app", "Secret123"))
    assert "Secret123" not in text and "SCRAM-SHA-256$4096:" in text and "REVOKE rds_iam FROM durable_write" in text


def test_a_user_that_logs_in_by_iam_has_no_password():
    text = "\n".join(database.sql("durable_write", "app", None))
    assert "LOGIN PASSWORD NULL" in text and "SCRAM" not in text and "GRANT rds_iam TO durable_write" in text


def test_psql_ends_with_the_first_statement_that_fails():
    assert next(database.sql("durable_write", "app", None)) == "\\set ON_ERROR_STOP on"


@pytest.mark.parametrize("password, by_iam", [("Secret123", "f"), (None, "t")])
def test_the_master_user_makes_the_user_without_being_a_superuser_and_as_often_as_it_likes(postgres, password, by_iam):
    for _ in range(2):
        postgres.sql("\n".join(database.sql("walker", "postgres", password)), "postgres")
    rights = "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, pg_has_role('walker', 'rds_iam', 'member') FROM pg_roles WHERE rolname = 'walker'"
    assert postgres.sql(rights, "postgres") == [f"t|f|f|f|{by_iam}"]
