-- The tenant that a token names. One of the three parameters is given, the others are null.
select
    id,
    status
from
    cloison.tenants
where
    id = $1::uuid
    or slug = $2::text
    or external_key = $3::text;
