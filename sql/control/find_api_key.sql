-- What an API key opens, by its SHA-256; no row if it opens nothing.
select
    id,
    tenant_id,
    expires_at
from
    cloison.find_api_key($1::bytea);
