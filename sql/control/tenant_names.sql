-- What a tenant is called besides its id.
select
    slug,
    external_key
from
    cloison.tenants
where
    id = $1::uuid;
