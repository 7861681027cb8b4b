-- The server lacks fixes for known holes
-- warning
--
-- A tenant with SQL of its own is inside Postgres' attack surface, and isolation ends where the
-- server does. Only minor releases that close a hole are listed, with those of their CVEs that the
-- sources at hand name; there may be more.
with
server (version) as (
    select current_setting('server_version_num')::integer
),
releases (major, minor, cves) as (values
    (14, 7, 'CVE-2022-41862'),
    (14, 8, 'CVE-2023-2454, CVE-2023-2455'),
    (14, 10, 'CVE-2023-5868, CVE-2023-5869, CVE-2023-5870'),
    (14, 18, 'CVE-2025-4207'),
    (14, 19, 'CVE-2025-8713, CVE-2025-8714, CVE-2025-8715'),
    (14, 21, 'CVE-2026-2003, CVE-2026-2004, CVE-2026-2005, CVE-2026-2006'),
    (14, 23, 'CVE-2026-6472, CVE-2026-6473, CVE-2026-6474, CVE-2026-6475, CVE-2026-6477, '
        'CVE-2026-6478, CVE-2026-6479, CVE-2026-6637'),
    (14, 24, 'CVE-2026-14671, CVE-2026-14680'),
    (14, 25, 'CVE-2026-6460, CVE-2026-120141'),
    (15, 2, 'CVE-2022-41862'),
    (15, 3, 'CVE-2023-2454, CVE-2023-2455'),
    (15, 5, 'CVE-2023-5868, CVE-2023-5869, CVE-2023-5870'),
    (15, 13, 'CVE-2025-4207'),
    (15, 14, 'CVE-2025-8713, CVE-2025-8714, CVE-2025-8715'),
    (15, 16, 'CVE-2026-2003, CVE-2026-2004, CVE-2026-2005, CVE-2026-2006'),
    (15, 18, 'CVE-2026-6472, CVE-2026-6473, CVE-2026-6474, CVE-2026-6475, CVE-2026-6477, '
        'CVE-2026-6478, CVE-2026-6479, CVE-2026-6637'),
    (15, 19, 'CVE-2026-14680'),
    (15, 20, 'CVE-2026-6460, CVE-2026-120141'),
    (16, 1, 'CVE-2023-5868, CVE-2023-5869, CVE-2023-5870'),
    (16, 9, 'CVE-2025-4207'),
    (16, 10, 'CVE-2025-8713, CVE-2025-8714, CVE-2025-8715'),
    (16, 12, 'CVE-2026-2003, CVE-2026-2004, CVE-2026-2005, CVE-2026-2006'),
    (16, 14, 'CVE-2026-6472, CVE-2026-6473, CVE-2026-6474, CVE-2026-6475, CVE-2026-6477, '
        'CVE-2026-6478, CVE-2026-6479, CVE-2026-6637, CVE-2026-6638'),
    (16, 15, 'CVE-2026-14680'),
    (16, 16, 'CVE-2026-6460, CVE-2026-120141'),
    (17, 5, 'CVE-2025-4207'),
    (17, 6, 'CVE-2025-8713, CVE-2025-8714, CVE-2025-8715'),
    (17, 7, 'CVE-2025-12817, CVE-2025-12818'),
    (17, 8, 'CVE-2026-2003, CVE-2026-2004, CVE-2026-2005, CVE-2026-2006'),
    (17, 10, 'CVE-2026-6472, CVE-2026-6473, CVE-2026-6474, CVE-2026-6475, CVE-2026-6476, '
        'CVE-2026-6477, CVE-2026-6478, CVE-2026-6479, CVE-2026-6637, CVE-2026-6638'),
    (17, 11, 'CVE-2026-14680'),
    (17, 12, 'CVE-2026-6460, CVE-2026-120141'),
    (18, 1, 'CVE-2025-12817, CVE-2025-12818'),
    (18, 2, 'CVE-2026-2003, CVE-2026-2004, CVE-2026-2005, CVE-2026-2006'),
    (18, 4, 'CVE-2026-6472, CVE-2026-6473, CVE-2026-6474, CVE-2026-6475, CVE-2026-6476, '
        'CVE-2026-6477, CVE-2026-6478, CVE-2026-6479, CVE-2026-6637, CVE-2026-6638'),
    (18, 6, 'CVE-2026-14680'),
    (18, 7, 'CVE-2026-6460, CVE-2026-120141')
),
verdict (object, code, detail) as (
    select format('%s.%s', s.version / 10000, s.version % 10000),
        max(format('%s.%s', r.major, r.minor)) filter (where r.minor = n.newest),
        format('Postgres %s.%s leaves open: %s. Install %s.%s or newer, and restart',
            s.version / 10000, s.version % 10000,
            string_agg(r.cves, ', ' order by r.minor desc), s.version / 10000, n.newest)
    from server s
        join releases r
            on r.major = s.version / 10000 and r.minor > s.version % 10000
        join (select major, max(minor) from releases group by major) n (major, newest)
            on n.major = s.version / 10000
    group by s.version, n.newest
    union all
    select (s.version / 10000)::text, 'unknown',
        format('Postgres %s is newer than this list, which ends with 18: look its fixes up at '
            'https://www.postgresql.org/support/security/, and update cloison', s.version / 10000)
    from server s
    where s.version / 10000 > (select max(major) from releases)
    union all
    select (s.version / 10000)::text, 'end-of-life',
        format('Postgres %s has had no more fixes since 2026-11-12: move to a newer one',
            s.version / 10000)
    from server s
    where s.version < 150000 and current_date > date '2026-11-12'
)
select
    'server_outdated' as name,
    'warning' as level,
    'Postgres ' || v.object as object,
    v.detail,
    null::text as fix,
    format('server_outdated:%s:%s', v.object, v.code) as key
from
    verdict v
