-- What stands for the server process of this connection in all that is signed for it: asked once. A
-- statement_timeout that the connection was started with is not meant for this.
set local statement_timeout = 0;
select cloison.this_process();
