"""The handler of a nuclio function for CVAT; see function.yaml."""

import json

from fdrn_adapter.serving.cvat import nuclio_answer, nuclio_context


def init_context(context):
    """Load the network, once for each worker."""
    nuclio_context(context)


def handler(context, event):
    """Answer a request of CVAT's server; mistakes in it are told with status 400."""
    try:
        body, status = nuclio_answer(context.user_data.model, event.body), 200
    except (KeyError, TypeError, ValueError) as error:
        body, status = {"error": f"{type(error).__name__}: {error}"}, 400
    return context.Response(
        body=json.dumps(body), headers={}, content_type="application/json", status_code=status
    )
