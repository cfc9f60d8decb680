"""The ingest's mapping templates, carried out by a Velocity engine: what reaches SQS, and what producers are answered."""

import json
import urllib.parse

import airspeed
import pytest

from template import load

POST = load("ingest")["Resources"]["Post"]["Properties"]["Integration"]
FIFO, STANDARD = POST["RequestTemplates"]["application/json"]["Fn::If"][1:]
TAKEN, REFUSED = (response["ResponseTemplates"]["application/json"] for response in POST["IntegrationResponses"])

HOSTILE = [
    '{"id": "a&MessageGroupId=other"}',
    '{"id": "a&Action=PurgeQueue&QueueUrl=https://example.com"}',
    '{"id": "$util.urlEncode($input.body)"}',
    '{"id": "#set($x = 1)$x #if(true) yes #end ## no comment"}',
    '{"id": "${input.body}", "quote": "it\'s \\"quoted\\" \\\\ \\u0000"}',
    '{"id": "%26Action%3DPurgeQueue", "plus": "1+1 = 2"}',
    '{"id": 12345678901234567890.10, "n": 1e400, "unicode": "Grüße 🚀"}',
    '{\n\t"id": "spaces  kept" }\r\n',
    '{"id": "x;y?z#f/%"}',
    '{"id": "' + "é" * 100_000 + '"}',
]


class Input:
    def __init__(self, body, params=None):
        self.body, self.given = body, params or {}

    def params(self, name):
        return self.given.get(name, "")

    def path(self, expression):
        """The simple paths that are asked for here; null for what is not there or not JSON."""
        try:
            value = json.loads(self.body)
            for key in expression.removeprefix("$.").split("."):
                value = value[key]
            return value
        except (ValueError, KeyError, TypeError):
            return None


class Text(str):
    """What Java's String can do."""

    def contains(self, other):
        return other in self


class Util:
    def urlEncode(self, text):  # noqa: N802
        return urllib.parse.quote_plus(text)

    def escapeJavaScript(self, text):  # noqa: N802
        return json.dumps(text)[1:-1]


def render(template, body, params=None):
    """What a template makes of a body, and the status that it asks for."""
    # The engine knows no assignment into the context: the line becomes a mark that is taken out again.
    marked = template.replace("#set($context.responseOverride.status = ", "STATUS(")
    text = airspeed.Template(marked).merge({"input": Input(Text(body), params), "util": Util()})
    statuses = [line[7:10] for line in text.split("\n") if line.startswith("STATUS(")]
    rest = "\n".join(line for line in text.split("\n") if not line.startswith("STATUS("))
    return rest, int(statuses[-1]) if statuses else None


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("group", ["customer-1", "g&Action=PurgeQueue", "$input.body", "a b+c%20", "é"])
def test_whatever_is_sent_arrives_as_it_was_and_adds_nothing(body, group):
    text, _ = render(FIFO, body, {"group": group, "deduplication": group + "-1"})
    assert urllib.parse.parse_qsl(text, strict_parsing=True) == [
        ("Action", "SendMessage"), ("Version", "2012-11-05"), ("MessageBody", body), ("MessageGroupId", group), ("MessageDeduplicationId", group + "-1"),
    ]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_a_standard_queue_gets_the_body_alone(body):
    text, _ = render(STANDARD, body, {"group": "ignored"})
    assert urllib.parse.parse_qsl(text, strict_parsing=True) == [("Action", "SendMessage"), ("Version", "2012-11-05"), ("MessageBody", body)]


def test_a_confirmed_message_is_answered_with_its_id():
    text, status = render(TAKEN, json.dumps({"SendMessageResponse": {"SendMessageResult": {"MessageId": "5fea7756"}}}))
    assert status is None and json.loads(text) == {"messageId": "5fea7756"}


@pytest.mark.parametrize("answer", ["", "{}", "<SendMessageResponse/>", '{"SendMessageResponse": {"SendMessageResult": {}}}', '{"Error": {"Code": "Throttling"}}'])
def test_an_answer_without_an_id_is_no_success(answer):
    text, status = render(TAKEN, answer)
    assert status == 503 and "again" in json.loads(text)["message"]


@pytest.mark.parametrize(
    "answer, expected",
    [
        ('{"Error": {"Code": "InvalidMessageContents"}}', 400),
        ('{"Error": {"Code": "InvalidParameterValue", "Message": "ThrottlingException", "Type": "Sender"}, "RequestId": "1"}', 400),
        ('{"Error": {"Code": "ThrottlingException", "Message": "not an InvalidParameterValue"}}', None),
        ("<ErrorResponse><Error><Code>InvalidParameterValue</Code></Error></ErrorResponse>", None),
        ('{"Error": {"Code": "MissingParameter"}}', 400),
        ('{"Error": {"Code": "AccessDenied"}}', None),
        ('{"Error": {"Code": "AWS.SimpleQueueService.NonExistentQueue"}}', None),
        ('{"Error": {"Code": "KMS.DisabledException"}}', None),
        ('{"Error": {"Code": "ThrottlingException"}}', None),
        ("<html>Service Unavailable</html>", None),
        ("", None),
    ],
)
def test_the_producer_learns_whether_sending_again_helps(answer, expected):
    text, status = render(REFUSED, answer)
    assert status == expected, "without an override the status is 503"
    assert ("again" in json.loads(text)["message"]) == (expected is None)
