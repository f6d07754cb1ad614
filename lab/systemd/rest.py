"""A client of the REST API, as a browser is one."""

import json
import urllib.error
import urllib.request

from machine import PATIENCE

BASE = "http://127.0.0.1:3000"


class Rest:
    """A client of the REST API, as a browser is one."""

    def __init__(self):
        self.headers = {}
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def call(self, method, path, body=None):
        """Answers status and JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(BASE + path, data, {"Content-Type": "application/json", **self.headers}, method=method)
        try:
            with self.opener.open(request, timeout=20 * PATIENCE) as answer:
                text = answer.read().decode()
                return answer.status, json.loads(text) if text and text[0] in "{[" else text
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def must(self, method, path, body=None):
        """The JSON of a call that must succeed."""
        status, answer = self.call(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer
