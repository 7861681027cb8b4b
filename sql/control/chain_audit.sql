-- Gives records their places in the chain that have none yet.
select cloison.audit_chain();
