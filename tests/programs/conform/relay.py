"""Stands before an honest payee, or a payer, and spoils it: python3 relay.py FAULT COMMAND.

other-reason  refuses everything as malformed
silent        swallows refusals
lavish        acknowledges what has to be refused
speaks-on     acknowledges a sum right after its refusal
curt          swallows closed
other-closed  names another transaction in closed
careless      ends the payee as soon as the payer is gone
flooding      repeats a message without end as soon as the payer is gone
"""

import os
import subprocess
import sys
import threading

fault, command = sys.argv[1:]
payee = subprocess.Popen(["/bin/sh", "-c", "exec " + command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
CLOSED, REFUSE = 12, 13


def to_payee():
    while some := os.read(0, 65536):
        payee.stdin.write(some)
        payee.stdin.flush()
    if fault == "careless":
        payee.kill()
    while fault == "flooding":
        os.write(1, bytes.fromhex("0003820601") * 1000)
    payee.stdin.close()


threading.Thread(target=to_payee, daemon=True).start()
while head := payee.stdout.read(2):
    body = payee.stdout.read(int.from_bytes(head, "big"))
    if body[1] == REFUSE:
        body = {
            "other-reason": body[:3] + b"\0",
            "silent": b"",
            "lavish": bytes.fromhex("8309011903e8"),
        }.get(fault, body)
    if body[1:2] == bytes([CLOSED]):
        body = {"curt": b"", "other-closed": body[:-1] + bytes([body[-1] ^ 1])}.get(fault, body)
    if body:
        os.write(1, len(body).to_bytes(2, "big") + body)
    if fault == "speaks-on" and body[1] == REFUSE:
        os.write(1, bytes.fromhex("00088309011a000493e0"))
code = payee.wait()
sys.exit(0 if fault == "careless" else code)
