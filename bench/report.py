"""What the raw results say: medians over undisturbed slices, ratios to the reference, tables."""
import json, os, statistics

from workloads import IDLE, LOWER, MREF, REF, W

ENV = os.environ


def med(v):
    v = [x for x in v if x is not None]
    return statistics.median(v) if v else None


def quant(v, q):
    v = sorted(v)
    return v[min(len(v) - 1, int(q * len(v)))] if v else None


def fmt(x):
    if x is None:
        return '-'
    for lim, div, f in (
        (1e7, 1e6, '%.1fM'),
        (1e6, 1e6, '%.2fM'),
        (1e5, 1e3, '%.0fk'),
        (1e4, 1e3, '%.1fk'),
    ):
        if abs(x) >= lim:
            return f % (x / div)
    return '%.0f' % x if abs(x) >= 100 else '%.1f' % x if abs(x) >= 10 else '%.2f' % x


def base_of(recs):
    """the calibration of an undisturbed core: fifth percentile of all"""
    c = [x for r in recs for s in r.get('slices', [r]) for x in s.get('cal', []) if x]
    return quant(c, 0.05) or 1.0


def pick(slices, base):
    """the slices worth looking at: no stolen time, constant speed, at best both cores
    undisturbed; of those the half in which the server was busiest (a server that
    has to wait for the client handles smaller batches and sleeps in between, which
    costs it more per operation)"""
    ok = [s for s in slices if s['steal'] <= 1 and max(s['cal'][:2]) < 1.12 * min(s['cal'][:2])]
    b = [s for s in ok if max(s['cal'][:2]) < 1.25 * base]
    a = [s for s in b if max(s['cal'][2:]) < 1.25 * base]
    for c in (a, b, ok):
        if len(c) >= 4:
            break
    else:
        c = sorted(slices, key=lambda s: (s['steal'], max(s['cal'][:2]) / min(s['cal'][:2])))[:4]
    c = sorted(c, key=lambda s: -s['srv_util'])
    return c[: max(4, (len(c) + 1) // 2)]


def summary(workload, recs, base):
    """one peer's measurements -> dict"""
    mode, args, unix, unit, what = W[workload]
    if mode == 'micro' or args is None:
        keys = {'micro-mem': 'bytes', 'micro-stop': 'stop_us', 'micro-sleepers': 'capacity_s'}
        key = keys.get(workload, 'ops_s')
        if workload in LOWER:
            v = [r[key] for r in recs]
        else:
            st = [r for r in recs if max(r['cal'][:2]) < 1.15 * min(r['cal'][:2])] or recs
            v = [r[key] * (r['cal'][0] + r['cal'][1]) / 2 / base for r in st]
        return dict(
            m=med(v), lo=min(v), hi=max(v), n=len(v), ops=med([r.get('ops_s') for r in recs])
        )
    if workload == 'workers':
        ok = [r for r in recs if r['cores_one'] > 0.9 and r['cores_two'] > 1.7] or recs
        v = [r['two'] / r['one'] for r in ok]
        more = {k: med([r[k] for r in ok]) for k in ('two', 'cores_one', 'cores_two')}
        return dict(m=med(v), lo=min(v), hi=max(v), n=len(v), **more)
    sl = [s for r in recs for s in r['slices']]
    per = 'srv_us_mb' if unit == 'MB' else 'srv_us_op'
    rate = 'mb_s' if unit == 'MB' else 'ops_s'
    sel = [s for s in pick(sl, base) if s[per] > 0]
    cost = [s[per] * base / ((s['cal'][0] + s['cal'][1]) / 2) for s in sel]
    c = med(cost)
    d = dict(
        cost=c,
        m=1e6 / c if c else None,
        lo=quant(cost, 0.25),
        hi=quant(cost, 0.75),
        n=len(sel),
        all=len(sl),
        best=quant([s[rate] for s in sl], 0.9),
        p50=quant([s['p50_us'] for s in sl if s['p50_us']], 0.1),
        p99=quant([s['p99_us'] for s in sl if s['p99_us']], 0.1),
        p999=quant([s['p999_us'] for s in sl if s.get('p999_us')], 0.1),
        su=med([s['srv_util'] for s in sel]),
        cu=med([s['cli_util'] for s in sel]),
    )
    if workload in IDLE and 'held_p50_us' in recs[0]:
        d['held_p50'] = med([r['held_p50_us'] / r['empty_p50_us'] for r in recs])
        d['held_p99'] = med([r['held_p99_us'] - r['empty_p99_us'] for r in recs])
    if workload in IDLE:
        for name, field in (('rss', 'rss_b_conn'), ('first', 'first_us'), ('last', 'last_us')):
            d[name] = med([r.get(field) for r in recs])
        d['idle'] = recs[0]['idle']
    return d


def scale_table(rows, out):
    out += [
        '| peer | x | range | requests/s | cores used | by one |',
        '|---|---:|---:|---:|---:|---:|',
    ]
    for p, d in rows:
        c = (p, d['m'], d['lo'], d['hi'], fmt(d['two']), d['cores_two'], d['cores_one'])
        out.append('| %s | %.2f | %.2f-%.2f | %s | %.2f | %.2f |' % c)
    return '\n'.join(out)


def table(workload, res, base):
    mode, args, unix, unit, what = W[workload]
    ismicro = mode == 'micro' or args is None
    rows = [(p, summary(workload, r, base)) for p, r in res.items()]
    ref = dict(rows).get(MREF if ismicro else REF)
    out = ['', '### %s - %s' % (workload, what), '']
    if workload == 'workers':
        return scale_table(rows, out)
    if ismicro:
        rows.sort(key=lambda x: x[1]['m'], reverse=workload not in LOWER)
        slp = workload == 'micro-sleepers'
        out += [
            '| peer | %s | x %s | range |%s'
            % (unit, MREF, ' us/wake-up | wake-ups/s (of 100 k) |' if slp else ''),
            '|---|---:|---:|---:|' + '---:|---:|' * slp,
        ]
        for p, d in rows:
            e = ' %.2f | %s |' % (1e6 / d['m'], fmt(d['ops'])) if slp else ''
            out.append(
                '| %s | %s | %s | %s-%s |%s'
                % (
                    p,
                    fmt(d['m']),
                    '%.2f' % (d['m'] / ref['m']) if ref else '-',
                    fmt(d['lo']),
                    fmt(d['hi']),
                    e,
                )
            )
        return '\n'.join(out)
    idle = workload in IDLE
    rows.sort(key=lambda x: x[1]['rss'] if idle else x[1]['cost'] or 1e9)
    u = 'req' if idle else unit
    head = (
        ['peer']
        + (
            ['idle', 'B/connection', 'p50 x empty', 'p99 - empty us', 'accept us', 'at the end']
            if idle
            else []
        )
        + [
            '%s per CPU s' % u,
            'x ' + REF,
            'CPU us/' + u,
            '+-',
            'seen ' + u + '/s',
            'p50 us',
            'p99 us',
            'p99.9 us',
            'server',
            'client',
        ]
    )
    out += ['| ' + ' | '.join(head) + ' |', '|---|' + '---:|' * (len(head) - 1)]
    for p, d in rows:
        if not d['cost']:
            continue
        held = ['%.2f' % d['held_p50'], '%+.0f' % d['held_p99']] if 'held_p50' in d else ['-', '-']
        accept = [fmt(d.get('first')), fmt(d.get('last'))]
        c = [p] + (['%d' % d['idle'], fmt(d['rss'])] + held + accept if idle else [])
        c += [
            fmt(d['m']),
            '%.2f' % (ref['cost'] / d['cost']) if ref else '-',
            fmt(d['cost']),
            '%.0f %%' % (50 * (d['hi'] - d['lo']) / d['cost']),
            fmt(d['best']),
            fmt(d['p50']),
            fmt(d['p99']),
            fmt(d['p999']),
            '%.0f %%' % (100 * d['su']),
            '%.0f %%' % (100 * d['cu']) if d['cu'] else '-',
        ]
        out.append('| ' + ' | '.join(c) + ' |')
    return '\n'.join(out)


def load(paths):
    """newest run of each workload and peer; with MERGE=1 all of them"""
    best = {}
    for path in paths:
        for l in open(path):
            r = json.loads(l)
            best.setdefault(r['workload'], {}).setdefault(r['peer'], {}).setdefault(
                r['run'], []
            ).append(r)
    if ENV.get('MERGE'):
        return {w: {p: sum(d.values(), []) for p, d in ps.items()} for w, ps in best.items()}
    return {w: {p: d[max(d)] for p, d in ps.items()} for w, ps in best.items()}
