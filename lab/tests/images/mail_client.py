"""A device's mail program: the standard library's smtplib and imaplib. Prints one line of JSON.

mail_client.py send HOST CA USER PASSWORD FROM TO SUBJECT   the reply's code, or the refusal's
mail_client.py read HOST CA USER PASSWORD                   subjects in the inbox, and the folders
mail_client.py plain HOST                                   what is offered and taken without TLS
"""
import email.message
import imaplib
import json
import smtplib
import ssl
import sys

what, host = sys.argv[1:3]
# By address, where there is no resolver; else by the name that the certificate has.
NAME = "mail.cell.example" if host[0].isdigit() else host


def say(**words):
    print(json.dumps(words))
    sys.exit(0)


class Submission(smtplib.SMTP):
    """Checked by name, however it is found."""

    def __init__(self, host, port, timeout):
        super().__init__(host, port, local_hostname="device", timeout=timeout)

    def starttls(self, context):
        self._host = NAME
        return super().starttls(context=context)


if what == "plain":
    with Submission(host, 587, timeout=20) as smtp:
        smtp.ehlo("device")
        offered = smtp.has_extn("auth")
        code, _ = smtp.docmd("MAIL FROM:<alice@cell.example>")
        login, _ = smtp.docmd("AUTH PLAIN AGFsaWNlAGFsaWNl")
    try:
        imaplib.IMAP4(host, 143, timeout=5)
        imap = "open"
    except OSError:
        imap = "closed"
    say(offered=offered, mail=code, login=login, imap=imap)

authority, user, password = sys.argv[3:6]
context = ssl.create_default_context(cafile=authority)
if what == "send":
    sender, recipient, subject = sys.argv[6:9]
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, subject
    message.set_content("See you at eight.")
    with Submission(host, 587, timeout=30) as smtp:
        smtp.starttls(context)
        try:
            smtp.login(user, password)
            smtp.send_message(message, sender, [recipient])
            say(code=250)
        except smtplib.SMTPRecipientsRefused as refused:
            say(code=list(refused.recipients.values())[0][0])
        except smtplib.SMTPResponseException as refused:
            say(code=refused.smtp_code)


class Mailbox(imaplib.IMAP4_SSL):
    """The same."""

    def _create_socket(self, timeout):
        return self.ssl_context.wrap_socket(imaplib.IMAP4._create_socket(self, timeout), server_hostname=NAME)


mailbox = Mailbox(host, 993, ssl_context=context, timeout=30)
try:
    mailbox.login(user, password)
except imaplib.IMAP4.error:
    say(login=False)
mailbox.select("INBOX")
numbers = mailbox.search(None, "ALL")[1][0].split()
subjects = []
for number in numbers:
    header = mailbox.fetch(number, "(BODY[HEADER.FIELDS (SUBJECT)])")[1][0][1]
    subjects.append(email.message_from_bytes(header)["Subject"])
folders = sorted(line.decode().split('"')[-2] if line.endswith(b'"') else line.decode().split()[-1] for line in mailbox.list()[1])
say(login=True, subjects=subjects, folders=folders)
