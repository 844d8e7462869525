#!/usr/bin/env python3
"""Driver: the servers of all peers run at the same time, stopped (SIGSTOP) except
the one under test; the load generator visits them in turn (A B C, A B C, ...)
and takes a few short slices at each visit.  Prints one table per workload.

Environment
  ROUNDS=6 SLICES=6 SLICE=0.08   visits, slices per visit, seconds per slice
  SRV_CORE=0 LG_CORE=1           where the server and the load generator run
  OUT=results/run.jsonl          every measurement is appended here
  MERGE=1                        report, publish: all runs in the file, not the newest
  BENCH_BUILT=1                  build/ is there: do not build it again
  NEAP=/path/to/neap ECO=/path/to/eco BENCH_COPAS=dir   see peers/*/run
"""
import json, os, shutil, subprocess, sys, tempfile, time

from publish import publish
from report import base_of, load, table
from servers import BUILD, ENV, HERE, ROUNDS, Server, Unsupported, micro, scale_up, visit
from workloads import HEADLINE, HEADLINE_PEERS, IDLE, PEERS, W

OUT = os.path.abspath(ENV.get('OUT', os.path.join(HERE, 'results', 'run.jsonl')))


def visits(w, peer):
    """How often a server is filled with idle connections: memory hardly varies; a latency does."""
    return 1 if w == 'c100k' else 5 if peer == 'neap' else 2


def run_workload(w, peers, tmp, emit):
    res, live = {}, {}

    def fail(p, e):
        if not isinstance(e, Unsupported):
            print('%s %s: %s' % (w, p, e), file=sys.stderr, flush=True)
        live.pop(p, None)

    if W[w][0] == 'micro' or W[w][1] is None:
        live = {p: None for p in peers}
        for rnd in range(
            2 if w in ('micro-mem', 'fdpair') else 3 if w == 'micro-sleepers' else ROUNDS
        ):
            for p in list(live):
                try:
                    emit(res, w, p, rnd, micro(w, p))
                except (Unsupported, RuntimeError, subprocess.TimeoutExpired) as e:
                    fail(p, e)
        return res
    if w == 'workers':
        for p in peers:
            try:
                for rnd, r in scale_up(w, p, tmp):
                    emit(res, w, p, rnd, r)
            except (Unsupported, RuntimeError, subprocess.TimeoutExpired) as e:
                fail(p, e)
        return res
    fresh, again = w in IDLE, set()
    try:
        for p in peers:
            try:
                live[p] = s = Server(p, W[w][0], W[w][2], w, tmp)
                s.pause()
            except (Unsupported, RuntimeError) as e:
                fail(p, e)
            if fresh and p in live:
                live[p].stop()
        for rnd in range(5 if fresh else ROUNDS):
            for p in list(live):
                if fresh and rnd >= visits(w, p):
                    continue
                s = live[p]
                try:
                    if fresh:
                        live[p] = s = Server(p, W[w][0], W[w][2], w, tmp)
                    s.resume()
                    emit(res, w, p, rnd, visit(w, s, rnd))
                except (RuntimeError, subprocess.TimeoutExpired) as e:
                    s.stop()
                    if p not in again and not fresh:  # once more with a new server
                        again.add(p)
                        try:
                            live[p] = Server(p, W[w][0], W[w][2], w, tmp)
                            live[p].pause()
                            print(
                                '%s %s: started again after: %s' % (w, p, e),
                                file=sys.stderr,
                                flush=True,
                            )
                            continue
                        except (Unsupported, RuntimeError):
                            pass
                    fail(p, e)
                    continue
                if fresh:
                    s.stop()
                else:
                    s.pause()
    finally:
        for s in live.values():
            s.stop()
    return res


def build(quiet):
    os.makedirs(BUILD, exist_ok=True)
    subprocess.check_call(['make', '-s', '-C', os.path.join(HERE, 'loadgen'), 'OUT=' + BUILD])
    for p in sorted(os.listdir(os.path.join(HERE, 'peers'))):
        b = os.path.join(HERE, 'peers', p, 'build')
        if os.path.exists(b) and subprocess.call(
            [b, BUILD], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL if quiet else None
        ):
            print('build of %s failed' % p, file=sys.stderr)


def main():
    a = sys.argv[1:]
    if not a or a[0] in ('-h', '--help', 'list'):
        print(__doc__)
        for k, w in W.items():
            print('  %-16s %s' % (k, w[4]))
        print('\npeers: ' + ' '.join(PEERS))
        return
    if a[0] in ('report', 'publish'):
        res = load(a[1:] or [OUT])
        base = base_of([r for ps in res.values() for rs in ps.values() for r in rs])
        if a[0] == 'publish':
            publish(res, base)
            return
        print('Reference speed: calibration loop at %.0f ns.' % base)
        print('\n'.join(table(w, res[w], base) for w in W if w in res))
        return
    if not ENV.get('BENCH_BUILT'):
        build(quiet=a[0] != 'build')
    if a[0] == 'build':
        return
    head = a[0] == 'headline'
    names = list(W) if a[0] == 'all' else HEADLINE if head else a[0].split(',')
    peers = a[1:] or (HEADLINE_PEERS if head else PEERS)
    for n in names:
        if n not in W:
            sys.exit('unknown workload %s, see ./run.sh list' % n)
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    old = [json.loads(l) for l in open(OUT)] if os.path.exists(OUT) else []
    run, recs = time.strftime('%Y%m%d-%H%M%S'), old
    tmp = tempfile.mkdtemp(prefix='bench.')
    subprocess.run(
        [
            'openssl',
            'req',
            '-x509',
            '-newkey',
            'ec',
            '-pkeyopt',
            'ec_paramgen_curve:prime256v1',
            '-nodes',
            '-days',
            '2',
            '-subj',
            '/CN=localhost',
            '-keyout',
            tmp + '/key.pem',
            '-out',
            tmp + '/cert.pem',
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )

    def emit(res, w, p, rnd, r):
        r.update(workload=w, peer=p, round=rnd, run=run)
        res.setdefault(p, []).append(r)
        recs.append(r)
        with open(OUT, 'a') as f:
            f.write(json.dumps(r) + '\n')

    try:
        for w in names:
            print(table(w, run_workload(w, peers, tmp, emit), base_of(recs)), flush=True)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


if __name__ == '__main__':
    main()
