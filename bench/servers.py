"""Starts, pauses and ends a peer's server, and takes one measurement of it.

A server is stopped (SIGSTOP) except while the load generator visits it, so all peers of a workload
live at the same time and drift of the machine hits them alike.  Knows nothing of results."""
import json, os, re, resource, signal, statistics, subprocess, tempfile, time

from workloads import IDLE, W

HERE = os.path.dirname(os.path.abspath(__file__))
ENV = os.environ
ROUNDS, SLICES, SLICE = int(ENV.get('ROUNDS', 6)), ENV.get('SLICES', '6'), ENV.get('SLICE', '0.08')
SRV_CORE, LG_CORE = ENV.get('SRV_CORE', '0'), ENV.get('LG_CORE', '1')
BUILD = os.path.join(HERE, 'build')
LG = os.path.join(BUILD, 'loadgen')


def tree(pid):
    kids = {}
    for p in os.listdir('/proc'):
        if p.isdigit():
            try:
                s = open('/proc/%s/stat' % p).read()
                kids.setdefault(int(s[s.rindex(')') + 2 :].split()[1]), []).append(int(p))
            except OSError:
                pass
    out, todo = [], [pid]
    while todo:
        p = todo.pop()
        out.append(p)
        todo += kids.get(p, [])
    return out


def sched_ns(pids):
    s = 0
    for p in pids:
        try:
            for t in os.listdir('/proc/%d/task' % p):
                s += int(open('/proc/%d/task/%s/schedstat' % (p, t)).read().split()[0])
        except OSError:
            pass
    return s


class Unsupported(Exception):
    pass


class Server:
    port = 20100

    def __init__(self, peer, mode, unix, workload, tmp, cores=SRV_CORE, **more):
        self.dir, self.peer, self.mode = os.path.join(HERE, 'peers', peer), peer, mode
        run = os.path.join(self.dir, 'run')
        if not os.path.exists(run):
            raise Unsupported
        f = os.path.join(self.dir, 'preamble.' + mode)
        self.preamble = open(f).read() if os.path.exists(f) else None
        Server.port = 20101 if Server.port > 20900 else Server.port + 1
        self.addr = 'unix:%s/%s.sock' % (tmp, peer) if unix else '127.0.0.1:%d' % Server.port
        self.up = '127.0.0.1:%d' % (Server.port + 1000)
        env = dict(
            ENV,
            BENCH_BUILD=BUILD,
            BENCH_TMP=tmp,
            BENCH_WORKLOAD=workload,
            BENCH_CERT=tmp + '/cert.pem',
            BENCH_KEY=tmp + '/key.pem',
            **more
        )
        self.log = open(os.path.join(tmp, peer + '.log'), 'w+')
        self.p = subprocess.Popen(
            ['taskset', '-c', cores, run, mode, self.addr, self.up],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        self.stopped = False
        try:
            self.wait_up()
        except Exception:
            self.stop()
            raise

    def wait_up(self):
        end = time.time() + 10
        while time.time() < end:
            rc = self.p.poll()
            if rc in (77, 126, 127):
                raise Unsupported
            if rc is not None:
                raise RuntimeError('server exited with %s: %s' % (rc, self.output()))
            if self.mode.startswith('udp'):
                h = '%04X' % int(self.addr.rsplit(':', 1)[1])
                if any(
                    l.split()[1].endswith(':' + h) for l in open('/proc/net/udp').readlines()[1:]
                ):
                    break
                time.sleep(0.05)
            elif subprocess.call([LG, 'probe', '-d', '0.3', self.addr]) == 0:
                break
        time.sleep(0.15)
        if self.p.poll() is not None:
            return self.wait_up()
        if time.time() > end:
            raise RuntimeError('server does not come up: ' + self.output())
        self.pids = tree(self.p.pid)

    def output(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()[-400:]

    def signal(self, sig):
        for p in self.pids:
            try:
                os.kill(p, sig)
            except OSError:
                pass

    def pause(self):
        self.signal(signal.SIGSTOP)
        self.stopped = True

    def resume(self):
        if self.stopped:
            self.signal(signal.SIGCONT)
            self.stopped = False

    def stop(self):
        if self.p.poll() is None:
            pids = tree(self.p.pid)
            if self.stopped:
                self.resume()
            for sig, wait in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 2)):
                self.p.send_signal(sig)
                try:
                    self.p.wait(wait)
                    break
                except subprocess.TimeoutExpired:
                    pass
            for p in pids[1:]:  # its children, should they outlive it
                try:
                    if open('/proc/%d/stat' % p).read():
                        time.sleep(0.05)
                        os.kill(p, signal.SIGKILL)
                except OSError:
                    pass
        self.log.close()


def cal(n=1):
    """[server core ns, own core ns] of the calibration loop, medians of n"""
    v = json.loads(
        subprocess.check_output(
            ['taskset', '-c', LG_CORE, LG, 'cal', '-x', SRV_CORE + ',' + LG_CORE, '-r', str(n)]
        )
    )
    return [statistics.median(v[0::2]), statistics.median(v[1::2])]


def wrk(srv):
    a = cal()
    c0, t0 = sched_ns(srv.pids), time.time()
    o = subprocess.run(
        [
            'taskset',
            '-c',
            LG_CORE,
            'wrk',
            '-t1',
            '-c64',
            '-d1s',
            '--latency',
            'http://%s/' % srv.addr,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    dc, b = (sched_ns(srv.pids) - c0) / 1e9, cal()
    m = re.search(r'(\d+) requests in ([\d.]+)s', o)
    if not m or 'Non-2xx' in o:
        raise RuntimeError('wrk: ' + o[-300:])
    n, dt = int(m.group(1)), float(m.group(2))

    def lat(p):
        x = re.search(r'%s%%\s+([\d.]+)(us|ms|s)' % p, o)
        return float(x.group(1)) * {'us': 1, 'ms': 1e3, 's': 1e6}[x.group(2)] if x else 0

    return dict(
        mode='wrk',
        slices=[
            dict(
                ops_s=n / dt,
                srv_us_op=dc * 1e6 / n,
                srv_util=dc / dt,
                cli_util=0,
                p50_us=lat(50),
                p99_us=lat(99),
                cal=[a[0], b[0], a[1], b[1]],
                steal=0,
            )
        ],
    )


def held_idle():
    """How many connections c100k holds: 100 000 if the limit of open files, which children inherit,
    is as high or can be raised, else what it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 110000:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, 110000))
        except (ValueError, OSError):
            return hard - 1000
    return 100000


def visit(workload, srv, rnd):
    args = W[workload][1].split()
    if args[0] == 'wrk':
        return wrk(srv)
    warm = '0.8' if rnd == 0 or workload in IDLE else '0.08'
    cmd = ['taskset', '-c', LG_CORE, LG] + [a.format(up=srv.up, idle=held_idle()) for a in args]
    cmd += [
        '-r',
        SLICES,
        '-d',
        SLICE,
        '-w',
        warm,
        '-x',
        SRV_CORE + ',' + LG_CORE,
        '-k',
        ','.join(map(str, srv.pids)),
    ]
    if srv.preamble:
        cmd += ['-H', srv.preamble]
    p = subprocess.run(cmd + [srv.addr], capture_output=True, text=True, timeout=120)
    if p.returncode:
        raise RuntimeError(
            p.stderr.strip()[-300:] + (' | server: ' + srv.output() if srv.output() else '')
        )
    return json.loads(p.stdout)


def both_idle(patience=10):
    """Waits until both cores had nothing to do for a tenth of a second, at most so many seconds."""

    def idle():
        rows = [l.split() for l in open('/proc/stat') if re.match(r'cpu\d', l)]
        return sum(int(r[4]) for r in rows if r[0][3:] in (SRV_CORE, LG_CORE))

    end = time.time() + patience
    while time.time() < end:
        before, t = idle(), time.time()
        time.sleep(0.1)
        if idle() - before > 1.8 * (time.time() - t) * os.sysconf('SC_CLK_TCK'):
            return


def scale_up(workload, peer, tmp):
    """One worker and two on the same two cores, in alternating slices; the load generator takes a
    few per cent of either.  Wall clock: other work on the machine falsifies the ratio, so what the
    servers got of the cores is kept beside it."""
    live = []
    try:
        for n in ('1', '2'):
            both = SRV_CORE + ',' + LG_CORE
            live.append(Server(peer, W[workload][0], 0, workload, tmp, cores=both, WORKERS=n))
            live[-1].pause()
        for rnd in range(ROUNDS):
            rec = {}
            for s, name in zip(live, ('one', 'two')):
                both_idle()
                s.resume()
                cmd = [LG] + W[workload][1].split() + ['-d', '0.3', '-w', '0.05']
                cmd += ['-k', ','.join(map(str, s.pids)), s.addr]
                p = subprocess.run(cmd, capture_output=True, text=True, timeout=30)
                if p.returncode:
                    raise RuntimeError(p.stderr.strip()[-300:])
                r = json.loads(p.stdout)
                s.pause()
                rec[name], rec['cores_' + name] = r['ops_s'], r['srv_util']
            yield rnd, rec
    finally:
        for s in live:
            s.stop()


def micro(workload, peer):
    mode, test = W[workload][:2]
    run = os.path.join(HERE, 'peers', peer, 'run')
    if not os.path.exists(run):
        raise Unsupported
    cmd = (
        ['taskset', '-c', SRV_CORE, run, 'micro', test]
        if mode == 'micro'
        else [run, mode, '127.0.0.1:1']
    )
    a = cal()
    p = subprocess.run(
        cmd, env=dict(ENV, BENCH_BUILD=BUILD, D='0.4'), capture_output=True, text=True, timeout=40
    )
    b = cal()
    if p.returncode in (77, 126, 127):
        raise Unsupported
    try:
        r = json.loads(p.stdout.strip().splitlines()[-1])
    except Exception:
        raise RuntimeError('rc %d: %s %s' % (p.returncode, p.stdout[-200:], p.stderr[-300:]))
    r['cal'] = [a[0], b[0], a[1], b[1]]
    return r
