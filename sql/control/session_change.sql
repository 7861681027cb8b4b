-- Whether a session may have to end: asked again and again, so it is one number.
select cloison.session_change();
