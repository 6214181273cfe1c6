#!/usr/bin/env python3
"""Runs libiscsi's iscsi-test-cu against any iSCSI target, and gives each of its tests a verdict of its own.

The tool counts a test that it skipped as passed, and a hang or a lost connection in one test spoils all that follow in
the same process. So every test is a process with a time limit (two need their suite), and skips are told apart.

A test is tried on the first LUN; what that LUN cannot show (it is not removable, say) is tried on the next one. Every
LUN is given twice, as two paths, for the tests that want two.

usage: iscsi_cu.py [--skips FILE] [--only GLOB] [--except GLOB] [--seconds N] URL...
FILE lists the tests that may be skipped, a line each: "Suite.Test reason". A skip that is not on the list fails.
The content of the LUNs is DESTROYED. Verdicts: PASS, SKIP (on the list), FAIL. Closing line:
"N passed, N failed, N skipped".
"""
import argparse
import fnmatch
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

TOOL = "iscsi-test-cu"
# suites of which a test alone asserts what an earlier one has left behind (iSCSITMF.LUNResetSimpleAsync asserts a
# variable that AbortTaskSimpleAsync sets): each of their tests takes its result from a run of the whole suite
WHOLE = {"iSCSITMF"}


def main():
    options = arguments()
    allowed = read_skips(options.skips)
    names = [name for name in fnmatch.filter(listed(), options.only) if not fnmatch.fnmatch(name, options.without)]
    if not names:
        sys.exit(f"{TOOL} --list names no such test")
    begin, count = time.monotonic(), {"PASS": 0, "FAIL": 0, "SKIP": 0}
    for name in names:
        verdict, why, seconds = judge(name, options)
        if verdict == "SKIP" and name not in allowed:
            verdict, why = "FAIL", "skipped, and not on the list of skips: " + why
        count[verdict] += 1
        reason = allowed.get(name, why) if verdict == "SKIP" else why
        print(f"{verdict} {name} {seconds:.1f} s{': ' if reason else ''}{reason}", flush=True)
    print(f"wall {time.monotonic() - begin:.0f} s")
    print(f"{count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped")
    return 1 if count["FAIL"] else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skips", metavar="FILE")
    parser.add_argument("--only", default="*", metavar="GLOB", help="only these tests (Suite.Test)")
    parser.add_argument("--except", dest="without", default="", metavar="GLOB", help="none of these")
    parser.add_argument("--seconds", type=float, default=150, help="limit of one test (150)")
    parser.add_argument("urls", nargs="+", metavar="URL", help="iscsi://HOST:PORT/TARGET/LUN")
    return parser.parse_args()


def read_skips(path):
    lines = open(path).read().splitlines() if path else []
    return dict(line.split(None, 1) for line in lines if line.strip() and not line.startswith("#"))


def listed():
    """Every test as "Suite.Test"; the tool's list has the families above them as well."""
    said = subprocess.run([TOOL, "--list"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
    found = re.findall(r"^\s*ALL\.([\w-]+\.[\w-]+)\s*$", said, re.M)
    return list(dict.fromkeys(found))


def judge(name, options):
    """The verdict of the first LUN that does not skip it; a failure's output goes to standard error."""
    reasons = []
    for url in options.urls:
        verdict, why, seconds, said = run(name, url, options.seconds)
        if verdict == "FAIL":
            print(f"--- {name} on {url}\n{said}---", file=sys.stderr, flush=True)
        if verdict != "SKIP":
            return verdict, why, seconds
        reasons.append(why)
    return "SKIP", reasons[0], seconds


def run(name, url, limit):
    suite, test = name.split(".")
    wanted = "ALL." + (suite if suite in WHOLE else name)
    command = [TOOL, "--dataloss", "--allow-sanitize", "--ignore", "-v", "--test", wanted, url, url]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        said, status = communicate(command, folder, limit)
    verdict, why = read_verdict(test, said, status)
    return verdict, why, time.monotonic() - begin, said


def communicate(command, folder, limit):
    """All it said, and its exit status: None when it ran out of time."""
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    try:
        said, status = process.communicate(timeout=limit)[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own group alone
        said, status = process.communicate()[0], None
    return said.decode("latin-1"), status


def read_verdict(test, said, status):
    """Reads what follows the test's heading: before it the tool speaks of its own start, and may say SKIPPED there."""
    found = re.search(rf"^  Test: {re.escape(test)} \.\.\.(.*?)(?=^  Test: |^Run Summary:|\Z)", said, re.M | re.S)
    body = found.group(1) if found else ""
    complaints = re.findall(r"\[FAILED\][^\n]*|^\s+\d+\. \S[^\n]*", body, re.M)  # also of a test's tidying up
    skips = re.findall(r"\[SKIPPED\][^\n]*", body)
    if status is None:
        return "FAIL", "no end in its time " + first(complaints + skips)
    if not found or not re.search(r"^Run Summary:", said, re.M):
        return "FAIL", f"ended with {status} before its summary: {last_line(said)}"
    # CUnit's word, which the test's own tidying up may follow on the same line
    if re.search(r"(?<!\[)FAILED", body) or "passed" not in body:
        return "FAIL", first(complaints) or last_line(body)
    return ("SKIP", first(skips)) if skips else ("PASS", "")


def first(lines):
    return lines[0].strip() if lines else ""


def last_line(text):
    return first([line for line in reversed(text.splitlines()) if line.strip()])


sys.exit(main())
