"""A person with a browser, as HTTP: logs in to Roundcube, sends, and reads. Prints one line of JSON.

webmail_client.py send URL USER PASSWORD TO SUBJECT   whether it was taken
webmail_client.py read URL USER PASSWORD              the subjects in the inbox
webmail_client.py open URL USER PASSWORD SUBJECT      the text of the letter with this subject
webmail_client.py paths URL PATH...                   the status of each path, without an account
"""
import http.cookiejar
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

what, base = sys.argv[1:3]


class OverHttp(http.cookiejar.DefaultCookiePolicy):
    """Cookies are for HTTPS, which the proxy speaks; by http:// what stands behind it is asked."""

    def return_ok_secure(self, cookie, request):
        return base.startswith("http://") or super().return_ok_secure(cookie, request)


opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar(OverHttp())))


def ask(query, form=None, ajax=None):
    """A page, or what a script of the page would ask."""
    request = urllib.request.Request(base + "?" + urllib.parse.urlencode(query))
    if form is not None:
        request.data = urllib.parse.urlencode(form).encode()
    if ajax:
        request.add_header("X-Requested-With", "XMLHttpRequest")
        request.add_header("X-Roundcube-Request", ajax)
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.read().decode()


def say(**words):
    print(json.dumps(words))
    sys.exit(0)


if what == "paths":
    found = {}
    for path in sys.argv[3:]:
        try:
            found[path] = opener.open(base.rstrip("/") + path, timeout=30).status
        except urllib.error.HTTPError as refused:
            found[path] = refused.code
    say(**found)

user, password = sys.argv[3:5]
page = ask({"_task": "login"})
token = re.search(r'name="_token" value="([^"]+)"', page).group(1)
page = ask({"_task": "login"}, {"_token": token, "_task": "login", "_action": "login", "_user": user, "_pass": password})
if '"task":"login"' in page or "rcmloginuser" in page:
    say(login=False)
found = re.search(r'"request_token":"([^"]+)"', page)
if not found:
    say(login=None, page=page[-1500:])
token = found.group(1)
if what == "send":
    to, subject = sys.argv[5:7]
    page = ask({"_task": "mail", "_action": "compose"})
    draft = re.search(r'name="_id" value="([^"]+)"', page).group(1)
    sender = re.search(r'name="_from"[^>]*>\s*<option value="(\d+)"', page) or re.search(r'name="_from" value="([^"]+)"', page)
    answer = ask({"_task": "mail", "_unlock": "loading1", "_framed": "1", "_lang": "en"}, {
        "_token": token, "_task": "mail", "_action": "send", "_id": draft, "_from": sender.group(1), "_to": to,
        "_subject": subject, "_message": "See you at eight.", "_is_html": "0", "_store_target": "Sent"})
    say(login=True, sent="sent_successfully" in answer, answer=answer[-400:] if "sent_successfully" not in answer else "")
answer = ask({"_task": "mail", "_action": "list", "_mbox": "INBOX", "_remote": "1", "_refresh": "1"}, ajax=token)
rows = re.findall(r'add_message_row\((\d+),\{.*?"subject":"(.*?)"[,}]', json.loads(answer).get("exec", ""))
subjects = {re.sub(r"<[^>]*>", "", json.loads(f'"{subject}"')): number for number, subject in rows}
if what == "open":
    page = ask({"_task": "mail", "_mbox": "INBOX", "_uid": subjects[sys.argv[5]], "_action": "show"})
    body = page.partition('id="messagebody"')[2].partition("<script")[0].partition(">")[2]
    say(login=True, text=" ".join(re.sub(r"<[^>]*>", " ", body).split()))
say(login=True, subjects=list(subjects))
