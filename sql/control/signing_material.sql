-- What the proxy needs in order to sign tenant contexts.
select
    key,
    bind_process_id
from
    cloison.signing_material();
