"""Runs ranks on hosts that are network namespaces of this machine, launched by Open MPI's own agent, over a network whose speed is
limited where the kernel allows it; lets a host vanish and continues. Needs root, iproute2 and Open MPI.

hosts.py TOOLS MODEL CALIBRATION [OPTION ...]
"""

import hashlib, os, re, shutil, subprocess, sys, tempfile, time

tools, model, calibration = sys.argv[1:4]
options = sys.argv[4:] or ["--samples", "32", "--sequence-length", "256"]
scratch = tempfile.mkdtemp()
HOSTS = 4
NAME = f"zn{os.getpid() % 10000}"
LIMIT = 30
failures = []


def check(holds, what):
    print(("ok      " if holds else "FAILED  ") + what, flush=True)
    if not holds:
        failures.append(what)


def sh(*command, must=True):
    return subprocess.run(command, check=must, capture_output=True, text=True)


def host(number):
    return f"{NAME}-{number}"


def set_up():
    sh("ip", "link", "add", NAME, "type", "bridge")
    sh("ip", "link", "set", NAME, "up")
    for number in range(1, HOSTS + 1):
        sh("ip", "netns", "add", host(number))
        sh("ip", "link", "add", f"{NAME}v{number}", "type", "veth", "peer", "name", "eth0", "netns", host(number))
        sh("ip", "link", "set", f"{NAME}v{number}", "master", NAME, "up")
        inside = ["ip", "netns", "exec", host(number)]
        sh(*inside, "ip", "address", "add", f"10.99.0.{number}/24", "dev", "eth0")
        sh(*inside, "ip", "link", "set", "eth0", "up")
        sh(*inside, "ip", "link", "set", "lo", "up")
    # A host has a name of its own, as launchers tell hosts apart by it.
    agent = f"{scratch}/agent"
    with open(agent, "w") as file:
        file.write(f'#!/bin/sh\nhost="$1"; shift\nname={NAME}-"${{host##*.}}"\n'
                   'exec ip netns exec "$name" unshare --uts sh -c "hostname $name; $*"\n')
    os.chmod(agent, 0o755)
    return agent


def tear_down():
    for number in range(1, HOSTS + 1):
        sh("ip", "netns", "delete", host(number), must=False)
        sh("ip", "link", "delete", f"{NAME}v{number}", must=False)
    sh("ip", "link", "delete", NAME, must=False)


def limit(rate):
    """Limits what each host sends. Returns whether the kernel can."""
    done = True
    for number in range(1, HOSTS + 1):
        inside = ["ip", "netns", "exec", host(number), "tc", "qdisc"]
        sh(*inside, "delete", "dev", "eth0", "root", must=False)
        if rate:
            # With the delay of a switch, or else without one.
            kinds = [["netem", "rate", rate, "delay", "100us", "limit", "100000"],
                     ["tbf", "rate", rate, "burst", "256k", "latency", "50ms"]]
            done &= any(sh(*inside, "add", "dev", "eth0", "root", *kind, must=False).returncode == 0 for kind in kinds)
    return done


def quantize(output):
    return [os.path.join(tools, "zhinao-quantize"), model, "--calibration", calibration, *options, "--shards", "4",
            "--threads", "1", "-o", output]


def launch(ranks):
    hosts = ",".join(f"10.99.0.{number}:1" for number in range(1, ranks + 1))
    return ["ip", "netns", "exec", host(1), "unshare", "--uts", "sh", "-c", f'hostname {host(1)}; exec "$@"', "sh",
            "mpirun.openmpi", "--allow-run-as-root", "--bind-to", "none", "--host", hosts, "-n", str(ranks),
            "--mca", "plm_rsh_agent", agent, "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "10.99.0.0/24",
            "--mca", "oob_tcp_if_include", "10.99.0.0/24", "--mca", "pml", "ob1"]


def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


try:
    agent = set_up()
    whole = f"{scratch}/whole.zhinao"
    subprocess.run(quantize(whole), check=True, capture_output=True)
    for rate in ["", "1gbit", "10gbit"]:
        if not limit(rate):
            print(f"skipped  {rate}: this kernel does not limit the speed of a network")
            continue
        for ranks in [2, 4]:
            output = f"{scratch}/{ranks}{rate}.zhinao"
            start = time.time()
            result = subprocess.run(launch(ranks) + quantize(output), capture_output=True, text=True, timeout=600)
            plan = re.search(r"each of .*", result.stderr)
            check(result.returncode == 0 and digest(output) == digest(whole),
                  f"{ranks} hosts {rate or 'without a limit'}: the file of one process, {time.time() - start:.1f} s; "
                  + (plan.group(0) if plan else result.stderr[-1000:]))
    limit("")

    # A host whose network is gone: nothing closes its connections.
    output = f"{scratch}/vanished.zhinao"
    process = subprocess.Popen(launch(3) + quantize(output) + ["--preset", "best"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not os.path.exists(output + ".partial"):
        time.sleep(0.1)
    time.sleep(1)
    sh("ip", "link", "set", f"{NAME}v3", "down")
    began, text = time.time(), ""
    while time.time() - began < LIMIT and "has not answered" not in text:
        line = process.stderr.readline()
        if not line:
            break
        text += line
    check(f"rank 2 on {host(3)} has not answered" in text,
          f"a vanished host is named after {time.time() - began:.1f} s")
    # The launcher waits for its own agent on the host that is gone.
    try:
        process.wait(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
    subprocess.run(quantize(f"{scratch}/best.zhinao") + ["--preset", "best"], check=True, capture_output=True)
    subprocess.run(quantize(output) + ["--preset", "best"], check=True, capture_output=True)
    check(digest(output) == digest(f"{scratch}/best.zhinao"), "one process finishes what the three hosts began")
finally:
    tear_down()
    shutil.rmtree(scratch)
print("FAILED" if failures else "all as expected")
sys.exit(1 if failures else 0)
