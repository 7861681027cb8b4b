-- What is revoked now.
select
    r.kind,
    r.value,
    r.issuer,
    r.until
from
    cloison.current_revocations() r;
