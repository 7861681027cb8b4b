-- Why a login role is not fit for its pool, and the SQL that mends it. No rows: it is fit.
select
    problem,
    fix
from
    cloison.role_findings($1::text::name, $2::text);
