alter table notes add column stars integer not null default 0;
update notes set stars = length(body);
create table tags (
    id serial primary key,
    note_id integer not null references notes,
    word text not null
);
insert into tags (note_id, word) select id, 'old' from notes;
