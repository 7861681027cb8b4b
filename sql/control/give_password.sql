-- What gives a role back the password that the proxy is configured with: for a superuser to run,
-- with both names put in.
alter role {role} login password '<pools.{pool}.password>';
