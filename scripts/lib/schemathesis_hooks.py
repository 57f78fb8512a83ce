"""What a description in OpenAPI 3.1 cannot say about a request, which schemathesis makes of that description.

The requests keep to it. Other tests send what they leave out.
"""
import schemathesis

# White space by Unicode, which the service drops around a text.
SPACE = "".join(map(chr, [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]))
LIMIT = 2000

text_of_key = {}


def stripped(text):
    """A text of which maxLength and the limit of the service count the same: it counts no white space around it."""
    return text.strip(SPACE) if isinstance(text, str) and len(text) > LIMIT else text


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query or {}
    # These parameters exclude each other.
    if "before" in query and "after" in query:
        case.query = {name: value for name, value in query.items() if name != "after"}
    # A sequence of requests may take the id of a message for a header, which must be a string.
    headers = {name: str(value) for name, value in (case.headers or {}).items()}
    is_form = isinstance(case.body, dict)
    body = {name: stripped(value) for name, value in case.body.items()} if is_form else stripped(case.body)
    # The header and the field are the same thing, and must not differ.
    if is_form and "Idempotency-Key" in headers:
        body.pop("key", None)
    # A key must not be used for another text.
    holder = body if is_form and "key" in body else headers
    name = "key" if holder is body else "Idempotency-Key"
    if name in holder and text_of_key.setdefault(str(holder[name]), repr(body)) != repr(body):
        del holder[name]
    case.headers, case.body = headers, body
