"""A device's calendar: the published library caldav. Prints one line of JSON.

caldav_client.py write URL USER PASSWORD         makes a calendar and an event, syncs
caldav_client.py list URL USER PASSWORD          counts calendars
caldav_client.py read URL USER PASSWORD OTHER    statuses of the user's own and another's collection
caldav_client.py move URL USER PASSWORD OTHER    statuses of a move into another's collection, and within the user's own
"""
import datetime
import json
import sys

import caldav
import requests

what, url, user, password = sys.argv[1:5]

if what == "read":
    def status(of):
        answer = requests.request("PROPFIND", f"{url}{of}/", auth=(user, password), headers={"Depth": "1"}, timeout=10)
        return 200 if answer.status_code == 207 else answer.status_code
    print(json.dumps({"own": status(user), "others": status(sys.argv[5])}))
    sys.exit(0)

if what == "move":
    def move(source, destination):
        headers = {"Destination": f"{url}{destination}"}
        return requests.request("MOVE", f"{url}{source}", auth=(user, password), headers=headers, timeout=10).status_code
    calendar = caldav.DAVClient(url=url, username=user, password=password).principal().calendars()[0]
    own = str(calendar.url.path).strip("/")
    event = str(calendar.events()[0].url.path).strip("/")
    into = [move(event, f"{sys.argv[5]}/{end}") for end in ("stolen.ics", "calendar/stolen.ics")]
    into.append(move(event, f"{user}/../{sys.argv[5]}/stolen.ics"))
    print(json.dumps({"into": into, "own": move(event, f"{own}/renamed.ics")}))
    sys.exit(0)

client = caldav.DAVClient(url=url, username=user, password=password)
principal = client.principal()
if what == "list":
    print(json.dumps({"calendars": len(principal.calendars())}))
    sys.exit(0)

calendar = principal.make_calendar(name="Mine")
before = calendar.objects_by_sync_token()
start = datetime.datetime(2030, 1, 2, 10, tzinfo=datetime.timezone.utc)
calendar.save_event(dtstart=start, dtend=start + datetime.timedelta(hours=1), summary="Meet Bob")
summary = lambda event: str(event.icalendar_instance.subcomponents[0]["summary"])
changed = calendar.objects_by_sync_token(before.sync_token, load_objects=True)
print(json.dumps({
    "calendars": len(principal.calendars()),
    "events": [summary(event) for event in calendar.events()],
    "changed": [summary(event) for event in changed],
}))
