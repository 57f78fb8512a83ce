"""What a description in OpenAPI 3.1 cannot say about a request: which of its parts exclude each other.

The requests that schemathesis makes of a description keep to it; other tests send what these requests leave out.
"""
import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query or {}
    if "before" in query and "after" in query:
        case.query = {name: value for name, value in query.items() if name != "after"}
    # The header and the field are the same thing, and must not differ.
    if isinstance(case.body, dict) and "key" in case.body and "Idempotency-Key" in (case.headers or {}):
        case.body = {name: value for name, value in case.body.items() if name != "key"}
