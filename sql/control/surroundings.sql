-- What a statement of a login role can run that its text does not show: one row.
select
    functions,
    vouched,
    implicit_code,
    blame,
    sequences,
    reads_statements
from
    cloison.surroundings($1::text::name, $2::text[]);
