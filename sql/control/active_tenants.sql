-- Which of these tenants may be served.
select
    t.id
from
    cloison.tenants t
where
    t.id = any ($1)
    and t.status = 'active';
